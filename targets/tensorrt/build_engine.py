#!/usr/bin/env python3
"""Builds a TensorRT engine on the device that will run it, proves it with the golden inputs and measures it.

One file, Python 3.8 or newer, the standard library and TensorRT 8.5 to 11. It reads what lies beside it (model.onnx,
model_typed.onnx, engine_spec.json, golden.bin) and writes model.engine, timing.cache and engine.json.

    build_engine.py                    check, build unless it was built before, prove, measure
    build_engine.py --precision auto   the same for every candidate of the bundle; keeps the one that pays
    build_engine.py --check            only check the files, the driver, the GPU and TensorRT
    build_engine.py --facts            only the driver, the GPU and TensorRT
    build_engine.py --predict IN OUT   instead of measuring, run the images of IN; both are raw float32, image by image,
                                       an image's outputs one after the other as engine_spec.json lists them
    build_engine.py --batch 32         an engine for 32 images at a time, and its throughput

An engine is kept the moment it exists. Inspection and proof come after that, and mark it: engine.json says "status":
"built", "proved" or "refused". Whatever a library prints goes to standard error. Programs read standard output: JSON
lines, progress as {"done": ..., "total": ...}, and as the last one the answer, or {"error": code, "message": ...} with
exit status 1. The answer comes even where TensorRT takes its process along: the work is done in a second one.
"""

from __future__ import annotations

import argparse
import array
import contextlib
import ctypes
import errno
import fcntl
import functools
import glob
import hashlib
import json
import math
import operator
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

HERE = os.path.dirname(os.path.abspath(__file__))
PRODUCTS = ("model.engine", "timing.cache", "engine.json")  # the last one vouches for the others
FILES = {"model": "model.onnx", "typed": "model_typed.onnx", "spec": "engine_spec.json", "golden": "golden.bin"}
WITHOUT_INT8 = ("5.0", "5.2", "5.3", "6.0", "6.2", "7.0")  # compute capabilities, from TensorRT's support matrix
TYPES = (("INT8", "int8"), ("HALF", "fp16"), ("FP16", "fp16"), ("FLOAT", "fp32"), ("FP32", "fp32"))
STORED = {"FLOAT": "f", "INT32": "i", "INT64": "q"}  # outputs by their types' names: codes of ``array``
TYPED = (10, 3)  # the first version that takes its types from the file; older ones get flags
DLA_VERSIONS = (((8, 5), (10, 8)), ((11, 4, 1), (12,)))  # from the release notes: none between
GROUP, WINDOW, STEADY, SLOW_MS = 8, 8, 0.02, 50.0  # of the warm-up, as in edgec.pipeline.forms.measure
MIN_SAMPLES, MAX_SAMPLES, COPIES = 20, 1000, 50
LEAST_GAIN, MOST_LOSS_PP = 1.10, 1.0  # what another precision must gain over FP16, and may lose
MOST_PIECES = 16  # parts of a network that one DLA core holds at the same time
LAST_ERRORS = 8
HEARTBEAT_S = 20.0


class Refusal(Exception):
    """``args`` = (code, message): what is wrong, for edgec and for people."""

    def answer(self) -> dict[str, str]:
        return {"error": self.args[0], "message": self.args[1]}


# ---- answers

answers_to = 1  # a file descriptor; the worker's is a pipe to the process that was started


def say(answer: dict[str, Any]) -> None:
    """One JSON line for programs."""
    line = (json.dumps(answer) + "\n").encode()
    while line:
        line = line[os.write(answers_to, line) :]


def tell(text: str) -> None:
    """One line for people."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


@contextlib.contextmanager
def phase(name: str, record: dict[str, Any]) -> Iterator[None]:
    """Say what begins, and write down how long it took."""
    say({"phase": name})
    tell(f"{name} ...")
    started = time.perf_counter()
    yield
    took = record.setdefault("phases_s", {})[name] = round(time.perf_counter() - started, 3)
    tell(f"{name}: {took:.1f} s")


def supervise(arguments: list[str]) -> int:
    """Do the work in a second process, whose standard output is ours for people, and pass its answers on.

    Returns:
        Exit status 0, or 1 with an error as the answer; that is so even if the second process was killed.
    """
    reading, writing = os.pipe()
    command = [sys.executable, os.path.abspath(__file__), *arguments, "--answers", str(writing)]
    worker = subprocess.Popen(command, stdout=2, pass_fds=[writing])
    os.close(writing)
    answer: dict[str, Any] = {}
    doing = "start"
    with os.fdopen(reading, encoding="utf-8") as lines:
        for line in lines:
            value = json.loads(line) if line.endswith("}\n") else {}  # the last line of one that died may be cut
            doing = value.get("phase", doing)
            if value.keys() == {"done", "total"}:
                say(value)
            elif value and "phase" not in value:
                answer = value
    status = worker.wait()
    if not answer:
        how = f"signal {-status}" if status < 0 else f"status {status}"
        message = f"TensorRT's process ended with {how} while it was to {doing}; an engine that was built is kept"
        answer = Refusal("engine-crashed", message).answer()
    say(answer)
    tell(answer.get("message") or "done: " + ", ".join(answer.get("products") or ["this device can build the engine"]))
    return 1 if "error" in answer else 0


def answer_anyway(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """The worker's last word after an error that nobody foresaw."""
    traceback.print_exception(kind, error, trace)
    where = traceback.extract_tb(trace)[-1]
    message = f"{kind.__name__}: {error} (line {where.lineno}); an engine that was built is kept"
    say(Refusal("engine-crashed", message).answer())


