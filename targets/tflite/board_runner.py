"""What edgec executes on a board, and all that it executes there: one file, Python 3.8 or newer.

Needs numpy and a TFLite runtime (``ai-edge-litert`` or ``tflite-runtime``); ``latency`` is content with TensorFlow
Lite's ``benchmark_model`` on the path. Prints JSON lines: ``{"done": 3, "total": 200}`` on the way, the answer as the
last one, or ``{"error": code, "message": ...}`` and exit status 1. The same file runs on a board behind ssh and in the
emulated userland.

    board_runner.py facts
    board_runner.py predict MODEL INPUTS.npy [--threads N] [--no-xnnpack]
    board_runner.py latency MODEL [--beside FLOAT] [--threads N] [--no-xnnpack] [--budget-s S]
    board_runner.py first MODEL [--threads N] [--no-xnnpack]        (its first answer, in this new process)
    board_runner.py turns MODEL... --turn-s S       (one measuring process of edgec check: all by turns)
    board_runner.py invoke MODEL --times N          (marks each inference for the instruction counter)
"""

from __future__ import annotations

import argparse
import errno
import hashlib
import importlib
import json
import math
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

RUNTIMES = ("ai_edge_litert", "tflite_runtime")
GROUP, WINDOW, STEADY, SLOW_MS = 8, 8, 0.02, 50.0  # of the warm-up, as in edgec.pipeline.forms.measure
MIN_SAMPLES, MAX_SAMPLES = 20, 1000
NUM_BLOCKS = 10  # of each network, as there
BLOCK_MS, MIN_BLOCK_CALLS, MIN_TURNS, WARM_UP_S = 2.0, 1, 5, 0.5  # of turns, as in edgec.pipeline.gate.worker


class Refusal(Exception):
    """What edgec reports under the code ``args[0]``."""


def say(answer: dict[str, Any]) -> None:
    """One JSON line."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def end_with_connection() -> None:
    """Exit when standard input ends: a lost connection leaves nothing running on the board."""

    def watch() -> None:
        while os.read(0, 1024):
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def verify(path: str) -> None:
    """Compare a file named by its sha256 with its content; delete it where they differ, so that it is sent again."""
    digest = os.path.basename(path).partition(".")[0]
    if re.fullmatch("[0-9a-f]{64}", digest) is None:
        return
    sha256 = hashlib.sha256()
    with open(path, "rb") as file:
        for piece in iter(lambda: file.read(1 << 20), b""):
            sha256.update(piece)
    if sha256.hexdigest() != digest:
        os.remove(path)
        raise Refusal("corrupt-upload", f"'{path}' does not have the content that was sent")


# ---- the board


def read_text(path: str) -> str | None:
    """A file of /proc or /sys without its line end, or None where the board has none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip("\0\n ") or None
    except OSError:
        return None


def read_number(path: str) -> float | None:
    """The number in a file of /sys."""
    try:
        return float(read_text(path) or "")
    except ValueError:
        return None


def cpu_name() -> str | None:
    """What /proc/cpuinfo calls the processor, where there is no device tree."""
    names = re.findall(r"^(?:model name|Hardware)\s*:\s*(.+)$", read_text("/proc/cpuinfo") or "", re.MULTILINE)
    return names[0] if names else None


def facts() -> dict[str, Any]:
    """What does not change during a run."""
    cpus = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return {
        "model": read_text("/proc/device-tree/model") or cpu_name(),
        "machine": platform.machine(),
        "num_cores": len(cpus),
        "kernel": platform.release(),
        "governor": read_text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "python": platform.python_version(),
        "runtime": find_runtime(),
    }


def state() -> dict[str, Any]:
    """What changes: clock in MHz, the hottest sensor in degrees Celsius, the firmware's throttling word."""
    clock = read_number("/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq")
    return {"clock_mhz": clock and clock / 1000, "temperature_c": temperature(), "throttled": throttled()}


def clock_limit_mhz() -> float | None:
    """What the first core's clock may rise to."""
    limit = read_number("/sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq")
    return limit and limit / 1000


def pin(threads: int) -> list[int]:
    """Keep this process on as many cores as it has threads: the last ones, interrupts like the first."""
    if not hasattr(os, "sched_setaffinity"):
        return []
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])
    return sorted(os.sched_getaffinity(0))


