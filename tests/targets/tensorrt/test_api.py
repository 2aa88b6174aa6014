"""Every name of TensorRT that build_engine.py uses exists in the versions that it uses it in.

``published_api.json`` holds the names that the published bindings of 8.6.0, 10.3.0 and 11.4.0 have; ``published.py``
says how they were recorded. Where ``EDGEC_TENSORRT_PYTHONS`` names the folder that it made, the bindings are asked too.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
from pathlib import Path

import published
import pytest

from edgec.targets.tensorrt.format import SCRIPT

EVER = (8, 12)
API: dict[str, tuple[int, int]] = {
    "ILogger.ERROR": EVER,
    "ILogger.WARNING": EVER,
    "ILogger.log": EVER,
    "Builder.create_builder_config": EVER,
    "Builder.create_network": EVER,
    "Builder.build_serialized_network": EVER,
    "NetworkDefinitionCreationFlag.EXPLICIT_BATCH": (8, 11),
    "NetworkDefinitionCreationFlag.STRONGLY_TYPED": (10, 12),
    "INetworkDefinition.get_input": EVER,
    "ITensor.shape": EVER,
    "OnnxParser.parse_from_file": EVER,
    "OnnxParser.num_errors": EVER,
    "OnnxParser.get_error": EVER,
    "IBuilderConfig.set_memory_pool_limit": EVER,
    "IBuilderConfig.profiling_verbosity": EVER,
    "IBuilderConfig.set_flag": EVER,
    "IBuilderConfig.default_device_type": EVER,
    "IBuilderConfig.DLA_core": EVER,
    "IBuilderConfig.hardware_compatibility_level": EVER,
    "IBuilderConfig.builder_optimization_level": EVER,
    "IBuilderConfig.progress_monitor": (10, 12),
    "IBuilderConfig.create_timing_cache": EVER,
    "IBuilderConfig.set_timing_cache": EVER,
    "IBuilderConfig.get_timing_cache": EVER,
    "ITimingCache.serialize": EVER,
    "MemoryPoolType.WORKSPACE": EVER,
    "ProfilingVerbosity.DETAILED": EVER,
    "HardwareCompatibilityLevel.AMPERE_PLUS": EVER,
    "BuilderFlag.FP16": (8, 11),
    "BuilderFlag.INT8": (8, 11),
    "BuilderFlag.GPU_FALLBACK": EVER,
    "BuilderFlag.VERSION_COMPATIBLE": EVER,
    "DeviceType.DLA": EVER,
    "IProgressMonitor.phase_start": (10, 12),
    "IProgressMonitor.step_complete": (10, 12),
    "IProgressMonitor.phase_finish": (10, 12),
    "Runtime.engine_host_code_allowed": EVER,
    "Runtime.DLA_core": EVER,
    "Runtime.deserialize_cuda_engine": EVER,
    "ICudaEngine.create_execution_context": EVER,
    "ICudaEngine.create_engine_inspector": EVER,
    "ICudaEngine.num_io_tensors": EVER,
    "ICudaEngine.get_tensor_name": EVER,
    "ICudaEngine.get_tensor_shape": EVER,
    "ICudaEngine.get_tensor_mode": EVER,
    "ICudaEngine.get_tensor_dtype": EVER,
    "IExecutionContext.set_tensor_address": EVER,
    "IExecutionContext.execute_async_v3": EVER,
    "EngineInspector.get_engine_information": EVER,
    "LayerInformationFormat.JSON": EVER,
    "TensorIOMode.INPUT": EVER,
}
"""``Class.member``: (first major version with it, first without it)."""

OBJECTS = ("builder", "network", "parser", "config", "logger", "runtime", "engine", "context")
OURS = {  # of the script's own Engine and logger
    *(f"engine.{name}" for name in ("run", "time", "layers", "input", "upload", "download")),
    *("engine.capture", "engine.graph", "logger.last"),
}

CLASSES = sorted({name.partition(".")[0] for name in API})
RECORDED: dict[str, dict[str, list[str]]] = json.loads(published.RECORDED.read_text())


def wrong(version: str, members: dict[str, list[str]]) -> list[str]:
    """Names that the table has right only for other versions."""
    major = int(version.partition(".")[0])
    found = {f"{kind}.{member}" for kind, names in members.items() for member in names}
    return [name for name, (first, last) in API.items() if (first <= major < last) != (name in found)]


@pytest.fixture
def pythons(version: str) -> Path:
    """The folder with a Python that imports this version."""
    folder = Path(os.environ.get("EDGEC_TENSORRT_PYTHONS", "no such folder")).expanduser()
    if not (folder / version / "bin" / "python").exists():
        pytest.skip(f"no Python with tensorrt {version} in EDGEC_TENSORRT_PYTHONS")
    return folder


def used_names() -> set[str]:
    """``trt.A.B`` as ``A.B`` and members of the objects that TensorRT hands out, as ``object.member``."""
    found = set()
    for node in ast.walk(ast.parse(SCRIPT.read_text())):
        if isinstance(node, ast.Attribute):
            text = ast.unparse(node).replace("engine.trt.", "trt.").replace("self.trt.", "trt.").removeprefix("self.")
            head, _, member = text.partition(".")
            if member and (head == "trt" or (head in OBJECTS and "(" not in member)):
                found.add(text.removeprefix("trt."))
    return found - OURS


def test_every_used_name_is_in_the_table() -> None:
    classes = {name.split(".")[0] for name in API}
    members = {name.split(".")[1] for name in API}
    for name in used_names() - {"__version__", "IProgressMonitor.__init__", "ILogger.__init__"}:
        head, _, member = name.partition(".")
        if head in OBJECTS:
            assert member in members, name
        else:
            assert head in classes, name
            assert not member or name in API, name


def test_the_table_holds_nothing_unused() -> None:
    text = SCRIPT.read_text()
    assert [name for name in API if name.split(".")[1] not in text] == []


@pytest.mark.parametrize("version", published.PACKAGES)
def test_the_recorded_bindings_have_them(version: str) -> None:
    assert wrong(version, RECORDED[version]) == []


@pytest.mark.parametrize("version", published.PACKAGES)
def test_the_published_bindings_are_as_recorded(version: str, pythons: Path) -> None:
    assert published.listing(pythons, version, CLASSES) == RECORDED[version]


@pytest.mark.parametrize("version", ["8.6.0"])
def test_the_real_wheel_without_a_gpu_is_a_documented_refusal(
    version: str, pythons: Path, artifact: Path, stand_in_cuda: Path
) -> None:
    """First without any driver; then with the stand-in driver, up to TensorRT's own refusal to make a builder."""
    python, environment = str(pythons / version / "bin" / "python"), published.environment(pythons)
    done = subprocess.run(
        [python, str(SCRIPT), "--facts"], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        pytest.skip("this machine has an NVIDIA GPU")
    assert (done.returncode, json.loads(done.stdout)["error"]) == (1, "missing-driver")
    environment["LD_LIBRARY_PATH"] = f"{stand_in_cuda}:{environment['LD_LIBRARY_PATH']}"
    command = [python, str(artifact / "build_engine.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    answer = json.loads(done.stdout)  # one line
    assert (done.returncode, answer["error"]) == (1, "missing-driver")
    assert "TensorRT found no GPU that it can use" in answer["message"]
    assert not (artifact / "model.engine").exists()
