#!/usr/bin/env python3
"""Builds a TensorRT engine on the device that will run it, proves it with the golden inputs and measures it.

One file, Python 3.8 or newer, the standard library and TensorRT 8.5 to 11. It reads what lies beside it (model.onnx,
engine_spec.json, golden.bin) and writes model.engine, timing.cache and engine.json, each whole or not at all.

    build_engine.py                    check, build unless it was built before, prove, measure
    build_engine.py --check            only check the files, the driver, the GPU and TensorRT
    build_engine.py --facts            only the driver, the GPU and TensorRT
    build_engine.py --predict IN OUT   instead of measuring, run the images of IN; both are raw float32

People read standard error. Programs read standard output: JSON lines, the answer as the last one, or
{"error": code, "message": ...} and exit status 1.
"""

from __future__ import annotations

import argparse
import array
import contextlib
import ctypes
import errno
import glob
import hashlib
import json
import math
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from typing import Any

HERE = os.path.dirname(os.path.abspath(__file__))
PRODUCTS = ("model.engine", "timing.cache", "engine.json")  # the last one vouches for the others
WITHOUT_INT8 = ("5.0", "5.2", "5.3", "6.0", "6.2", "7.0")  # compute capabilities, from TensorRT's support matrix
TYPES = (("INT8", "int8"), ("HALF", "fp16"), ("FP16", "fp16"), ("FLOAT", "fp32"), ("FP32", "fp32"))
WINDOW, STEADY = 32, 0.02  # calls per warm-up window; two windows' medians closer than this end the warm-up
MIN_SAMPLES, MAX_SAMPLES = 20, 1000


class Refusal(Exception):
    """``args`` = (code, message): what is wrong, for edgec and for people."""


def say(answer: dict[str, Any]) -> None:
    """One JSON line on standard output."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def tell(text: str) -> None:
    """One line for people."""
    sys.stderr.write(text + "\n")


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
    """engine_spec.json, after the model and the golden vectors proved to be the files that it describes."""
    sha256(options.spec)
    with open(options.spec, encoding="utf-8") as file:
        spec: dict[str, Any] = json.load(file)
    for path, wanted in ((options.model, spec["model_sha256"]), (options.golden, spec["golden_sha256"])):
        if sha256(path) != wanted:
            raise Refusal("tampered-file", f"'{path}' is not the file that engine_spec.json describes")
    return spec


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


def check_device(spec: dict[str, Any], cuda: Cuda, version: tuple[int, ...]) -> None:
    """The GPU is the one that the bundle was made for, and has the arithmetic that it needs."""
    wanted, found = spec["compute_capability"], f"'{cuda.name}' with {cuda.compute_capability}"
    if wanted and cuda.compute_capability != wanted:
        raise Refusal("wrong-gpu", f"'{spec['target']}' has compute capability {wanted}, got {found}")
    if spec["precision"] == "int8" and cuda.compute_capability in WITHOUT_INT8:
        raise Refusal("wrong-gpu", f"expected a GPU with INT8 arithmetic, got {found}")
    if spec["precision"] == "fp16" and version >= (11,):
        raise Refusal("wrong-tensorrt", "TensorRT 11 takes types from the file alone: FP16 needs 8.5 to 10")
    if spec["hardware_compatible"] and version < (8, 6):
        raise Refusal("wrong-tensorrt", "hardware compatibility needs TensorRT 8.6")


def make_monitor(trt: Any) -> Any:
    """Reports the outermost phases of a build as {"done": ..., "total": ...} lines."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # tensorrt is not there when types are checked
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.totals: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if parent_phase is None:
                self.totals[phase_name] = num_steps

        def step_complete(self, phase_name: str, step: int) -> bool:
            if phase_name in self.totals:
                say({"done": step + 1, "total": self.totals[phase_name]})
            return True

        def phase_finish(self, phase_name: str) -> None:
            self.totals.pop(phase_name, None)

    return Monitor()


