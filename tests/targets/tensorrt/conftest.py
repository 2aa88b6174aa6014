"""Stand-ins for TensorRT and the CUDA driver. No GPU is used anywhere in these tests."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from stand_ins import FOLDER, StandIn


@pytest.fixture
def artifact(jetson_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the folder that goes to the device, to be changed at will."""
    return Path(shutil.copytree(jetson_bundle / "tensorrt", tmp_path / "tensorrt"))


@pytest.fixture(scope="session")
def stand_in_cuda(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a libcuda.so.1 that uses the host's memory and clock."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler to build the stand-in for libcuda.so.1 with")
    folder = tmp_path_factory.mktemp("cuda")
    build = [compiler, "-shared", "-fPIC", "-w", "-Wl,-soname,libcuda.so.1", "-o", str(folder / "libcuda.so.1")]
    subprocess.run([*build, str(FOLDER / "cuda.c")], check=True)
    return folder


@pytest.fixture
def stand_in(stand_in_cuda: Path, tmp_path: Path) -> StandIn:
    return StandIn(stand_in_cuda, tmp_path / "calls.log")