def die_with_parent() -> None:
    """Linux ends this process when the one that started it ends."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def end_with_connection() -> None:
    """Exit when standard input ends: a lost connection leaves nothing running."""

    def watch() -> None:
        while os.read(0, 1024):
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


# ---- files


def sha256(path: str) -> str:
    """Of a file's content."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            for piece in iter(lambda: file.read(1 << 20), b""):
                digest.update(piece)
    except OSError as error:
        raise Refusal("missing-file", f"'{path}': {error.strerror}") from None
    return digest.hexdigest()


def read_spec(options: argparse.Namespace) -> dict[str, Any]:
    """engine_spec.json, after the models and the golden vectors proved to be the files that it describes."""
    sha256(options.spec)
    with open(options.spec, encoding="utf-8") as file:
        spec: dict[str, Any] = json.load(file)
    files = [(options.model, spec["model_sha256"]), (options.golden, spec["golden_sha256"])]
    if spec["typed_sha256"]:
        files.append((options.typed, spec["typed_sha256"]))
    for path, wanted in files:
        if sha256(path) != wanted:
            raise Refusal("tampered-file", f"'{path}' is not the file that engine_spec.json describes")
    return spec


def read_bytes(path: str) -> bytes:
    """A file's content; nothing where there is none."""
    if not os.path.isfile(path):
        return b""
    with open(path, "rb") as file:
        return file.read()


def keep(folder: str, contents: dict[str, bytes]) -> None:
    """First all files beside their places, then all into place: a full disk leaves the old ones."""
    os.makedirs(folder, exist_ok=True)
    paths = {os.path.join(folder, name): content for name, content in contents.items()}
    for path, content in paths.items():
        with open(f"{path}.{os.getpid()}.part", "wb") as file:
            file.write(content)
            os.fsync(file.fileno())
    for path in paths:
        os.replace(f"{path}.{os.getpid()}.part", path)


def as_json(record: dict[str, Any]) -> bytes:
    return json.dumps(record, indent=1).encode()


def built_before(folder: str, names: tuple[str, ...], key: dict[str, Any]) -> tuple[bytes, dict[str, Any]]:
    """The engine of an earlier run with the same key, and its record; both empty where there is none."""
    plan = read_bytes(os.path.join(folder, names[0]))
    try:
        record: dict[str, Any] = json.loads(read_bytes(os.path.join(folder, names[2])))
    except ValueError:
        return b"", {}
    fits = record.get("key") == key and record.get("engine_sha256") == hashlib.sha256(plan).hexdigest()
    return (plan, record) if fits else (b"", {})


def shared_cache(key: dict[str, Any]) -> str:
    """Where kernels' times are kept for every bundle that is built on this GPU with this TensorRT.

    8.6 takes none that another network has left ("Myelin error from unknown graph"): a file for each network there.
    """
    name = f"{key['gpu']}-{key['compute_capability']}-{key['driver']}-{key['tensorrt']}"
    if int(key["tensorrt"].split(".")[0]) < 10:
        name += f"-{key['spec_sha256'][:16]}"
    return cached(f"{name}.timing.cache")


def cached(name: str) -> str:
    """A path in this user's cache."""
    root = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(root, "edgec", "tensorrt", re.sub(r"[^\w.]+", "-", name))


@contextlib.contextmanager
def alone_on(gpu: str) -> Iterator[None]:
    """Let no other build or measurement of this user's run beside it on the GPU: wait for one that is under way.

    A build chooses kernels by their times. Six side by side took an H200 three times as long each, and measured one
    another. GPUs are told apart by their name and by what ``CUDA_VISIBLE_DEVICES`` shows.
    """
    path = cached(f"{gpu}-{os.environ.get('CUDA_VISIBLE_DEVICES', '0')}.lock")
    lock = None
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        lock = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell(f"waiting: another build or measurement is under way on '{gpu}': each would spoil the other's times")
            fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError as error:
        tell(f"warning: nothing keeps other builds off this GPU meanwhile: '{path}': {error.strerror}")
    try:
        yield
    finally:
        if lock is not None:
            os.close(lock)  # the lock ends with the file, or with the process


# ---- CUDA


