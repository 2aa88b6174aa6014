"""Bundles of the tiny network, built once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from workers import Once

from edgec.pipeline.cli import main

Build = Callable[[str], Path]


@pytest.fixture(scope="session")
def build(
    tmp_path_factory: pytest.TempPathFactory, colours_toml: Path, tiny_images: Path, store_of_bundles: Path, once: Once
) -> Build:
    """Build the tiny network for a target, at most once, in the store of the session's other bundles."""
    root = tmp_path_factory.mktemp("bundles")
    shutil.copy(colours_toml.with_name("tiny.onnx"), root)
    shutil.copy(colours_toml, root / "tiny.toml")

    def built(target: str) -> Path:
        def fill(folder: Path) -> None:
            arguments = ["build", root / "tiny.toml", "--target", target, "--data", tiny_images, "--output", folder]
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("EDGEC_CACHE", str(store_of_bundles))
                assert main([*map(str, arguments), "--threads", "1", "--with", "float"]) == 0

        return once(f"gate-{target}", fill)

    return built


@pytest.fixture(scope="session")
def bundle(build: Build) -> Path:
    """For ONNX Runtime, which is always there."""
    return build("onnxruntime")
