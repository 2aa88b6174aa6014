"""Our networks against torchvision's and timm's, to 1e-4, with weights loaded under their names."""

from __future__ import annotations

import importlib.util
import json

import oracles
import pytest
import torch
from safetensors.torch import save_file

from edgec.pipeline.network import models
from edgec.pipeline.network.models import state_dict
from edgec.pipeline.network.models.checkpoint import read_checkpoint
from edgec.pipeline.network.models.spec import NetworkConfig, build_network

TOLERANCE = 1e-4
RECORDED = json.loads(oracles.RECORDED.read_text())


def _their_state(network: torch.nn.Module, table: dict[str, str], gain: float) -> dict[str, torch.Tensor]:
    """A state dict under the oracle's names, with the shapes that our network has for them."""
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    theirs = {ours: name for name, ours in table.items()}
    renamed = {}
    for name, shape in shapes.items():
        module, _, parameter = name.rpartition(".")
        renamed[f"{theirs[module]}.{parameter}"] = shape
    return oracles.reproducible(renamed, gain)


def _load(network: torch.nn.Module, state: dict[str, torch.Tensor], model: str, names: str, folder) -> None:
    """Through a file, as a user's weights come in."""
    file = folder / "oracle.safetensors"
    save_file(state, file)
    ours = state_dict.rename(read_checkpoint(file), models.get(model).conventions[names])
    state_dict.check(ours, network, str(file), model)
    network.load_state_dict(ours, strict=False)


@pytest.mark.parametrize("model", RECORDED)
def test_logits_equal_the_recorded_ones(model: str, tmp_path) -> None:
    names = oracles.ORACLES[model]
    network = build_network(NetworkConfig(model)).eval()
    state = _their_state(network, models.get(model).conventions[names], oracles.GAINS[model])
    _load(network, state, model, names, tmp_path)
    logits = oracles.logits(network, models.get(model).input_px)[:, : oracles.NUM_RECORDED]
    torch.testing.assert_close(logits, torch.tensor(RECORDED[model]), atol=TOLERANCE, rtol=0)


LIVE = [
    *((model, oracle, {}, 1.0, 128) for model, oracle in oracles.ORACLES.items()),
    ("mobilenetv1", "timm:mobilenetv1_100", {"num_classes": 10}, 1.0, 64),
    ("mobilenetv2", "torchvision:mobilenet_v2", {"width_mult": 0.35}, 0.35, 96),
    ("mobilenetv2", "torchvision:mobilenet_v2", {"width_mult": 1.4, "num_classes": 10}, 1.4, 64),
    ("mobilenetv3", "torchvision:mobilenet_v3_large", {"width_mult": 0.75}, 0.75, 96),
    ("mobilenetv3-small", "torchvision:mobilenet_v3_small", {"width_mult": 0.5, "num_classes": 10}, 0.5, 96),
]


@pytest.mark.parametrize(("model", "oracle", "options", "width", "input_px"), LIVE)
def test_logits_equal_the_installed_oracle(model, oracle, options, width, input_px, tmp_path) -> None:
    library = oracle.split(":")[0]
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed; the recorded logits are compared in its place")
    theirs = oracles.make(oracle, **options)
    shapes = {name: tuple(tensor.shape) for name, tensor in theirs.state_dict().items()}
    state = oracles.reproducible(shapes, oracles.GAINS[model])
    theirs.load_state_dict(state)
    config = NetworkConfig(model, width, input_px, options.get("num_classes", 1000))
    ours = build_network(config).eval()
    _load(ours, state, model, oracle, tmp_path)
    expected = oracles.logits(theirs, input_px)
    scale = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(oracles.logits(ours, input_px), expected, atol=TOLERANCE * scale, rtol=0)


@pytest.mark.parametrize(
    ("model", "epsilon", "momentum"),
    [
        ("mobilenetv1", 1e-5, 0.1),
        ("mobilenetv2", 1e-5, 0.1),
        ("mobilenetv3", 1e-3, 0.01),
        ("xception", 1e-5, 0.1),
        ("xception65", 1e-3, 0.1),
    ],
)
def test_batch_norm_trains_as_published(model: str, epsilon: float, momentum: float) -> None:
    """The logits cannot see momentum, and an epsilon only a little."""
    norms = [m for m in build_network(NetworkConfig(model)).modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(epsilon, momentum)}
