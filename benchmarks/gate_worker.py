"""The gate's measuring process (``pipeline/gate/worker.py``), with constant work timed before every block.

    python benchmarks/gate_worker.py REQUEST.json

The constant work is what a control variate needs (Lavenberg & Welch, Management Science 27, 1981): its own time is
known to be the same, so that what it takes longer is the machine's doing. Prints one JSON line: ``blocks`` of each
contestant as the gate's process does, and ``kernel``, milliseconds of the constant work before each of them.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from edgec.pipeline.forms.measure import cpu_model, time_block, warm_up
from edgec.pipeline.gate.fingerprint import read_fingerprint
from edgec.pipeline.gate.worker import BLOCK_MS, MIN_TURNS, WARM_UP_S, Request, load_contestants, pin, turn_order

KERNEL_PRODUCTS = 20
KERNEL_SIDE = 60
"""Below the size from which OpenBLAS takes several threads."""
KERNEL_BYTES = 2**20
"""More than the second level of caches holds of one core, so that a neighbour's use of the third is seen."""


def main(path: str) -> None:
    request = Request(**json.loads(Path(path).read_text()))
    device = cpu_model()
    pin(request.threads)
    contestants, kernel = load_contestants(request), constant_work()
    warmed = [warm_up(invoke, limit_s=WARM_UP_S + request.turn_s / 8).last_ms for invoke in contestants]
    count = max(1, round(BLOCK_MS / max(*warmed, 1e-3)))
    warm_up(kernel, limit_s=WARM_UP_S)
    blocks: list[list[Any]] = [[] for _ in contestants]
    before: list[list[float]] = [[] for _ in contestants]
    deadline, turn = time.perf_counter() + request.turn_s, 0
    while turn < MIN_TURNS or time.perf_counter() < deadline:
        for index in turn_order(len(contestants), turn):
            before[index].append(float(time_block(kernel, 1)[0]))
            blocks[index].append(np.round(time_block(contestants[index], count), 6).tolist())
        turn += 1
    fingerprint = asdict(read_fingerprint(request.threads, device))
    print(json.dumps({"blocks": blocks, "kernel": before, "fingerprint": fingerprint}))


def constant_work() -> Callable[[], None]:
    """Some 0.2 ms of arithmetic within the first level of caches and of copying beyond the second."""
    matrix, out = np.ones((KERNEL_SIDE, KERNEL_SIDE), np.float32), np.empty((KERNEL_SIDE, KERNEL_SIDE), np.float32)
    source, target = np.zeros(KERNEL_BYTES, np.uint8), np.empty(KERNEL_BYTES, np.uint8)

    def work() -> None:
        for _ in range(KERNEL_PRODUCTS):
            np.matmul(matrix, matrix, out=out)
        np.copyto(target, source)

    return work


if __name__ == "__main__":
    main(sys.argv[1])
