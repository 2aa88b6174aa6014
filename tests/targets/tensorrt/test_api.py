"""Every name of TensorRT that build_engine.py uses exists in the versions that it uses it in.

``api_names.json`` holds the members of those classes in the published bindings 8.6.0 (``tensorrt``), 10.3.0
(``tensorrt_cu12_bindings``) and 11.4.0 (``tensorrt_cu13_bindings``). To check it again: ``EDGEC_TENSORRT_PYTHON`` names
one Python with ``tensorrt``, or several separated by colons. Bindings without their libraries import where empty ones
of those names are on the path. To write it anew, ``EDGEC_TENSORRT_RECORD=1`` as well.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
from pathlib import Path

import pytest

from edgec.targets.tensorrt.compiler import SCRIPT

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
    "IExecutionContext.set_tensor_address": EVER,
    "IExecutionContext.execute_async_v3": EVER,
    "EngineInspector.get_engine_information": EVER,
    "LayerInformationFormat.JSON": EVER,
    "TensorIOMode.INPUT": EVER,
    "TensorIOMode.OUTPUT": EVER,
}
"""``Class.member``: (first major version with it, first without it)."""

OBJECTS = ("builder", "network", "parser", "config", "logger", "runtime", "engine", "context")
OURS = {  # of the script's own Engine and logger
    *(
        f"engine.{name}"
        for name in ("run", "time", "layers", "memory", "trt", "upload", "download", "capture", "graph")
    ),
    "logger.last",
}
LIST = """
import json, sys
try:
    import tensorrt as trt
except ImportError:
    import tensorrt_bindings as trt
members = {c: sorted(m for m in dir(getattr(trt, c, None)) if m[0] != "_") for c in json.loads(sys.argv[1])}
print(json.dumps({"version": trt.__version__, "members": members}))
"""
NAMES = Path(__file__).with_name("api_names.json")

PYTHONS = [name for name in os.environ.get("EDGEC_TENSORRT_PYTHON", "").split(":") if name]
needs_wheel = pytest.mark.skipif(not PYTHONS, reason="EDGEC_TENSORRT_PYTHON names no Python with tensorrt")


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


@pytest.mark.parametrize("version", ["8.6", "10.3", "11.4"])
def test_the_published_bindings_have_them(version: str) -> None:
    recorded = json.loads(NAMES.read_text())
    members = next(known for full, known in recorded.items() if full.startswith(f"{version}."))
    major = int(version.split(".")[0])
    for name, (first, last) in API.items():
        owner, member = name.split(".")
        assert (member in members[owner]) == (first <= major < last), f"{name} in TensorRT {version}"


@needs_wheel
@pytest.mark.parametrize("python", PYTHONS)
def test_what_was_recorded_of_the_bindings_is_true(python: str) -> None:
    classes = sorted({name.split(".")[0] for name in API})
    done = subprocess.run([python, "-c", LIST, json.dumps(classes)], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    recorded = json.loads(NAMES.read_text()) if NAMES.is_file() else {}
    if os.environ.get("EDGEC_TENSORRT_RECORD"):
        recorded[found["version"]] = found["members"]
        NAMES.write_text(json.dumps(recorded, separators=(",", ":"), sort_keys=True) + "\n")
    assert recorded[found["version"]] == found["members"]


@needs_wheel
@pytest.mark.parametrize("python", PYTHONS)
def test_the_real_wheel_without_a_gpu_is_a_documented_refusal(python: str, artifact: Path, stand_in_cuda: Path) -> None:
    """First without any driver; then with the stand-in driver, up to TensorRT's own refusal to make a builder."""
    done = subprocess.run([python, str(SCRIPT), "--facts"], capture_output=True, text=True, check=False)
    assert len(done.stdout.splitlines()) == 1
    if done.returncode == 0:
        pytest.skip("this machine has an NVIDIA GPU")
    assert (done.returncode, json.loads(done.stdout)["error"]) == (1, "missing-driver")
    libraries = f"{stand_in_cuda}:{os.environ.get('LD_LIBRARY_PATH', '')}"
    environment = {**os.environ, "LD_LIBRARY_PATH": libraries}
    command = [python, str(artifact / "build_engine.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    answer = json.loads(done.stdout)
    assert done.returncode == 1
    assert answer["error"] in ("missing-driver", "missing-tensorrt")
    assert not (artifact / "model.engine").exists()