class Cuda:
    """The few calls of the CUDA driver API that are needed: device 0, in the primary context, as TensorRT."""

    def __init__(self) -> None:
        device, context, version = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_int()
        try:
            self.library = ctypes.CDLL("libcuda.so.1")
            self("cuInit", 0)
            self("cuDeviceGet", ctypes.byref(device), 0)
        except OSError:
            raise Refusal("missing-driver", "there is no NVIDIA driver: libcuda.so.1 was not found") from None
        except Refusal as refusal:
            raise Refusal("missing-driver", f"the NVIDIA driver finds no GPU: {refusal.args[1]}") from None
        self("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self("cuCtxSetCurrent", context)
        self("cuDriverGetVersion", ctypes.byref(version))
        name = ctypes.create_string_buffer(128)
        self("cuDeviceGetName", name, 128, device)
        self.name = name.value.decode()
        self.driver = f"CUDA {version.value // 1000}.{version.value % 1000 // 10}"  # the newest that it runs
        self.compute_capability = f"{self._attribute(75, device)}.{self._attribute(76, device)}"

    def __call__(self, function: str, *arguments: Any) -> None:
        status = getattr(self.library, function)(*arguments)
        if status:
            raise Refusal("cuda-failed", f"{function} answered with error {status}")

    def _attribute(self, number: int, device: ctypes.c_int) -> int:
        value = ctypes.c_int()
        self("cuDeviceGetAttribute", ctypes.byref(value), number, device)
        return value.value

    def create(self, function: str, *arguments: Any, kind: Any = ctypes.c_void_p) -> Any:
        """What ``function`` makes: a stream, an event, or memory; it is freed when the process ends."""
        made = kind()
        self(function, ctypes.byref(made), *arguments)
        return made


# ---- TensorRT


def import_tensorrt() -> tuple[Any, tuple[int, ...]]:
    """The module and its version, from 8.5 (the first with tensor addresses by name) to 11."""
    try:
        import tensorrt
    except ImportError as error:
        raise Refusal("missing-tensorrt", f"{sys.executable} cannot import tensorrt: {error}") from None
    version = tuple(int(part) for part in re.findall(r"\d+", tensorrt.__version__)[:3])
    if not (8, 5) <= version < (12,):
        raise Refusal("wrong-tensorrt", f"expected TensorRT 8.5 to 11, got {tensorrt.__version__}")
    return tensorrt, version


def is_typed(spec: dict[str, Any], version: tuple[int, ...], options: argparse.Namespace) -> bool:
    """Whether this version builds the typed file; the other one gets its precision from flags, as DLA before 11."""
    first = (11,) if options.flags or options.dla is not None else TYPED
    return version >= first and bool(spec["typed_sha256"])


def check_device(spec: dict[str, Any], cuda: Cuda, version: tuple[int, ...], dla: int | None) -> None:
    """The GPU is the one that the bundle was made for, and has the arithmetic that it needs."""
    wanted, found = spec["compute_capability"], f"'{cuda.name}' with {cuda.compute_capability}"
    if wanted and cuda.compute_capability != wanted:
        raise Refusal("wrong-gpu", f"'{spec['target']}' has compute capability {wanted}, got {found}")
    if spec["precision"] != "fp16" and cuda.compute_capability in WITHOUT_INT8:
        raise Refusal("wrong-gpu", f"expected a GPU with INT8 arithmetic, got {found}")
    if version >= (11,) and not spec["typed_sha256"]:
        raise Refusal("wrong-tensorrt", "TensorRT 11 takes types from the file alone, and the bundle has no typed file")
    for option in ("hardware_compatible", "version_compatible"):
        if spec[option] and version < (8, 6):
            raise Refusal("wrong-tensorrt", f"'{option}' needs TensorRT 8.6")
    if dla is not None:
        check_dla(spec, version)


def check_dla(spec: dict[str, Any], version: tuple[int, ...]) -> None:
    """The board has one, this TensorRT knows it, and the network is in the type that it takes."""
    if not spec["dla"]:
        raise Refusal("wrong-gpu", f"'{spec['target']}' has no DLA")
    if not any(first <= version < last for first, last in DLA_VERSIONS):
        raise Refusal("wrong-tensorrt", "DLA needs TensorRT 8.5 to 10.7, or 11.4.1 with JetPack 7.2.2 on an AGX Orin")
    if spec["precision"] != "fp16":
        raise Refusal("wrong-tensorrt", "DLA takes no Q/DQ before TensorRT 11: build the bundle with --precision fp16")
    placed, fallback = spec["dla"]["num_nodes"], spec["dla"]["fallback"]
    tell(f"by NVIDIA's list the DLA takes {placed} nodes, in {spec['dla']['num_pieces']} pieces; on the GPU stay:")
    for name, reason in fallback.items():
        tell(f"  {name}: {reason}")
    if spec["dla"]["num_pieces"] > MOST_PIECES:
        tell(f"warning: a core holds {MOST_PIECES} pieces at the same time")


def make_logger(trt: Any) -> Any:
    """Sends TensorRT's lines to standard error; TensorRT's own logger writes to standard output."""

    class Log(trt.ILogger):  # type: ignore[misc]  # tensorrt is not there when types are checked
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, msg: str) -> None:
            if int(severity) > int(trt.ILogger.WARNING):
                return
            is_error = int(severity) <= int(trt.ILogger.ERROR)
            tell(f"TensorRT {'error' if is_error else 'warning'}: {msg}")
            if is_error:
                self.errors = [*self.errors, msg][-LAST_ERRORS:]

        def last(self) -> str:
            return "; ".join(self.errors) or "it gave no reason"

    return Log()


