"""Times .tflite files against each other: a process for each, which take turns.

python benchmarks/tflite_time.py FILE.tflite    (the process: reads a number of calls, prints the seconds of each)
"""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

BURST_S = 0.1
"""Of one turn: long beside the switch from another process, short beside what drifts."""

LEAST_ROUNDS = 10


def interleaved(files: dict[str, Path], budget_s: float) -> dict[str, float]:
    """Median milliseconds of each file on one thread: rounds of one burst each, in random order, until time is up."""
    workers = {name: _start(path) for name, path in files.items()}
    try:
        one = {name: statistics.median(_burst(worker, 5)) for name, worker in workers.items()}
        calls = {name: max(1, round(BURST_S / seconds)) for name, seconds in one.items()}
        samples: dict[str, list[float]] = {name: [] for name in files}
        order, until, rounds = random.Random(0), time.monotonic() + budget_s, 0
        while rounds < LEAST_ROUNDS or time.monotonic() < until:
            for name in order.sample(list(files), len(files)):
                samples[name] += _burst(workers[name], calls[name] + 1)[1:]  # the first finds other data in the caches
            rounds += 1
    finally:
        for worker in workers.values():
            worker.stdin.close()
            worker.wait()
    return {name: 1e3 * statistics.median(times) for name, times in samples.items()}


def _start(path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, str(path)]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def _burst(worker: subprocess.Popen[str], calls: int) -> list[float]:
    print(calls, file=worker.stdin, flush=True)
    times: list[float] = json.loads(worker.stdout.readline())
    return times


def answer(path: Path) -> None:
    """Time as many calls as standard input asks for, until it ends."""
    invoke = _invocation(path.read_bytes())
    for line in sys.stdin:
        times = []
        for _ in range(int(line)):
            started = time.perf_counter()
            invoke()
            times.append(time.perf_counter() - started)
        print(json.dumps(times), flush=True)


def _invocation(content: bytes) -> Any:
    """The network alone, its input set; without XNNPACK where that refuses the file."""
    from edgec.pipeline.core.errors import EdgecError
    from edgec.targets.tflite.runner import open_interpreter

    try:
        interpreter = open_interpreter(content, 1, xnnpack=True)
    except EdgecError:
        interpreter = open_interpreter(content, 1, xnnpack=False)
    details = interpreter.get_input_details()[0]
    noise = np.random.default_rng(0).integers(-100, 100, details["shape"])
    interpreter.set_tensor(details["index"], noise.astype(details["dtype"]))
    return interpreter.invoke


if __name__ == "__main__":
    answer(Path(sys.argv[1]))
