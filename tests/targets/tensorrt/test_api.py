"""Every name of TensorRT that build_engine.py uses exists in the versions that it uses it in.

The table was checked against the published bindings 8.6.0 (``tensorrt``), 10.3.0 (``tensorrt_cu12_bindings``) and
11.4.0 (``tensorrt_cu13_bindings``). To check again: ``EDGEC_TENSORRT_PYTHON`` names one Python with ``tensorrt``, or
several separated by colons. Bindings without their libraries import where empty ones of those names are on the path.
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
    "Logger.WARNING": EVER,
    "Builder.create_builder_config": EVER,
    "Builder.create_network": EVER,
    "Builder.build_serialized_network": EVER,
    "NetworkDefinitionCreationFlag.EXPLICIT_BATCH": (8, 11),
    "OnnxParser.parse_from_file": EVER,
    "OnnxParser.num_errors": EVER,
    "OnnxParser.get_error": EVER,
    "IBuilderConfig.set_memory_pool_limit": EVER,
    "IBuilderConfig.profiling_verbosity": EVER,
    "IBuilderConfig.set_flag": EVER,
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
    "IProgressMonitor.phase_start": (10, 12),
    "IProgressMonitor.step_complete": (10, 12),
    "IProgressMonitor.phase_finish": (10, 12),
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
OURS = {"engine.run", "engine.time", "engine.layers", "engine.memory", "engine.trt"}  # of the script's own Engine
CHECK = """
import json, sys
try:
    import tensorrt as trt
except ImportError:
    import tensorrt_bindings as trt
names = json.loads(sys.argv[1])
major = int(trt.__version__.split(".")[0])
wrong = [n for n, (first, last) in names.items()
         if (first <= major < last) != hasattr(getattr(trt, n.split(".")[0], None), n.split(".")[1])]
print(json.dumps({"version": trt.__version__, "wrong": wrong}))
"""

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
    for name in used_names() - {"__version__", "IProgressMonitor.__init__"}:
        head, _, member = name.partition(".")
        if head in OBJECTS:
            assert member in members, name
        else:
            assert head in classes | {"Logger"}, name
            assert not member or name in API, name


def test_the_table_holds_nothing_unused() -> None:
    text = SCRIPT.read_text()
    assert [name for name in API if name.split(".")[1] not in text] == []


@needs_wheel
@pytest.mark.parametrize("python", PYTHONS)
def test_the_published_bindings_have_them(python: str) -> None:
    done = subprocess.run([python, "-c", CHECK, json.dumps(API)], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["wrong"] == [], found["version"]


@needs_wheel
@pytest.mark.parametrize("python", PYTHONS)
def test_the_real_wheel_without_a_gpu_is_a_documented_refusal(python: str, artifact: Path, stand_in_cuda: Path) -> None:
    """First without any driver; then with the stand-in driver, up to TensorRT's own refusal to make a builder."""
    done = subprocess.run([python, str(SCRIPT), "--facts"], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        pytest.skip("this machine has an NVIDIA GPU")
    assert (done.returncode, json.loads(done.stdout)["error"]) == (1, "missing-driver")
    libraries = f"{stand_in_cuda}:{os.environ.get('LD_LIBRARY_PATH', '')}"
    environment = {**os.environ, "LD_LIBRARY_PATH": libraries}
    command = [python, str(artifact / "build_engine.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    answer = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 1
    assert answer["error"] in ("missing-driver", "missing-tensorrt")
    assert not (artifact / "model.engine").exists()