def make_monitor(trt: Any) -> Any:
    """Reports the outermost phases of a build as {"done": ..., "total": ...} lines, and the time left."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # as above
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.phases: dict[str, tuple[int, float]] = {}
            self.told = time.monotonic()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if parent_phase is None:
                self.phases[phase_name] = (num_steps, time.monotonic())

        def step_complete(self, phase_name: str, step: int) -> bool:
            if phase_name in self.phases:
                (total, started), now = self.phases[phase_name], time.monotonic()
                say({"done": step + 1, "total": total})
                if now - self.told > HEARTBEAT_S / 4:
                    left = (now - started) * (total - step - 1) / (step + 1)
                    tell(f"  {phase_name}: {step + 1} of {total}, about {left:.0f} s left")
                    self.told = now
            return True

        def phase_finish(self, phase_name: str) -> None:
            self.phases.pop(phase_name, None)

    return Monitor()


@contextlib.contextmanager
def heartbeat() -> Iterator[None]:
    """Tell how long a build has been going on; TensorRT before 10 says nothing of it."""
    done, started = threading.Event(), time.monotonic()

    def beat() -> None:
        while not done.wait(HEARTBEAT_S):
            tell(f"  building for {time.monotonic() - started:.0f} s; a MobileNet takes one to three minutes")

    threading.Thread(target=beat, daemon=True).start()
    try:
        yield
    finally:
        done.set()


def configure(
    trt: Any, version: tuple[int, ...], builder: Any, spec: dict[str, Any], cache: bytes, options: argparse.Namespace
) -> Any:
    """Precision, workspace, timing cache, verbosity and compatibility, in the words of the version."""
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, spec["workspace_bytes"])
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if not is_typed(spec, version, options):
        config.set_flag(trt.BuilderFlag.FP16)
        if spec["precision"] != "fp16":
            config.set_flag(trt.BuilderFlag.INT8)
    if spec["hardware_compatible"]:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    if spec["version_compatible"]:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.dla is not None:
        config.default_device_type = trt.DeviceType.DLA
        config.DLA_core = options.dla
        config.set_flag(trt.BuilderFlag.GPU_FALLBACK)
    if options.level is not None:
        config.builder_optimization_level = options.level
    if version >= (10,):
        config.progress_monitor = make_monitor(trt)
    config.set_timing_cache(config.create_timing_cache(cache), False)
    return config


def network_flags(trt: Any, version: tuple[int, ...], typed: bool) -> int:
    """What ``create_network`` wants to hear."""
    if typed:
        return 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    return 1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH) if version < (10,) else 0


def build(
    trt: Any, version: tuple[int, ...], spec: dict[str, Any], options: argparse.Namespace, cache: bytes, batch: int
) -> tuple[bytes, bytes]:
    """(engine, timing cache) of the file that this version takes."""
    typed, logger = is_typed(spec, version, options), make_logger(trt)
    model = options.typed if typed else options.model
    try:
        builder = trt.Builder(logger)
    except TypeError as error:  # the bindings' way to say that TensorRT gave them no builder
        raise Refusal("missing-driver", f"TensorRT found no GPU that it can use: {error}") from None
    network = builder.create_network(network_flags(trt, version, typed))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(model):
        errors = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
        raise Refusal("engine-build-failed", f"TensorRT cannot read '{model}': {errors}")
    if batch > 1:
        network.get_input(0).shape = [batch, *spec["input_shape"][1:]]
    config = configure(trt, version, builder, spec, cache, options)
    with heartbeat():
        plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise Refusal("engine-build-failed", f"TensorRT built no engine: {logger.last()}")
    return bytes(plan), bytes(config.get_timing_cache().serialize())


class Engine:
    """A loaded engine, its input (float32) and its outputs bound to device memory.

    ``spec`` is engine_spec.json: it names the outputs in the file's order, and TensorRT may list them in another.
    """

    def __init__(self, trt: Any, cuda: Cuda, plan: bytes, spec: dict[str, Any], dla: int | None = None) -> None:
        self.trt, self.cuda, self.graph = trt, cuda, None
        self.logger = make_logger(trt)
        self.runtime = trt.Runtime(self.logger)
        if spec["version_compatible"]:  # a version-compatible engine brings code of its own along
            self.runtime.engine_host_code_allowed = True
        if dla is not None:
            self.runtime.DLA_core = dla
        self.engine = self.runtime.deserialize_cuda_engine(plan)
        if self.engine is None:
            why = self.logger.last()
            raise Refusal("foreign-engine", f"TensorRT refuses the engine, of another GPU or version: {why}")
        self.context = self.engine.create_execution_context()
        self.stream = cuda.create("cuStreamCreate", 0)
        self.events = [cuda.create("cuEventCreate", 0) for _ in range(2)]
        names = [self.engine.get_tensor_name(i) for i in range(self.engine.num_io_tensors)]
        given = [name for name in names if self.engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        if len(given) != 1 or set(names) - set(given) != set(spec["outputs"]):
            raise Refusal("foreign-engine", f"expected one input and {', '.join(spec['outputs'])}, got {names}")
        self.batch = self.engine.get_tensor_shape(given[0])[0]
        self.input = self._bind(given[0], "FLOAT")
        types = {name: self.engine.get_tensor_dtype(name).name for name in spec["outputs"]}
        self.outputs = [(*self._bind(name, kind), STORED[kind]) for name, kind in types.items()]

    def _bind(self, name: str, kind: str) -> tuple[ctypes.c_uint64, int]:
        """Memory for a tensor, and its size in bytes."""
        if kind not in STORED:
            raise Refusal("foreign-engine", f"expected '{name}' in one of {', '.join(STORED)}, got {kind}")
        num_bytes = array.array(STORED[kind]).itemsize * math.prod(self.engine.get_tensor_shape(name))
        pointer = self.cuda.create("cuMemAlloc_v2", ctypes.c_size_t(num_bytes), kind=ctypes.c_uint64)
        self.context.set_tensor_address(name, pointer.value)
        return pointer, num_bytes

    def upload(self, images: bytes) -> None:
        """Put a batch into the input's memory."""
        pointer, num_bytes = self.input
        self.cuda("cuMemcpyHtoD_v2", pointer, images, ctypes.c_size_t(num_bytes))

    def download(self) -> list[array.array[Any]]:
        """Fetch the outputs of a batch, as float32."""
        found: list[array.array[Any]] = []
        for pointer, num_bytes, code in self.outputs:
            raw = ctypes.create_string_buffer(num_bytes)
            self.cuda("cuMemcpyDtoH_v2", raw, pointer, ctypes.c_size_t(num_bytes))
            values = array.array(code, raw.raw)
            found.append(values if code == "f" else array.array("f", values))
        return found

    def enqueue(self) -> None:
        """Start one inference on the stream, kernel by kernel or as the graph that ``capture`` made of them."""
        if self.graph is not None:
            self.cuda("cuGraphLaunch", self.graph, self.stream)
        elif not self.context.execute_async_v3(self.stream.value or 0):
            raise Refusal("cuda-failed", "TensorRT could not start an inference")

    def capture(self) -> None:
        """From now on ``enqueue`` launches a CUDA graph; once without, as the developer guide wants it."""
        self.run(bytes(self.input[1]))
        self.cuda("cuStreamBeginCapture_v2", self.stream, 0)
        self.enqueue()
        captured = ctypes.c_void_p()
        self.cuda("cuStreamEndCapture", self.stream, ctypes.byref(captured))
        self.graph = self.cuda.create("cuGraphInstantiateWithFlags", captured, ctypes.c_ulonglong(0))

    def run(self, images: bytes) -> bytes:
        """One batch to its outputs: those of the first image one after the other, then of the second."""
        self.upload(images)
        self.enqueue()
        self.cuda("cuStreamSynchronize", self.stream)
        found = self.download()

        def part(values: array.array[Any], image: int) -> bytes:
            size = len(values) // self.batch
            return values[image * size : (image + 1) * size].tobytes()

        return b"".join(part(values, image) for image in range(self.batch) for values in found)

    def time(self, calls: int = 1) -> tuple[float, float]:
        """Inferences back to back, in milliseconds for all: between two events on the GPU, and on the host."""
        started, elapsed = time.perf_counter(), ctypes.c_float()
        self.cuda("cuEventRecord", self.events[0], self.stream)
        for _ in range(calls):
            self.enqueue()
        self.cuda("cuEventRecord", self.events[1], self.stream)
        self.cuda("cuEventSynchronize", self.events[1])
        on_host = (time.perf_counter() - started) * 1000
        self.cuda("cuEventElapsedTime", ctypes.byref(elapsed), *self.events)
        return elapsed.value, on_host

    def layers(self) -> list[dict[str, str]]:
        """``name``, ``words`` (where TensorRT says which nodes of the file went in) and ``kind`` of each layer.

        The kind is the type of the first input; layers that only change a tensor's format are ``reformats``.
        """
        text = self.engine.create_engine_inspector().get_engine_information(self.trt.LayerInformationFormat.JSON)
        found = []
        for layer in json.loads(text, strict=False)["Layers"]:  # TensorRT 8.6 writes raw control characters
            if not isinstance(layer, dict):
                continue
            tensors = layer.get("Inputs") or layer.get("Outputs") or [{}]
            words = " ".join(str(v) for k, v in tensors[0].items() if "format" in k.lower() or "type" in k.lower())
            kind = next((name for word, name in TYPES if word in words.upper()), "other")
            if "reformat" in f"{layer.get('LayerType')} {layer.get('Name')}".lower():
                kind = "reformats"
            name = str(layer.get("Name"))
            found.append({"name": name, "words": f"{name} {layer.get('Metadata', '')}", "kind": kind})
        return found


