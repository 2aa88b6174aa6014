"""What surrounds every quantizer in its own process: arguments in, seconds and peak memory out."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

Images = npt.NDArray[np.float32]


def run(quantize: Callable[[Path, Images, str, Path], None]) -> None:
    """Call ``quantize(float ONNX, calibration (N, 3, H, W), variant, output)`` and print its cost as the last line.

    Imports are outside the time and inside the memory. The memory is ``VmHWM`` of Linux: unlike ``ru_maxrss`` it starts
    anew with the program and holds nothing of the process that started it.
    """
    source, images, variant, output = sys.argv[1:]
    calibration = np.load(images, mmap_mode="r")
    started, cpu_started = time.perf_counter(), time.process_time()
    quantize(Path(source), calibration, variant, Path(output))
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    status = Path("/proc/self/status").read_text().splitlines()
    peak_kb = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_mb": peak_kb / 1024}))