def configure(trt: Any, version: tuple[int, ...], builder: Any, spec: dict[str, Any], cache: bytes) -> Any:
    """Precision, workspace, timing cache, verbosity and compatibility, in the words of the version."""
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, spec["workspace_bytes"])
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if version < (11,):  # since then types are those of the file: INT8 by its Q/DQ, the rest FP32
        config.set_flag(trt.BuilderFlag.FP16)
        if spec["precision"] == "int8":
            config.set_flag(trt.BuilderFlag.INT8)
    if spec["hardware_compatible"]:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    if version >= (10,):
        config.progress_monitor = make_monitor(trt)
    config.set_timing_cache(config.create_timing_cache(cache), False)
    return config


def build(trt: Any, version: tuple[int, ...], spec: dict[str, Any], model: str, cache: bytes) -> tuple[bytes, bytes]:
    """(engine, timing cache) of an ONNX file."""
    logger = trt.Logger(trt.Logger.WARNING)
    try:
        builder = trt.Builder(logger)
    except TypeError as error:  # the bindings' way to say that TensorRT gave them no builder
        raise Refusal("missing-driver", f"TensorRT found no GPU that it can use: {error}") from None
    explicit_batch = 1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH) if version < (10,) else 0
    network = builder.create_network(explicit_batch)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(model):
        errors = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
        raise Refusal("engine-build-failed", f"TensorRT cannot read '{model}': {errors}")
    config = configure(trt, version, builder, spec, cache)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise Refusal("engine-build-failed", "TensorRT built no engine: its own words are on standard error")
    return bytes(plan), bytes(config.get_timing_cache().serialize())


class Engine:
    """A loaded engine, its first input and first output bound to device memory; both are float32."""

    def __init__(self, trt: Any, cuda: Cuda, plan: bytes) -> None:
        self.trt, self.cuda = trt, cuda
        self.runtime = trt.Runtime(trt.Logger(trt.Logger.WARNING))
        self.engine = self.runtime.deserialize_cuda_engine(plan)
        if self.engine is None:
            raise Refusal("foreign-engine", "TensorRT refuses the engine: it is of another GPU or version")
        self.context = self.engine.create_execution_context()
        self.stream = cuda.create("cuStreamCreate", 0)
        self.events = [cuda.create("cuEventCreate", 0) for _ in range(2)]
        self.memory: dict[Any, tuple[ctypes.c_uint64, int]] = {}
        for name in [self.engine.get_tensor_name(i) for i in range(self.engine.num_io_tensors)]:
            num_bytes = 4 * math.prod(self.engine.get_tensor_shape(name))
            pointer = cuda.create("cuMemAlloc_v2", ctypes.c_size_t(num_bytes), kind=ctypes.c_uint64)
            self.context.set_tensor_address(name, pointer.value)
            self.memory.setdefault(self.engine.get_tensor_mode(name), (pointer, num_bytes))

    def upload(self, image: bytes) -> None:
        """Put one image into the input's memory."""
        pointer, num_bytes = self.memory[self.trt.TensorIOMode.INPUT]
        self.cuda("cuMemcpyHtoD_v2", pointer, image, ctypes.c_size_t(num_bytes))

    def enqueue(self) -> None:
        """Start one inference on the stream."""
        if not self.context.execute_async_v3(self.stream.value or 0):
            raise Refusal("cuda-failed", "TensorRT could not start an inference")

    def run(self, image: bytes) -> bytes:
        """One image to its outputs."""
        self.upload(image)
        self.enqueue()
        self.cuda("cuStreamSynchronize", self.stream)
        pointer, num_bytes = self.memory[self.trt.TensorIOMode.OUTPUT]
        outputs = ctypes.create_string_buffer(num_bytes)
        self.cuda("cuMemcpyDtoH_v2", outputs, pointer, ctypes.c_size_t(num_bytes))
        return outputs.raw

    def time(self) -> tuple[float, float]:
        """One inference in milliseconds: between two events on the GPU, and from enqueue to its end on the host."""
        started, elapsed = time.perf_counter(), ctypes.c_float()
        self.cuda("cuEventRecord", self.events[0], self.stream)
        self.enqueue()
        self.cuda("cuEventRecord", self.events[1], self.stream)
        self.cuda("cuEventSynchronize", self.events[1])
        on_host = (time.perf_counter() - started) * 1000
        self.cuda("cuEventElapsedTime", ctypes.byref(elapsed), *self.events)
        return elapsed.value, on_host

    def layers(self) -> dict[str, int]:
        """Layers by the type of their input; those that only change a tensor's format are counted apart."""
        text = self.engine.create_engine_inspector().get_engine_information(self.trt.LayerInformationFormat.JSON)
        found = [layer for layer in json.loads(text)["Layers"] if isinstance(layer, dict)]
        counts = {"total": len(found), "int8": 0, "fp16": 0, "fp32": 0, "other": 0, "reformats": 0}
        for layer in found:
            tensors = layer.get("Inputs") or layer.get("Outputs") or [{}]
            words = str(tensors[0].get("Format/Datatype", "")).upper()
            kind = next((name for word, name in TYPES if word in words), "other")
            is_reformat = "reformat" in f"{layer.get('LayerType')} {layer.get('Name')}".lower()
            counts["reformats" if is_reformat else kind] += 1
        return counts