# ---- inspection, proof and measurement


def inspect(engine: Engine, spec: dict[str, Any], typed: bool, record: dict[str, Any]) -> None:
    """Count the layers by the precision that they really have, and demand the one that the bundle promises.

    INT8 is promised by Q/DQ, whatever the version; FP16 only where the types are in the file. Without types it is
    allowed to the builder, who may find float32 faster. A node that no layer names, as those that TensorRT fuses into a
    ``ForeignNode``, is written down as unaccounted for.
    """
    try:
        found = engine.layers()
    except ValueError as error:
        raise Refusal("wrong-precision", f"TensorRT's account of the layers cannot be read: {error}") from None
    counts = {"total": len(found), "int8": 0, "fp16": 0, "fp32": 0, "other": 0, "reformats": 0}
    kinds: dict[str, set[str]] = {}
    for layer in found:
        counts[layer["kind"]] += 1
        for word in re.split(r"[\s()\[\]{},+\x1e\x1f]+", layer["words"]) if layer["kind"] != "reformats" else ():
            kinds.setdefault(word, set()).add(layer["kind"])
    promised = {
        **dict.fromkeys(spec["fp16_layers"] if typed else (), "fp16"),
        **dict.fromkeys(spec["int8_layers"], "int8"),
    }
    record["layers"], record["layer_kinds"] = counts, [[layer["name"], layer["kind"]] for layer in found]
    record["unaccounted"] = [name for name in promised if name not in kinds]
    least = {"int8": {"int8"}, "fp16": {"int8", "fp16"}}
    wrong = [name for name, kind in promised.items() if name in kinds and not kinds[name] & least[kind]]
    if spec["int8_layers"] and not counts["int8"]:
        wrong = wrong or spec["int8_layers"]
    if wrong:
        named = ", ".join(f"'{name}' ({'/'.join(sorted(kinds.get(name, ['?'])))})" for name in wrong[:5])
        raise Refusal("wrong-precision", f"{len(wrong)} layers are not in the precision of the file: {named}")
    if spec["max_reformats"] is not None and counts["reformats"] > spec["max_reformats"]:
        expected = f"{counts['reformats']} reformats, expected at most {spec['max_reformats']}"
        raise Refusal("too-many-reformats", f"the engine has {expected}")


def largest(values: Any) -> int:
    """The first of the largest; NaN is none."""
    return max(range(len(values)), key=lambda index: (values[index] == values[index], values[index]))


def ratio_db(signal: float, noise: float) -> float:
    """Of two sums of squares; NaN is the worst noise."""
    return 10 * math.log10(max(signal, 1e-30) / max(noise, 1e-30)) if noise == noise else -math.inf


