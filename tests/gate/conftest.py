"""Bundles of the tiny network, built once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from edgec.pipeline.cli import main

MODEL = (
    'onnx = "tiny.onnx"\nlabels = ["blue", "green", "red"]\n'
    "[preprocess]\nresize_px = 40\ncrop_px = 32\nmean = [127.5, 127.5, 127.5]\nstd = [127.5, 127.5, 127.5]\n"
)

Build = Callable[[str], Path]


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory, tiny_onnx: Path, tiny_images: Path) -> Build:
    """Build the tiny network for a target, at most once, in a store of the session's own."""
    root = tmp_path_factory.mktemp("bundles")
    shutil.copy(tiny_onnx, root / "tiny.onnx")
    (root / "tiny.toml").write_text(MODEL)

    def built(target: str) -> Path:
        folder = root / target
        if not folder.exists():
            kept = os.environ.get("EDGEC_CACHE")
            os.environ["EDGEC_CACHE"] = str(root / "cache")
            arguments = ["build", root / "tiny.toml", "--target", target, "--data", tiny_images, "--output", folder]
            status = main([*map(str, arguments), "--threads", "1"])
            os.environ.pop("EDGEC_CACHE") if kept is None else os.environ.update(EDGEC_CACHE=kept)
            assert status == 0
        return folder

    return built


@pytest.fixture(scope="session")
def bundle(build: Build) -> Path:
    """For ONNX Runtime, which is always there."""
    return build("onnxruntime")