# ---- proof and measurement


def prove(engine: Engine, spec: dict[str, Any], golden: str) -> dict[str, Any]:
    """Run the golden inputs: the outputs must be as near to the reference's as engine_spec.json demands."""
    size_in, size_out, count = math.prod(spec["input_shape"]), math.prod(spec["output_shape"]), spec["num_golden"]
    with open(golden, "rb") as file:
        values = array.array("f", file.read())
    inputs, outputs = values[: count * size_in], values[count * size_in :]
    signal = noise = 0.0
    agreed = 0
    for i in range(count):
        wanted = outputs[i * size_out : (i + 1) * size_out]
        found = array.array("f", engine.run(inputs[i * size_in : (i + 1) * size_in].tobytes()))
        signal += sum(value * value for value in wanted)
        noise += sum((found[k] - wanted[k]) ** 2 for k in range(size_out))
        agreed += found.index(max(found)) == wanted.index(max(wanted))
    sqnr_db = 10 * math.log10(max(signal, 1e-30) / max(noise, 1e-30))
    if not sqnr_db >= spec["least_sqnr_db"]:  # NaN is refused as well
        message = f"the engine answers unlike the reference: {sqnr_db:.1f} dB on {count} golden inputs"
        raise Refusal("golden-mismatch", f"{message}, expected at least {spec['least_sqnr_db']:.1f}")
    return {"num_golden": count, "agreed": agreed, "sqnr_db": sqnr_db}