def steal_s(cores: list[int]) -> float:
    """Eighth number of the ``cpuN`` lines of /proc/stat (proc(5)): what a hypervisor gave to others."""
    lines = [line.split() for line in (read_text("/proc/stat") or "").splitlines()]
    ticks = [int(words[8]) for words in lines if words[:1] and words[0] in {f"cpu{core}" for core in cores}]
    return sum(ticks) / float(os.sysconf("SC_CLK_TCK"))


def clock_throttled(cores: list[int]) -> int:
    """Thermal events of x86 cores."""
    root = "/sys/devices/system/cpu"
    counts = [read_number(f"{root}/cpu{core}/thermal_throttle/core_throttle_count") for core in cores]
    return int(sum(count for count in counts if count is not None))


def temperature() -> float | None:
    """The hottest thermal zone."""
    root = "/sys/class/thermal"
    zones = [name for name in (os.listdir(root) if os.path.isdir(root) else []) if name.startswith("thermal_zone")]
    degrees = [read_number(f"{root}/{name}/temp") for name in zones]
    return max((value / 1000 for value in degrees if value is not None), default=None)


def throttled() -> int | None:
    """Raspberry Pi: the word of ``vcgencmd get_throttled``."""
    tool = shutil.which("vcgencmd")
    if tool is None:
        return None
    done = subprocess.run([tool, "get_throttled"], stdout=subprocess.PIPE, text=True, timeout=10, check=False)
    found = re.search("0x([0-9a-fA-F]+)", done.stdout)
    return int(found.group(1), 16) if found else None


# ---- the runtime


def find_runtime() -> str | None:
    """Name and version of what can run a .tflite here."""
    try:
        name, module = import_runtime()
    except Refusal:
        return "benchmark_model" if shutil.which("benchmark_model") else None
    return f"{name.replace('_', '-')} {getattr(module, '__version__', '')}".strip()


def import_runtime() -> tuple[str, Any]:
    """The first runtime that is installed together with numpy."""
    try:
        importlib.import_module("numpy")
    except ImportError:
        raise Refusal("missing-remote-runtime", f"{sys.executable} has no numpy") from None
    for name in RUNTIMES:
        try:
            importlib.import_module(f"{name}.interpreter")
        except ImportError:
            continue
        return name, importlib.import_module(name)
    raise Refusal("missing-remote-runtime", f"{sys.executable} has neither ai-edge-litert nor tflite-runtime")


def load(options: argparse.Namespace) -> Any:
    """An interpreter with its tensors allocated."""
    verify(options.model)
    name, _ = import_runtime()
    module = importlib.import_module(f"{name}.interpreter")
    kinds = module.OpResolverType
    resolver = kinds.AUTO if options.xnnpack else kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    try:
        interpreter = module.Interpreter(
            model_path=options.model, num_threads=options.threads, experimental_op_resolver_type=resolver
        )
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise Refusal("unusable-artifact", f"the board's runtime refuses the file: {error}") from None
    return interpreter


def predict(options: argparse.Namespace) -> dict[str, Any]:
    """Run every row of INPUTS, already in the model's own type and layout; write the raw outputs beside it."""
    interpreter = load(options)
    verify(options.inputs)
    import numpy as np

    inputs = np.load(options.inputs, mmap_mode="r")
    wanted, details = interpreter.get_input_details()[0], interpreter.get_output_details()
    if inputs.dtype != wanted["dtype"] or tuple(inputs.shape[1:]) != tuple(wanted["shape"][1:]):
        expected = f"{np.dtype(wanted['dtype'])} {wanted['shape'][1:].tolist()}"
        got = f"{inputs.dtype} {list(inputs.shape[1:])}"
        raise Refusal("wrong-input", f"an image does not fit the model's input: expected {expected}, got {got}")
    outputs: list[list[Any]] = [[] for _ in details]
    for row in range(len(inputs)):
        interpreter.set_tensor(wanted["index"], inputs[row : row + 1])
        interpreter.invoke()
        for i, output in enumerate(details):
            outputs[i].append(interpreter.get_tensor(output["index"])[0])
        say({"done": row + 1, "total": len(inputs)})
    path = f"{options.inputs}.{os.path.basename(options.model)[:16]}.outputs.npz"
    np.savez(path, *[np.stack(parts) for parts in outputs])
    return {"outputs": path, "board": facts()}


def bind_zeros(interpreter: Any) -> Callable[[], None]:
    """One inference on an input of zeros."""
    import numpy as np

    wanted = interpreter.get_input_details()[0]
    interpreter.set_tensor(wanted["index"], np.zeros(wanted["shape"], wanted["dtype"]))
    invoke: Callable[[], None] = interpreter.invoke
    return invoke


