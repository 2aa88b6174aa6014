"""A small network, a small data set, and a store of one's own for every test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image
from tiny import TINY_PX, tiny_network

REAL = Path(__file__).resolve().parents[2] / "shared" / "real"
"""Real weights and photographs beside the repository; tests that need them skip where they are absent."""

COLOURS = {"blue": (30, 40, 200), "green": (40, 190, 50), "red": (210, 40, 30)}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test sees another's store, nor the user's."""
    monkeypatch.setenv("EDGEC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def tiny_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder per class: 8 noisy pictures of each of three colours."""
    root = tmp_path_factory.mktemp("colours")
    stream = np.random.default_rng(7)
    for name, colour in COLOURS.items():
        (root / name).mkdir()
        for index in range(8):
            pixels = np.asarray(colour) + stream.normal(0, 25, (TINY_PX + 8, TINY_PX + 8, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / name / f"{index}.png")
    return root


@pytest.fixture(scope="session")
def tiny_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Float network that tells blue, green and red apart: convolution, ReLU, depthwise, pool, Gemm."""
    path = tmp_path_factory.mktemp("tiny") / "tiny.onnx"
    onnx.save(tiny_network(), path)
    return path
