"""A stand-in for the ``tensorrt`` module: it records calls and runs the ONNX file in ONNX Runtime. Not TensorRT.

Environment: ``STAND_IN_VERSION``, ``STAND_IN_LOG`` (a line per call), ``STAND_IN_FAULT``, one or several of:

before an engine   ``bad-onnx``, ``no-engine`` (with errors in the log), ``raises`` (while it builds), ``hang``
after that         ``foreign``, ``wrong-answers``, ``wrong-last-output``, ``nan-answers``, ``no-start``,
                   ``float-layers``, ``hidden-layers``, ``broken-json``,
                   ``raises-late`` and ``dies-late`` (in the first inference)
at any time        ``chatter``: libraries print to standard output; ``slow-int8``, ``slow-fp16``: files with or without
                   Q are the slower ones

An inference takes what is stated here, on the clock of the stand-in for libcuda.so.1: no choice hangs on how busy this
machine is.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import time
from enum import IntEnum

import numpy as np

__version__ = os.environ.get("STAND_IN_VERSION", "10.3.0") + "+stand-in"
MAJOR = int(__version__.split(".")[0])
FAULTS = os.environ.get("STAND_IN_FAULT", "").split()


def record(call: str) -> None:
    with open(os.environ["STAND_IN_LOG"], "a", encoding="utf-8") as log:
        log.write(call + "\n")


def chatter() -> None:
    """As a library in C does, and as one in Python."""
    if "chatter" in FAULTS:
        os.write(1, b'{"done": 1, "total": 1}\n[TRT] words on standard output\n')
        print({"error": "none of ours"}, flush=True)


class Severity(IntEnum):
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


class ILogger:
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = Severity

    def log(self, severity: Severity, msg: str) -> None:
        raise NotImplementedError


class TensorIOMode(IntEnum):
    NONE, INPUT, OUTPUT = range(3)


class DataType(IntEnum):
    FLOAT, HALF, INT64 = range(3)


class MemoryPoolType(IntEnum):
    WORKSPACE = 0


class ProfilingVerbosity(IntEnum):
    DETAILED = 1


class HardwareCompatibilityLevel(IntEnum):
    NONE, AMPERE_PLUS = range(2)


class LayerInformationFormat(IntEnum):
    ONELINE, JSON = range(2)


class DeviceType(IntEnum):
    GPU, DLA = range(2)


NetworkDefinitionCreationFlag = IntEnum(
    "NetworkDefinitionCreationFlag",
    {name: value for name, value in {"EXPLICIT_BATCH": 0, "STRONGLY_TYPED": 1}.items() if MAJOR >= 10 or not value},
)
BuilderFlag = IntEnum(
    "BuilderFlag", [*(["FP16", "INT8"] if MAJOR < 11 else []), "GPU_FALLBACK", "VERSION_COMPATIBLE"], start=0
)


class IProgressMonitor:
    pass


class TimingCache:
    def serialize(self) -> bytes:
        return b"stand-in timing cache"


class Config:
    profiling_verbosity = hardware_compatibility_level = progress_monitor = default_device_type = DLA_core = None
    builder_optimization_level = 3

    def __init__(self) -> None:
        self.flags: list[str] = []

    def set_memory_pool_limit(self, pool: int, size: int) -> None:
        record(f"workspace {size}")

    def set_flag(self, flag: IntEnum) -> None:
        self.flags.append(flag.name)
        record(f"flag {flag.name}")

    def create_timing_cache(self, content: bytes) -> TimingCache:
        record(f"timing cache of {len(content)} bytes")
        return TimingCache()

    def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> bool:
        return not ignore_mismatch

    def get_timing_cache(self) -> TimingCache:
        return TimingCache()


class Tensor:
    shape = None


class Network:
    def __init__(self, flags: int) -> None:
        self.flags, self.model, self.input = flags, b"", Tensor()

    def get_input(self, index: int) -> Tensor:
        return self.input


class OnnxParser:
    num_errors = 1

    def __init__(self, network: Network, logger: ILogger) -> None:
        self.network = network

    def parse_from_file(self, path: str) -> bool:
        chatter()
        record(f"parse {os.path.basename(path)}")
        with open(path, "rb") as file:
            self.network.model = file.read()
        return "bad-onnx" not in FAULTS

    def get_error(self, index: int) -> str:
        return "stand-in: cannot read this"


class Builder:
    def __init__(self, logger: ILogger) -> None:
        self.logger = logger

    def create_builder_config(self) -> Config:
        return Config()

    def create_network(self, flags: int) -> Network:
        record(f"network {flags}")
        return Network(flags)

    def build_serialized_network(self, network: Network, config: Config) -> bytes | None:
        record("build")
        record(f"CUDA_MODULE_LOADING={os.environ.get('CUDA_MODULE_LOADING')}")
        chatter()
        self.logger.log(ILogger.WARNING, "stand-in: a warning")
        self.logger.log(ILogger.VERBOSE, "stand-in: nobody reads this")
        record(f"level {config.builder_optimization_level}")
        monitor = config.progress_monitor
        if monitor:
            monitor.phase_start("building", None, 2)
            monitor.phase_start("inner", "building", 9)
            monitor.step_complete("inner", 0)
            monitor.step_complete("building", 0)
            monitor.phase_finish("building")
        if "hang" in FAULTS:
            time.sleep(60)
        if "raises" in FAULTS:
            raise RuntimeError("stand-in: nobody foresaw this")
        if "no-engine" in FAULTS:
            self.logger.log(ILogger.ERROR, "stand-in: [mergeScales] Assertion failed")
            return None
        typed, batch = bool(network.flags & 2), (network.input.shape or [1])[0]
        header = json.dumps({"typed": typed, "batch": batch, "flags": config.flags, "dla": config.DLA_core})
        return header.encode() + b"\0" + network.model


class Context:
    def __init__(self, engine: Engine) -> None:
        self.engine, self.addresses = engine, {}

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        chatter()
        if "raises-late" in FAULTS:
            raise RuntimeError("stand-in: nobody foresaw this")
        quantized = any(node.op_type == "QuantizeLinear" for node in self.engine.model.graph.node)
        takes_ms = 10.0 if ("slow-int8" if quantized else "slow-fp16") in FAULTS else 1.0
        ctypes.CDLL("libcuda.so.1").stand_in_takes(ctypes.c_double(takes_ms))
        if "dies-late" in FAULTS:
            os.kill(os.getpid(), signal.SIGSEGV)
        (source,) = self.engine.session.get_inputs()
        shape = self.engine.get_tensor_shape(source.name)
        images = np.frombuffer(ctypes.string_at(self.addresses[source.name], 4 * int(np.prod(shape))), np.float32)
        images = images.reshape(len(images) // int(np.prod(shape[1:])), 1, *shape[1:])
        answers = [self.engine.session.run(None, {source.name: image}) for image in images]
        sinks = self.engine.session.get_outputs()
        for sink, output in zip(sinks, map(np.concatenate, zip(*answers, strict=True)), strict=True):
            output = self.spoilt(output, sink is sinks[-1])
            ctypes.memmove(self.addresses[sink.name], output.tobytes(), output.nbytes)
        return "no-start" not in FAULTS

    @staticmethod
    def spoilt(output: np.ndarray, is_last: bool) -> np.ndarray:
        if "wrong-answers" in FAULTS or ("wrong-last-output" in FAULTS and is_last):
            output = -output
        return output * np.float32("nan") if "nan-answers" in FAULTS else output


class Inspector:
    """Layers of the file itself: one a convolution or product, named as TensorRT names what it fuses."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def get_engine_information(self, form: LayerInformationFormat) -> str:
        layers: list[object] = [layer("Reformatting CopyNode for Input Tensor 0 to first", "Reformat", "FP32"), "text"]
        made = {output: node for node in self.engine.model.graph.node for output in node.output}
        types = {tensor.name: tensor.data_type for tensor in self.engine.model.graph.initializer}
        for node in self.engine.model.graph.node:
            if node.op_type not in ("Conv", "Gemm"):
                continue
            source = made.get(node.input[0])
            is_half = types.get(node.input[1], 0) == 10
            kind = "Row major Half format" if is_half or not self.engine.header["typed"] else "Row major FP32 format"
            if source is not None and source.op_type == "DequantizeLinear" and "float-layers" not in FAULTS:
                kind = "Channel major Int8 format"
            name = "{ForeignNode[a...b]}" if "hidden-layers" in FAULTS else f"w + Quantize_1 + {node.name} + act"
            layers.append(layer(name, "CaskConvolution", kind, f"[ONNX Layer: {node.name}]\x1e[ONNX Layer: act]"))
        text = json.dumps({"Layers": layers}).replace("\\u001e", "\x1e")  # 8.6 writes it raw
        return text[:-5] if "broken-json" in FAULTS else text


