"""A small network, a small data set, and a store of one's own for every test."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from PIL import Image
from tiny import TINY_PX, crowded_network, tiny_network

if TYPE_CHECKING:
    from workers import Once

    from edgec.pipeline.bundle.extras import Extra

pytest_plugins = ["browser", "fresh_copy", "seen_codes", "strict_skips", "workers"]

for ignored in (signal.SIGINT, signal.SIGHUP):  # by nohup, or a shell that starts the tests in the background
    if signal.getsignal(ignored) is signal.SIG_IGN:
        signal.signal(ignored, signal.default_int_handler if ignored is signal.SIGINT else signal.SIG_DFL)

COLOURS = {"blue": (30, 40, 200), "green": (40, 190, 50), "red": (210, 40, 30)}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test sees another's store, nor the user's."""
    monkeypatch.setenv("EDGEC_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("EDGEC_SHARED_CACHE", raising=False)
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


@pytest.fixture(scope="session")
def crowded_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same task in a network whose accuracy 8 bits cannot hold."""
    path = tmp_path_factory.mktemp("crowded") / "tiny.onnx"
    onnx.save(crowded_network(), path)
    return path


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


@pytest.fixture(scope="session")
def store_of_bundles(shared: Path) -> Path:
    """One store for all bundles of a session: equal stages run once."""
    return shared / "store"


@pytest.fixture
def shared_store(own_cache: Path, store_of_bundles: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that ask what a command says or writes, and not what was kept: most stages of the networks here ran."""
    monkeypatch.setenv("EDGEC_CACHE", str(store_of_bundles))


def _build(target: str, model: Path, images: Path, folder: Path, store: Path) -> None:
    from edgec.pipeline.deliver import Judging, deliver
    from edgec.pipeline.recipe import Choices, DataFolders, make_recipe

    everything = target == "mcu"  # that a bundle may hold; and jetson's holds what every bundle does
    extras: dict[str, tuple[Extra, ...]] = {"mcu": ("float", "vectors"), "cpu": ("c", "float", "vectors")}
    limit = 100.0 if everything else None
    recipe = make_recipe(str(model), target, DataFolders(images), Choices(), 12, "fast", max_drop_pp=limit)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEC_CACHE", str(store))
        deliver(recipe, folder, Judging(timed=False, ranked=everything, extras=extras.get(target, ())))


@pytest.fixture(scope="session")
def mcu_bundle(colours_toml: Path, tiny_images: Path, once: Once, store_of_bundles: Path) -> Path:
    """For ``mcu``; read only."""
    pytest.importorskip("ai_edge_litert")
    return once("mcu", lambda folder: _build("mcu", colours_toml, tiny_images, folder, store_of_bundles))


@pytest.fixture(scope="session")
def jetson_bundle(colours_toml: Path, tiny_images: Path, once: Once, store_of_bundles: Path) -> Path:
    """For ``jetson``, without its engine; read only."""
    return once("jetson", lambda folder: _build("jetson", colours_toml, tiny_images, folder, store_of_bundles))


@pytest.fixture(scope="session")
def cpu_bundle(colours_toml: Path, tiny_images: Path, once: Once, store_of_bundles: Path) -> Path:
    """For ``cpu``; read only."""
    pytest.importorskip("openvino")
    return once("cpu", lambda folder: _build("cpu", colours_toml, tiny_images, folder, store_of_bundles))