def prove(engine: Engine, spec: dict[str, Any], golden: str, batch: int) -> dict[str, Any]:
    """Run the golden inputs: every output must be as near to the reference's as engine_spec.json demands.

    ``sqnr_db`` is the worst output's; an image agrees if the largest of every output is where the reference has it.
    """
    places, size_out = {}, 0
    for name, shape in spec["outputs"].items():
        places[name] = slice(size_out, size_out + math.prod(shape))
        size_out = places[name].stop
    size_in, count = math.prod(spec["input_shape"]), spec["num_golden"]
    with open(golden, "rb") as file:
        values = array.array("f", file.read())
    inputs, outputs = values[: count * size_in], values[count * size_in :]
    signal, noise = dict.fromkeys(places, 0.0), dict.fromkeys(places, 0.0)
    agreed = 0
    for first in range(0, count, batch):
        slots = [(first + k) % count for k in range(batch)]  # a batch that is not full takes the first ones again
        images = b"".join(inputs[i * size_in : (i + 1) * size_in].tobytes() for i in slots)
        answers = array.array("f", engine.run(images))
        for k, i in enumerate(slots[: count - first]):
            wanted, found = outputs[i * size_out : (i + 1) * size_out], answers[k * size_out : (k + 1) * size_out]
            for name, place in places.items():
                signal[name] += sum(value * value for value in wanted[place])
                noise[name] += sum(value * value for value in map(operator.sub, found[place], wanted[place]))
            agreed += all(largest(found[place]) == largest(wanted[place]) for place in places.values())
    sqnr_db, worst = min((ratio_db(signal[name], noise[name]), name) for name in places)
    if not sqnr_db >= spec["least_sqnr_db"]:
        message = f"the engine answers unlike the reference: '{worst}' has {sqnr_db:.1f} dB on {count} golden inputs"
        raise Refusal("golden-mismatch", f"{message}, expected at least {spec['least_sqnr_db']:.1f}")
    return {"num_golden": count, "agreed": agreed, "sqnr_db": sqnr_db}


def measure(engine: Engine, budget_s: float, batch: int) -> dict[str, Any]:
    """Every sample after a warm-up that ends when times are steady, and the state of the board around them.

    Calls one by one give ``gpu_ms`` and ``host_ms``, back to back the throughput. Copies between host and GPU, from
    pageable memory, are in neither.
    """
    before = state()
    num_warmup, now = warm_up(engine.time, budget_s / 4)
    if before["clocks_locked"] is False:
        tell("warning: the clocks are not locked ('sudo jetson_clocks'): times will vary")
    count = max(MIN_SAMPLES, min(MAX_SAMPLES, int(1000 * budget_s / max(now, 1e-3))))
    samples = [engine.time() for _ in range(count)]
    times = {"gpu_ms": [sample[0] for sample in samples], "host_ms": [sample[1] for sample in samples]}
    together = engine.time(count)[0]
    return {
        **times,
        "batch": batch,
        "images_per_s": 1000 * batch * count / max(together, 1e-6),
        "cuda_graph": engine.graph is not None,
        "copy_ms": copies(engine),
        "num_warmup": num_warmup,
        "before": before,
        "after": state(),
    }


def warm_up(invoke: Callable[[], object], limit_s: float) -> tuple[int, float]:
    """(calls, the last group's median) until the medians are steady, or the limit is spent: edgec's own rule."""
    deadline, count = time.perf_counter() + limit_s, 0
    medians: list[float] = []
    while True:
        size, taken = group_size(medians), []
        for _ in range(size):
            started = time.perf_counter_ns()
            invoke()
            taken.append((time.perf_counter_ns() - started) / 1e6)
        medians.append(statistics.median(taken))
        count += size
        if is_steady(medians) or time.perf_counter() > deadline:
            return count, medians[-1]


def group_size(medians: list[float]) -> int:
    """Calls in the next group, after groups with these medians."""
    return 1 if medians and medians[-1] > SLOW_MS else GROUP


def is_steady(medians: list[float]) -> bool:
    """The least-squares slope through the logarithms of the last groups' medians is flat."""
    if len(medians) < WINDOW:
        return False
    middle = (WINDOW - 1) / 2
    rise = sum((place - middle) * math.log(max(value, 1e-9)) for place, value in enumerate(medians[-WINDOW:]))
    slope = rise / sum((place - middle) ** 2 for place in range(WINDOW))
    return abs(slope) * WINDOW < STEADY


