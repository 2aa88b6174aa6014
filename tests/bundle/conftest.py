"""Two small bundles: integers in and out for a microcontroller, and a float interface for OpenVINO."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from edgec.pipeline.job import run_job
from edgec.pipeline.recipe import Choices, DataFolders, Recipe, make_recipe

COLOURS_TOML = """\
onnx = "tiny.onnx"
labels = ["blue", "green", "red"]
[preprocess]
resize_px = 40
crop_px = 32
mean = [127.5, 120.0, 110.0]
std = [127.5, 60.0, 57.0]
"""


@pytest.fixture(scope="session")
def colours_toml(tiny_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``model.toml`` of the tiny network; means and deviations differ by channel."""
    folder = tmp_path_factory.mktemp("model")
    shutil.copy(tiny_onnx, folder / "tiny.onnx")
    (folder / "colours.toml").write_text(COLOURS_TOML)
    return folder / "colours.toml"


def recipe_for(target: str, model: Path, images: Path) -> Recipe:
    return make_recipe(str(model), target, DataFolders(images), Choices(), 12, "fast")


@pytest.fixture(scope="session")
def store_of_bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for all bundles of a session: equal stages run once."""
    return tmp_path_factory.mktemp("store")


def _build(target: str, model: Path, images: Path, folder: Path, store: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEC_CACHE", str(store))
        run_job(recipe_for(target, model, images), folder, threads=1, timed=False)
    return folder


@pytest.fixture(scope="session")
def mcu_bundle(
    colours_toml: Path, tiny_images: Path, tmp_path_factory: pytest.TempPathFactory, store_of_bundles: Path
) -> Path:
    """For ``mcu``; read only."""
    pytest.importorskip("ai_edge_litert")
    folder = tmp_path_factory.mktemp("bundle") / "mcu"
    return _build("mcu", colours_toml, tiny_images, folder, store_of_bundles)


@pytest.fixture(scope="session")
def cpu_bundle(
    colours_toml: Path, tiny_images: Path, tmp_path_factory: pytest.TempPathFactory, store_of_bundles: Path
) -> Path:
    """For ``cpu``; read only."""
    pytest.importorskip("openvino")
    folder = tmp_path_factory.mktemp("bundle") / "cpu"
    return _build("cpu", colours_toml, tiny_images, folder, store_of_bundles)


@pytest.fixture
def copy(mcu_bundle: Path, tmp_path: Path) -> Path:
    """A bundle to spoil."""
    return Path(shutil.copytree(mcu_bundle, tmp_path / "copy"))