def layer(name: str, kind: str, words: str, metadata: str = "") -> dict[str, object]:
    tensors = [{"Name": "t", "Format/Datatype": words}]
    told = {"Metadata": metadata} if metadata and "hidden-layers" not in FAULTS else {}
    return {"Name": name, "LayerType": kind, "Inputs": tensors, **told}


class Engine:
    def __init__(self, plan: bytes) -> None:
        import onnx
        import onnxruntime

        header, _, content = plan.partition(b"\0")
        self.header = json.loads(header)
        self.model = onnx.load_from_string(content)
        options = onnxruntime.SessionOptions()
        options.add_session_config_entry("session.disable_quant_qdq", "1")  # its fused kernels saturate on old CPUs
        self.session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self.tensors = [*self.session.get_outputs()[::-1], *self.session.get_inputs()]  # no order is promised
        self.num_io_tensors = len(self.tensors)

    def get_tensor_name(self, index: int) -> str:
        return self.tensors[index].name

    def get_tensor_shape(self, name: str) -> list[int]:
        shape = next(tensor.shape for tensor in self.tensors if tensor.name == name)
        return [self.header["batch"], *shape[1:]]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name == self.tensors[-1].name else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        kind = next(tensor.type for tensor in self.tensors if tensor.name == name)
        return {"tensor(float)": DataType.FLOAT, "tensor(int64)": DataType.INT64}.get(kind, DataType.HALF)

    def create_execution_context(self) -> Context:
        return Context(self)

    def create_engine_inspector(self) -> Inspector:
        return Inspector(self)


class Runtime:
    engine_host_code_allowed = False
    DLA_core = None

    def __init__(self, logger: ILogger) -> None:
        self.logger = logger

    def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
        engine = Engine(plan)
        trusted = self.engine_host_code_allowed or "VERSION_COMPATIBLE" not in engine.header["flags"]
        if "foreign" in FAULTS or not trusted or engine.header["dla"] != self.DLA_core:
            self.logger.log(ILogger.ERROR, "stand-in: no engine of mine")
            return None
        return engine