def copies(engine: Engine) -> dict[str, float]:
    """Median milliseconds of bringing a batch in and its answers out."""
    images = bytes(engine.input[1])
    medians = {}
    for name, call in (("in", lambda: engine.upload(images)), ("out", engine.download)):
        taken = []
        for _ in range(COPIES):
            started = time.perf_counter()
            call()
            taken.append((time.perf_counter() - started) * 1000)
        medians[name] = sorted(taken)[COPIES // 2]
    return medians


def read_mhz(name: str) -> float | None:
    """A clock of a Jetson's GPU: its node is called gpu, gv11b, ga10b or gp10b."""
    for path in sorted(glob.glob(f"/sys/class/devfreq/*g[pva]*/{name}")):
        with contextlib.suppress(OSError, ValueError), open(path, encoding="ascii") as file:
            return int(file.read()) / 1e6
    return None


def ask(*command: str) -> str | None:
    """What a tool prints, where the board has it."""
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    return done.stdout.decode(errors="replace").strip() or None


def state() -> dict[str, Any]:
    """GPU clock in MHz and whether it is locked, power mode, and what the board's own tools say of heat and power."""
    clock, low, high = (read_mhz(name) for name in ("cur_freq", "min_freq", "max_freq"))
    mode = re.search(r"Power Mode:\s*(\S+)", ask("nvpmodel", "-q") or "")
    fields = "--query-gpu=clocks.sm,clocks.max.sm,temperature.gpu,power.draw"
    return {
        "clock_mhz": clock,
        "clocks_locked": low == high if low and high else None,
        "power_mode": mode.group(1) if mode else None,
        "tegrastats": (ask("timeout", "2", "tegrastats") or "").split("\n")[0] or None,
        "nvidia_smi": ask("nvidia-smi", fields, "--format=csv,noheader"),
    }


def predict(engine: Engine, images: str, outputs: str) -> dict[str, Any]:
    """Run every image of a raw float32 file."""
    size = engine.input[1]
    total = os.path.getsize(images) // size
    with open(images, "rb") as source, open(outputs, "wb") as sink:
        for done in range(1, total + 1):
            sink.write(engine.run(source.read(size)))
            if done % 16 == 0 or done == total:
                say({"done": done, "total": total})
    return {"outputs": outputs, "num_images": total}


# ---- the whole


def work(options: argparse.Namespace) -> dict[str, Any]:
    """Check; then one engine, or each candidate's."""
    spec = {} if options.facts else read_spec(options)
    say({"phase": "find driver and TensorRT"})
    cuda = Cuda()
    trt, version = import_tensorrt()
    key = {"gpu": cuda.name, "compute_capability": cuda.compute_capability, "driver": cuda.driver}
    key["tensorrt"] = trt.__version__
    if options.facts:
        return key
    if options.dla is None:
        options.dla = spec["dla_core"]
    if options.flags and version >= (11,):
        raise Refusal("wrong-tensorrt", "TensorRT 11 has no flags for precision: it takes the typed file")
    if options.level is not None and version < (8, 6):
        raise Refusal("wrong-tensorrt", "--level is for TensorRT 8.6 and later")
    check_device(spec, cuda, version, options.dla)
    if options.check:
        return {**key, "spec_sha256": sha256(options.spec)}
    if options.precision:
        return candidates(trt, cuda, version, key, options)
    return one_engine(trt, cuda, version, key, spec, options)


def candidates(
    trt: Any, cuda: Cuda, version: tuple[int, ...], found: dict[str, Any], options: argparse.Namespace
) -> dict[str, Any]:
    """Build and measure the bundle's candidates, or the one asked for; the engine that pays becomes the bundle's.

    One that is refused takes no part. What each loses against float was found where the bundle was made.
    """
    table_path = os.path.join(os.path.dirname(options.spec), "candidates.json")
    sha256(table_path)
    with open(table_path, encoding="utf-8") as file:
        table: dict[str, Any] = json.load(file)
    names = list(table) if options.precision == "auto" else [options.precision]
    if not set(names) <= set(table):
        raise Refusal("missing-file", f"the bundle holds {', '.join(table)}, not '{options.precision}'")
    results: dict[str, Any] = {}
    runs: dict[str, Any] = {}
    for name in names:
        tell(f"candidate {name}")
        folder = os.path.join(os.path.dirname(options.spec), table[name]["folder"])
        files = {field: os.path.join(folder, file) for field, file in FILES.items()}
        own = argparse.Namespace(**{**vars(options), **files, "output": os.path.join(options.output, "built", name)})
        own.predict = None  # only the one that is chosen is asked
        try:
            spec = read_spec(own)
            check_device(spec, cuda, version, options.dla)
            results[name] = one_engine(trt, cuda, version, found, spec, own)
        except Refusal as refusal:
            results[name] = refusal.answer()
            tell(f"candidate {name} is refused: {refusal.args[1]}")
        else:
            runs[name] = functools.partial(one_engine, trt, cuda, version, found, spec, own)
    if not runs:
        raise Refusal(*next((done["error"], done["message"]) for done in results.values()))
    p50_ms = {name: median(done["latency"]["gpu_ms"]) for name, done in results.items() if "latency" in done}
    losses = {name: entry["loss_pp"] for name, entry in table.items()}
    chosen, verdict = weigh(p50_ms, losses) if p50_ms else (next(iter(runs)), "nothing was measured to choose by")
    tell(verdict)
    answer = results[chosen]
    if options.predict:
        runs[chosen].args[-1].predict = options.predict
        answer = {**answer, **runs[chosen]()}
    kept = {os.path.basename(path): read_bytes(path) for path in answer["products"]}
    keep(options.output, kept)
    summary = {name: {"p50_ms": p50_ms.get(name), **table[name], **_refusal(done)} for name, done in results.items()}
    products = [os.path.join(options.output, name) for name in kept]
    return {**answer, "precision": chosen, "verdict": verdict, "candidates": summary, "products": products}


def _refusal(done: dict[str, Any]) -> dict[str, Any]:
    return {name: done[name] for name in ("error", "message") if name in done}


def median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def weigh(p50_ms: dict[str, float], loss_pp: dict[str, float]) -> tuple[str, str]:
    """Which precision to ship and why: the fastest that gains enough over FP16 and loses little enough against it."""
    if "fp16" not in p50_ms:
        chosen = min(p50_ms, key=lambda name: p50_ms[name])
        return chosen, f"ship {chosen.upper()}: there is no FP16 to weigh it with"
    gains = {name: p50_ms["fp16"] / value for name, value in p50_ms.items() if name != "fp16"}
    losses = {name: loss_pp[name] - loss_pp["fp16"] for name in gains}
    paying = [name for name in gains if gains[name] >= LEAST_GAIN and losses[name] <= MOST_LOSS_PP]
    chosen = max(paying, key=lambda name: gains[name]) if paying else "fp16"
    words = [f"{name.upper()} gains {gains[name]:.2f}x for {losses[name]:.1f} pp" for name in gains]
    return chosen, f"ship {chosen.upper()}: " + (", ".join(words) or "it is the only one")


def one_engine(
    trt: Any,
    cuda: Cuda,
    version: tuple[int, ...],
    found: dict[str, Any],
    spec: dict[str, Any],
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Build unless it was built before and keep; then inspect, prove, measure, and write down what came of each."""
    key = {**found, "spec_sha256": sha256(options.spec), "batch": options.batch, "dla": options.dla}
    key["level"] = options.level
    key["typed"] = is_typed(spec, version, options)
    names = tuple(f"batch{options.batch}-{name}" if options.batch > 1 else name for name in PRODUCTS)
    plan, record = built_before(options.output, names, key)
    if not plan:
        with alone_on(key["gpu"]):
            plan, record = built_before(options.output, names, key)  # by the one that was waited for
            if not plan:
                plan, record = new_engine(trt, version, key, spec, options, names)
    try:
        with phase("load", record):
            engine = Engine(trt, cuda, plan, spec, options.dla)
        with phase("inspect", record):
            inspect(engine, spec, key["typed"], record)
        with phase("prove", record):
            record["golden"] = prove(engine, spec, options.golden, options.batch)
    except Refusal as refusal:
        refused = {"status": "refused", "refusal": refusal.answer()}
        keep(options.output, {names[2]: as_json({**record, **refused})})
        raise
    record.pop("refusal", None)
    record["status"] = "proved"
    predicted = predict(engine, *options.predict) if options.predict else {}
    if options.budget_s > 0 and not options.predict:
        if options.cuda_graph:
            engine.capture()
        with alone_on(key["gpu"]), phase("measure", record):
            record["latency"] = measure(engine, options.budget_s, options.batch)
    keep(options.output, {names[2]: as_json(record)})
    products = [os.path.join(options.output, name) for name in names]
    if options.copy:
        products = [shutil.copyfile(path, path + ".copy") for path in products]
    return {**record, **predicted, "products": products}


def new_engine(
    trt: Any,
    version: tuple[int, ...],
    key: dict[str, Any],
    spec: dict[str, Any],
    options: argparse.Namespace,
    names: tuple[str, ...],
) -> tuple[bytes, dict[str, Any]]:
    """Build, and keep engine, timing cache and a first record at once."""
    record: dict[str, Any] = {"key": key, "status": "failed", "precision": spec["precision"]}
    shared = options.timing_cache or shared_cache(key)
    cache = read_bytes(shared) or read_bytes(os.path.join(options.output, names[1]))
    tell(f"building for '{key['gpu']}' with TensorRT {key['tensorrt']}: this takes minutes; as trtexec does it:")
    tell("  " + spec["trtexec_typed" if key["typed"] else "trtexec"])
    os.makedirs(options.output, exist_ok=True)
    try:
        with phase("build", record):
            plan, cache = build(trt, version, spec, options, cache, options.batch)
    except Refusal as refusal:
        record["refusal"] = refusal.answer()
        keep(options.output, {names[2]: as_json(record)})
        raise
    digests = {"engine_sha256": plan, "timing_cache_sha256": cache}
    record.update(status="built", **{name: hashlib.sha256(content).hexdigest() for name, content in digests.items()})
    keep(options.output, {names[0]: plan, names[1]: cache, names[2]: as_json(record)})
    try:
        keep(os.path.dirname(shared), {os.path.basename(shared): cache})
    except OSError as error:
        tell(f"warning: the timing cache is not shared with other bundles: '{shared}': {error.strerror}")
    return plan, record


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    command = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, file in {**FILES, "output": ""}.items():
        command.add_argument(f"--{name}", default=os.path.join(HERE, file), metavar="PATH")
    command.add_argument("--facts", action="store_true")
    command.add_argument("--check", action="store_true")
    command.add_argument("--predict", nargs=2, metavar=("IN", "OUT"))
    command.add_argument("--precision", metavar="NAME", help="of the bundle's candidates; 'auto': the one that pays")
    command.add_argument("--budget-s", type=float, default=8.0, help="seconds of measuring")
    command.add_argument("--batch", type=int, default=1, help="images at a time")
    command.add_argument("--level", type=int, choices=range(6), help="TensorRT's effort; its own default is 3")
    command.add_argument("--cuda-graph", action="store_true", help="measure launches of a CUDA graph")
    command.add_argument(
        "--dla", type=int, metavar="CORE", help="what DLA can, on this core of it; the rest on the GPU"
    )
    command.add_argument("--flags", action="store_true", help="model.onnx and flags, with TensorRT 10 too")
    command.add_argument("--timing-cache", metavar="PATH", help="shared between bundles; ~/.cache/edgec by default")
    command.add_argument("--attached", action="store_true", help="for edgec: stop when standard input ends")
    command.add_argument("--copy", action="store_true", help="for edgec: copies of the products, to be moved")
    command.add_argument("--answers", type=int, help=argparse.SUPPRESS)  # a pipe: this is the worker
    return command.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0, or 1 with an error as the answer."""
    global answers_to
    options = parse(arguments)
    os.environ.setdefault("CUDA_MODULE_LOADING", "LAZY")
    if options.attached:
        end_with_connection()
    if options.answers is None:
        return supervise(sys.argv[1:] if arguments is None else arguments)
    die_with_parent()
    answers_to, sys.excepthook = options.answers, answer_anyway
    try:
        answer = work(options)
    except Refusal as refusal:
        answer = refusal.answer()
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        answer = {"error": "remote-disk-full", "message": f"no space left for '{error.filename}'"}
    say(answer)
    return 1 if "error" in answer else 0


if __name__ == "__main__":
    sys.exit(main())
