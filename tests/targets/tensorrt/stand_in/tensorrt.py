"""A stand-in for the ``tensorrt`` module: it records calls and runs the ONNX file in ONNX Runtime. Not TensorRT.

Environment: ``STAND_IN_VERSION``, ``STAND_IN_LOG`` (a line per call), ``STAND_IN_FAULT`` (``no-engine``, ``bad-onnx``,
``wrong-answers``, ``no-start``, ``foreign``, ``hang``).
"""

from __future__ import annotations

import ctypes
import json
import os
import time
from enum import IntEnum

import numpy as np

__version__ = os.environ.get("STAND_IN_VERSION", "10.3.0") + "+stand-in"
MAJOR = int(__version__.split(".")[0])
FAULT = os.environ.get("STAND_IN_FAULT", "")


def record(call: str) -> None:
    with open(os.environ["STAND_IN_LOG"], "a", encoding="utf-8") as log:
        log.write(call + "\n")


class TensorIOMode(IntEnum):
    NONE, INPUT, OUTPUT = range(3)


class MemoryPoolType(IntEnum):
    WORKSPACE = 0


class ProfilingVerbosity(IntEnum):
    DETAILED = 1


class HardwareCompatibilityLevel(IntEnum):
    NONE, AMPERE_PLUS = range(2)


class LayerInformationFormat(IntEnum):
    ONELINE, JSON = range(2)


if MAJOR < 10:

    class NetworkDefinitionCreationFlag(IntEnum):
        EXPLICIT_BATCH = 0


if MAJOR < 11:

    class BuilderFlag(IntEnum):
        FP16, INT8 = range(2)


class Logger:
    WARNING = 2

    def __init__(self, severity: int) -> None:
        pass


class IProgressMonitor:
    pass


class TimingCache:
    def serialize(self) -> bytes:
        return b"stand-in timing cache"


class Config:
    profiling_verbosity = hardware_compatibility_level = progress_monitor = None

    def set_memory_pool_limit(self, pool: int, size: int) -> None:
        record(f"workspace {size}")

    def set_flag(self, flag: IntEnum) -> None:
        record(f"flag {flag.name}")

    def create_timing_cache(self, content: bytes) -> TimingCache:
        record(f"timing cache of {len(content)} bytes")
        return TimingCache()

    def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> bool:
        return not ignore_mismatch

    def get_timing_cache(self) -> TimingCache:
        return TimingCache()


class Network:
    model = b""


class OnnxParser:
    num_errors = 1

    def __init__(self, network: Network, logger: Logger) -> None:
        self.network = network

    def parse_from_file(self, path: str) -> bool:
        with open(path, "rb") as file:
            self.network.model = file.read()
        return FAULT != "bad-onnx"

    def get_error(self, index: int) -> str:
        return "stand-in: cannot read this"


class Builder:
    def __init__(self, logger: Logger) -> None:
        pass

    def create_builder_config(self) -> Config:
        return Config()

    def create_network(self, flags: int) -> Network:
        record(f"network {flags}")
        return Network()

    def build_serialized_network(self, network: Network, config: Config) -> bytes | None:
        record("build")
        monitor = config.progress_monitor
        if monitor:
            monitor.phase_start("building", None, 2)
            monitor.phase_start("inner", "building", 9)
            monitor.step_complete("inner", 0)
            monitor.step_complete("building", 0)
            monitor.phase_finish("building")
        if FAULT == "hang":
            time.sleep(60)
        return None if FAULT == "no-engine" else network.model


class Context:
    def __init__(self, engine: Engine) -> None:
        self.engine, self.addresses = engine, {}

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        (source,), (sink,) = self.engine.session.get_inputs(), self.engine.session.get_outputs()
        size = 4 * int(np.prod(source.shape))
        image = np.frombuffer(ctypes.string_at(self.addresses[source.name], size), np.float32).reshape(source.shape)
        output = self.engine.session.run([sink.name], {source.name: image})[0]
        output = -output if FAULT == "wrong-answers" else output
        ctypes.memmove(self.addresses[sink.name], output.tobytes(), output.nbytes)
        return FAULT != "no-start"


class Inspector:
    def get_engine_information(self, form: LayerInformationFormat) -> str:
        def tensor(kind: str) -> list[dict[str, str]]:
            return [{"Name": "t", "Format/Datatype": kind}]

        return json.dumps(
            {
                "Layers": [
                    {
                        "Name": "Reformatting CopyNode for Input Tensor 0",
                        "LayerType": "Reformat",
                        "Inputs": tensor("FP32"),
                    },
                    {"Name": "first", "LayerType": "CaskConvolution", "Inputs": tensor("Channel major Int8 format")},
                    {"Name": "pool", "LayerType": "CaskPooling", "Inputs": tensor("Row major Half format")},
                ]
            }
        )


class Engine:
    num_io_tensors = 2

    def __init__(self, plan: bytes) -> None:
        import onnxruntime

        self.session = onnxruntime.InferenceSession(plan, providers=["CPUExecutionProvider"])
        self.tensors = [*self.session.get_inputs(), *self.session.get_outputs()]

    def get_tensor_name(self, index: int) -> str:
        return self.tensors[index].name

    def get_tensor_shape(self, name: str) -> list[int]:
        return next(tensor.shape for tensor in self.tensors if tensor.name == name)

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name == self.tensors[0].name else TensorIOMode.OUTPUT

    def create_execution_context(self) -> Context:
        return Context(self)

    def create_engine_inspector(self) -> Inspector:
        return Inspector()


class Runtime:
    def __init__(self, logger: Logger) -> None:
        pass

    def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
        return None if FAULT == "foreign" else Engine(plan)
