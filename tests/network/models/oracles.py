"""The definitions that ours are compared with, filled with the same reproducible weights.

``python tests/network/models/oracles.py`` writes ``oracle_logits.json`` again: the first logits of every definition, so
that the comparison also runs where torchvision and timm are not installed.
"""

from __future__ import annotations

import json
import zlib
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from edgec.pipeline.network import models

RECORDED = Path(__file__).parent / "oracle_logits.json"
NUM_RECORDED = 16
ORACLES = {name: next(iter(models.get(name).conventions)) for name in models.names() if models.get(name).conventions}
"""Each model's first naming convention is the definition that it is compared with."""

GAINS = defaultdict(lambda: 2.0, {"mobilenetv3": 1.5, "mobilenetv3-small": 1.8, "xception": 1.1, "xception65": 1.06})
"""Variance of the filled weights times their fan-in: keeps two images apart, and the logits near one."""


def make(oracle: str, **options: float) -> nn.Module:
    """The definition named ``library:function``, with the two operators that torchvision's Python files expect."""
    library, function = oracle.split(":")
    if not hasattr(torch.ops.torchvision, "nms"):
        fragment = torch.library.Library("torchvision", "FRAGMENT")
        for operator in ("nms", "qnms"):
            fragment.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        make.fragment = fragment  # type: ignore[attr-defined]  # dropped operators vanish with their library
    if library == "torchvision":
        import torchvision

        return getattr(torchvision.models, function)(**options).eval()
    import timm

    return timm.create_model(function, **options).eval()


def reproducible(shapes: Mapping[str, tuple[int, ...]], gain: float = 2.0) -> dict[str, Tensor]:
    """A state dict whose every tensor follows from its name; numpy's RandomState is frozen for good."""
    return {name: torch.from_numpy(_values(name, shape, gain)) for name, shape in shapes.items()}


def _values(name: str, shape: tuple[int, ...], gain: float) -> np.ndarray:
    random = np.random.RandomState(zlib.crc32(name.encode()))
    if name.endswith("num_batches_tracked"):
        return np.array(0)
    if name.endswith("running_var"):
        values = random.uniform(0.5, 1.5, shape)
    elif len(shape) > 1:
        values = random.standard_normal(shape) * np.sqrt(gain / np.prod(shape[1:]))
    elif name.endswith("weight"):
        values = random.uniform(0.8, 1.2, shape)
    else:
        values = random.standard_normal(shape) * 0.1
    return values.astype(np.float32)


def image(input_px: int) -> Tensor:
    """Two reproducible inputs ``(2, 3, input_px, input_px)``."""
    return torch.from_numpy(np.random.RandomState(7).standard_normal((2, 3, input_px, input_px)).astype(np.float32))


def logits(network: nn.Module, input_px: int) -> Tensor:
    with torch.no_grad():
        return network(image(input_px))


def record() -> None:
    recorded = {}
    for model, oracle in ORACLES.items():
        network = make(oracle)
        shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
        network.load_state_dict(reproducible(shapes, GAINS[model]))
        values = logits(network, models.get(model).input_px)
        recorded[model] = [[round(float(x), 6) for x in row[:NUM_RECORDED]] for row in values]
    RECORDED.write_text(json.dumps(recorded, indent=1) + "\n")


if __name__ == "__main__":
    record()