def invoke_marked(options: argparse.Namespace) -> dict[str, Any]:
    """``times`` inferences after two to warm up; getppid, which does nothing, marks where each begins and ends."""
    invoke = bind_zeros(load(options))
    invoke()
    invoke()
    for _ in range(options.times):
        os.getppid()
        invoke()
        os.getppid()
    return {"times": options.times, "board": facts()}


# ---- latency


def latency(options: argparse.Namespace) -> dict[str, Any]:
    """Every sample in milliseconds, or what ``benchmark_model`` says; the board's state before and after."""
    before = state()
    try:
        invokes = [bind_zeros(load(options))]
    except Refusal as refusal:
        tool = shutil.which("benchmark_model")
        if refusal.args[0] != "missing-remote-runtime" or tool is None:
            raise
        times = run_benchmark_model(tool, options)
        if options.beside:
            times["no_float"] = "benchmark_model times one file at a time"
    else:
        refused = ""
        if options.beside:
            try:
                invokes.append(bind_zeros(load(argparse.Namespace(**{**vars(options), "model": options.beside}))))
            except Refusal as refusal:
                refused = refusal.args[1]
        own, *others = time_in_turns(invokes, options.budget_s)
        times = {**own, "in_float": others[0] if others else None, "no_float": refused}
    return {**times, "board": facts(), "before": before, "after": state()}


def first(options: argparse.Namespace) -> dict[str, Any]:
    """From the file to its first answer in a process that has loaded the library, and the memory that it took."""
    import_runtime()
    before, started = resident_bytes("VmRSS"), time.perf_counter()
    bind_zeros(load(options))()
    load_ms = 1000 * (time.perf_counter() - started)
    return {"load_ms": load_ms, "peak_rss_bytes": resident_bytes("VmHWM") - before if before else None}


def resident_bytes(what: str) -> int:
    """``VmRSS``, of this process now, or ``VmHWM``, the most so far; 0 where the system does not tell."""
    found = re.search(rf"^{what}:\s*(\d+) kB", read_text("/proc/self/status") or "", re.MULTILINE)
    return 1024 * int(found.group(1)) if found else 0


def time_block(invoke: Callable[[], None], count: int) -> list[float]:
    """``count`` single calls in milliseconds."""
    samples = []
    for _ in range(count):
        started = time.perf_counter_ns()
        invoke()
        samples.append((time.perf_counter_ns() - started) / 1e6)
    return samples


def turns(options: argparse.Namespace) -> dict[str, Any]:
    """All loaded and warmed up in this new process, then single calls by turns, and what disturbed them."""
    board, cores = facts(), pin(options.threads)
    order = range(len(options.model))
    loaded: dict[int, Callable[[], None]] = {}
    for place in reversed(order) if options.reverse else order:  # the place in memory is part of the luck
        loaded[place] = bind_zeros(load(argparse.Namespace(**{**vars(options), "model": options.model[place]})))
    invokes = [loaded[place] for place in order]
    warmed = [warm_up(invoke, WARM_UP_S + options.turn_s / 8) for invoke in invokes]
    started, stolen, hot, switches = time.monotonic(), steal_s(cores), clock_throttled(cores), involuntary_switches()
    blocks = time_turns(invokes, [last_ms for _, last_ms, _ in warmed], options.turn_s)
    wall_s = max(time.monotonic() - started, 1e-9)
    measured = {
        "blocks_ms": blocks,
        "num_warmup": [num for num, _, _ in warmed],
        "steady": all(steady for _, _, steady in warmed),
        "involuntary_switches": involuntary_switches() - switches,
        "steal": (steal_s(cores) - stolen) / (wall_s * max(len(cores), 1)),
        "clock_throttled": clock_throttled(cores) - hot,
        "clock_limit_mhz": clock_limit_mhz(),
        "cores": cores,
    }
    return {"turns": measured, "board": board, "after": state()}