def measure(engine: Engine, budget_s: float) -> dict[str, Any]:
    """Every sample after a warm-up that ends when times are steady, and the state of the board around them."""
    before, deadline, num_warmup, last = state(), time.perf_counter() + budget_s / 4, 0, math.inf
    while True:
        now = sorted(engine.time()[1] for _ in range(WINDOW))[WINDOW // 2]
        num_warmup += WINDOW
        if abs(now - last) < STEADY * now or time.perf_counter() > deadline:
            break
        last = now
    if before["clocks_locked"] is False:
        tell("warning: the clocks are not locked ('sudo jetson_clocks'): times will vary")
    count = max(MIN_SAMPLES, min(MAX_SAMPLES, int(1000 * budget_s / max(now, 1e-3))))
    samples = [engine.time() for _ in range(count)]
    times = {"gpu_ms": [sample[0] for sample in samples], "host_ms": [sample[1] for sample in samples]}
    return {**times, "num_warmup": num_warmup, "before": before, "after": state()}


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


# ---- the whole


def read_bytes(path: str) -> bytes:
    """A file's content; nothing where there is none."""
    if not os.path.isfile(path):
        return b""
    with open(path, "rb") as file:
        return file.read()


def built_before(folder: str, key: dict[str, Any]) -> bytes:
    """The engine of an earlier run with the same key, or nothing."""
    plan = read_bytes(os.path.join(folder, "model.engine"))
    try:
        record = json.loads(read_bytes(os.path.join(folder, "engine.json")))
    except ValueError:
        return b""
    fits = record.get("key") == key and record.get("engine_sha256") == hashlib.sha256(plan).hexdigest()
    return plan if fits else b""


def write_all(folder: str, contents: tuple[bytes, ...]) -> None:
    """First all files beside their places, then all into place: a full disk leaves the old ones."""
    paths = [os.path.join(folder, name) for name in PRODUCTS]
    for i, path in enumerate(paths):
        with open(path + ".part", "wb") as file:
            file.write(contents[i])
            os.fsync(file.fileno())
    for path in paths:
        os.replace(path + ".part", path)


def predict(engine: Engine, images: str, outputs: str) -> dict[str, Any]:
    """Run every image of a raw float32 file."""
    size = engine.memory[engine.trt.TensorIOMode.INPUT][1]
    total = os.path.getsize(images) // size
    with open(images, "rb") as source, open(outputs, "wb") as sink:
        for done in range(1, total + 1):
            sink.write(engine.run(source.read(size)))
            if done % 16 == 0 or done == total:
                say({"done": done, "total": total})
    return {"outputs": outputs, "num_images": total}


def work(options: argparse.Namespace) -> dict[str, Any]:
    """Everything, in order; nothing is written before the engine is proved."""
    spec = {} if options.facts else read_spec(options)
    cuda = Cuda()
    trt, version = import_tensorrt()
    key = {"gpu": cuda.name, "compute_capability": cuda.compute_capability, "driver": cuda.driver}
    key["tensorrt"] = trt.__version__
    if options.facts:
        return key
    check_device(spec, cuda, version)
    key["spec_sha256"] = sha256(options.spec)
    if options.check:
        return key
    os.makedirs(options.output, exist_ok=True)
    plan, cache = built_before(options.output, key), read_bytes(os.path.join(options.output, "timing.cache"))
    is_new = not plan
    if is_new:
        tell(f"building for '{cuda.name}' with TensorRT {trt.__version__}: this takes minutes; as trtexec does it:")
        tell("  " + spec["trtexec"])
        plan, cache = build(trt, version, spec, options.model, cache)
    engine = Engine(trt, cuda, plan)
    record: dict[str, Any] = {"key": key, "engine_sha256": hashlib.sha256(plan).hexdigest(), "layers": engine.layers()}
    record.update(timing_cache_sha256=hashlib.sha256(cache).hexdigest(), golden=prove(engine, spec, options.golden))
    if spec["max_reformats"] is not None and record["layers"]["reformats"] > spec["max_reformats"]:
        found = f"{record['layers']['reformats']} reformats, expected at most {spec['max_reformats']}"
        raise Refusal("too-many-reformats", f"the engine has {found}")
    predicted = predict(engine, *options.predict) if options.predict else {}
    if options.budget_s > 0 and not options.predict:
        record["latency"] = measure(engine, options.budget_s)
    if is_new or "latency" in record:
        write_all(options.output, (plan, cache, json.dumps(record, indent=1).encode()))
    products = [os.path.join(options.output, name) for name in PRODUCTS]
    if options.copy:
        products = [shutil.copyfile(path, path + ".copy") for path in products]
    return {**record, **predicted, "products": products}


def end_with_connection() -> None:
    """Exit when standard input ends: a lost connection leaves nothing running."""

    def watch() -> None:
        while os.read(0, 1024):
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0, or 1 after a refusal."""
    command = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, file in (("model", "model.onnx"), ("spec", "engine_spec.json"), ("golden", "golden.bin"), ("output", "")):
        command.add_argument(f"--{name}", default=os.path.join(HERE, file), metavar="PATH")
    command.add_argument("--facts", action="store_true")
    command.add_argument("--check", action="store_true")
    command.add_argument("--predict", nargs=2, metavar=("IN", "OUT"))
    command.add_argument("--budget-s", type=float, default=8.0, help="seconds of measuring")
    command.add_argument("--attached", action="store_true", help="for edgec: stop when standard input ends")
    command.add_argument("--copy", action="store_true", help="for edgec: copies of the products, to be moved")
    options = command.parse_args(arguments)
    if options.attached:
        end_with_connection()
    try:
        answer = work(options)
    except Refusal as refusal:
        answer = {"error": refusal.args[0], "message": refusal.args[1]}
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        answer = {"error": "remote-disk-full", "message": f"no space left for '{error.filename}'"}
    say(answer)
    tell(answer.get("message") or "done: " + ", ".join(answer.get("products") or ["this device can build the engine"]))
    return 1 if "error" in answer else 0


if __name__ == "__main__":
    sys.exit(main())
