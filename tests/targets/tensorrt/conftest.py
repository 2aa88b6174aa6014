"""What goes to the device, and stand-ins for TensorRT and the CUDA driver. No GPU is used anywhere in these tests."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import onnx
import pytest
from graphs import classifier, several_outputs
from seams import settings_of
from stand_ins import FOLDER, StandIn

from edgec.targets.tensorrt import compile_model


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What goes to the device: integer layers and a float one; read only."""
    folder = tmp_path_factory.mktemp("compiled")
    onnx.save(classifier(), folder / "qdq.onnx")
    compile_model(folder / "qdq.onnx", folder / "tensorrt", settings_of("jetson"))
    return folder / "tensorrt"


@pytest.fixture(scope="session")
def compiled_several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with several outputs; read only."""
    folder = tmp_path_factory.mktemp("several")
    onnx.save(several_outputs(), folder / "qdq.onnx")
    compile_model(folder / "qdq.onnx", folder / "tensorrt", settings_of("jetson"))
    return folder / "tensorrt"


@pytest.fixture
def several(compiled_several: Path, tmp_path: Path) -> Path:
    """A copy of that folder."""
    return Path(shutil.copytree(compiled_several, tmp_path / "several"))


@pytest.fixture
def artifact(compiled: Path, tmp_path: Path) -> Path:
    """A copy of that folder, to be changed at will."""
    return Path(shutil.copytree(compiled, tmp_path / "tensorrt"))


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