def involuntary_switches() -> int:
    """How often another process took the core."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def time_turns(invokes: list[Callable[[], None]], last_ms: list[float], turn_s: float) -> list[list[list[float]]]:
    """Samples in ms by contestant and block, two blocks a turn, until ``turn_s`` is spent and five turns are made."""
    counts = [max(MIN_BLOCK_CALLS, round(BLOCK_MS / max(ms, 1e-3))) for ms in last_ms]
    blocks: list[list[list[float]]] = [[] for _ in invokes]
    deadline, turn = time.perf_counter() + turn_s, 0
    while turn < MIN_TURNS or time.perf_counter() < deadline:
        for place in turn_order(len(invokes), turn):
            blocks[place].append([round(ms, 6) for ms in time_block(invokes[place], counts[place])])
        turn += 1
    return blocks


def turn_order(num_contestants: int, turn: int) -> list[int]:
    """0 1 1 0, then 1 0 0 1, and so on: a rotated order and its mirror image."""
    order = [(place + turn) % num_contestants for place in range(num_contestants)]
    return order + order[::-1]


def time_in_turns(invokes: list[Callable[[], None]], budget_s: float) -> list[dict[str, Any]]:
    """Warm up, for a quarter of the budget at most, then a block of each in turn, forwards and backwards."""
    warmed = [warm_up(invoke, budget_s / 4) for invoke in invokes]
    samples: list[list[float]] = [[] for _ in invokes]
    for turn in range(NUM_BLOCKS):
        for place in range(len(invokes)) if turn % 2 == 0 else reversed(range(len(invokes))):
            wanted = max(MIN_SAMPLES, min(MAX_SAMPLES, int(1000 * budget_s / max(warmed[place][1], 1e-3))))
            samples[place] += time_block(invokes[place], -(-wanted // NUM_BLOCKS))
    return [{"samples_ms": own, "num_warmup": num} for own, (num, _, _) in zip(samples, warmed)]  # noqa: B905 (3.8)


def warm_up(invoke: Callable[[], None], limit_s: float) -> tuple[int, float, bool]:
    """(calls, last group's median, steady) until the medians are steady, or the limit is spent: edgec's own rule."""
    deadline, count = time.perf_counter() + limit_s, 0
    medians: list[float] = []
    while True:
        size = group_size(medians)
        medians.append(statistics.median(time_block(invoke, size)))
        count += size
        steady = is_steady(medians)
        if steady or time.perf_counter() > deadline:
            return count, medians[-1], steady


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


def run_benchmark_model(tool: str, options: argparse.Namespace) -> dict[str, Any]:
    """TensorFlow Lite's own tool. Its last ``count=50 first=... avg=... median=...`` line is in microseconds."""
    verify(options.model)
    command = [tool, f"--graph={options.model}", f"--num_threads={options.threads}", f"--min_secs={options.budget_s}"]
    command += [f"--use_xnnpack={str(options.xnnpack).lower()}", f"--max_secs={4 * options.budget_s}"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    lines = re.findall(r"count=\d+ .*avg=.*", done.stdout)
    if done.returncode or not lines:
        raise Refusal("unusable-artifact", f"benchmark_model failed: {done.stdout[-300:].strip()}")
    values = {name: float(value) for name, value in re.findall(r"(\w+)=(\S+)", lines[-1])}
    p50 = values["median"] / 1000 if "median" in values else None  # not printed by older versions
    return {"num_samples": int(values["count"]), "p50_ms": p50, "mean_ms": values["avg"] / 1000}


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line; ``call`` is the command's function."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    calls: dict[str, Any] = {
        "predict": predict,
        "latency": latency,
        "first": first,
        "turns": turns,
        "invoke": invoke_marked,
    }
    commands.add_parser("facts").set_defaults(call=lambda options: {"board": facts(), "state": state()})
    for name, call in calls.items():
        command = commands.add_parser(name)
        command.set_defaults(call=call)
        command.add_argument("model", nargs="+" if name == "turns" else None)
        command.add_argument("--threads", type=int, default=1)
        command.add_argument("--no-xnnpack", dest="xnnpack", action="store_false")
    commands.choices["predict"].add_argument("inputs")
    commands.choices["latency"].add_argument("--budget-s", type=float, default=8.0)
    commands.choices["latency"].add_argument("--beside")
    commands.choices["turns"].add_argument("--turn-s", type=float, default=2.0)
    commands.choices["turns"].add_argument("--reverse", action="store_true", help="load the last one first")
    commands.choices["invoke"].add_argument("--times", type=int, default=3)
    for command in commands.choices.values():
        command.add_argument("--attached", action="store_true", help="exit when standard input ends")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Do one command and say what came of it."""
    options = parse(arguments)
    if options.attached:
        end_with_connection()
    try:
        say(options.call(options))
    except Refusal as refusal:
        say({"error": refusal.args[0], "message": refusal.args[1]})
        return 1
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        say({"error": "remote-disk-full", "message": f"no space left to write '{error.filename}'"})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
