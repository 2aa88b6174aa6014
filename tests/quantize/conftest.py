"""Small networks with random weights, and noise to calibrate them with."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from calibrated import Calibrated, calibrate

from edgec.pipeline.network.models.spec import NetworkConfig, build_network

SIDE = 32


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Calibrated]:
    """By name: a narrow network of the registry on 32 px, batch norms shaken so that channels differ."""
    made: dict[str, Calibrated] = {}

    def get(name: str) -> Calibrated:
        if name not in made:
            made[name] = _make(name, tmp_path_factory.mktemp("network") / "model.onnx")
        return made[name]

    return get


def _make(name: str, path: Path) -> Calibrated:
    import torch

    from edgec.pipeline.network.export import export_onnx

    torch.manual_seed(5)
    module = build_network(NetworkConfig(name, width_multiplier=0.25, input_px=SIDE, num_classes=10))
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(part.weight, 0.5, 2.0)
            torch.nn.init.normal_(part.bias, 0.0, 0.5)
    images = np.random.default_rng(6).normal(0, 1, (12, 3, SIDE, SIDE)).astype(np.float32)
    with torch.no_grad():
        module.train()
        module(torch.from_numpy(images))
    export_onnx(module, SIDE, path)
    return calibrate(path, images)


@pytest.fixture
def model(tmp_path: Path, tiny_onnx: Path) -> Path:
    """``model.toml`` of the tiny network, with the preprocessing that its images want."""
    return _described(tiny_onnx, tmp_path)


@pytest.fixture
def crowded(tmp_path: Path, crowded_onnx: Path) -> Path:
    """The same of the network whose accuracy 8 bits cannot hold."""
    return _described(crowded_onnx, tmp_path)


def _described(network: Path, folder: Path) -> Path:
    shutil.copy(network, folder / "tiny.onnx")
    path = folder / "colours.toml"
    path.write_text(
        'onnx = "tiny.onnx"\nlabels = ["blue", "green", "red"]\n'
        "[preprocess]\nresize_px = 40\ncrop_px = 32\nmean = [127.5, 127.5, 127.5]\nstd = [127.5, 127.5, 127.5]\n"
    )
    return path
