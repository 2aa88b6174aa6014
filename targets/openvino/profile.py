"""Where an inference spends its time, as OpenVINO's CPU plugin counts it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from edgec.targets.openvino.options import OpenVinoOptions
from edgec.targets.openvino.runner import compile_for_cpu

NUM_WARM_UP, NUM_RUNS = 5, 20


def layer_times(artifact: Path, settings: OpenVinoOptions, threads: int) -> dict[str, float]:
    """Mean microseconds of each executed layer with ``PERF_COUNT``, which slows the network itself a little."""
    request = compile_for_cpu(artifact, threads, settings.inference_precision, profiled=True).create_infer_request()
    for _ in range(NUM_WARM_UP):
        request.infer()
    total: Counter[str] = Counter()
    for _ in range(NUM_RUNS):
        request.infer()
        for layer in request.profiling_info:
            if layer.status == layer.Status.EXECUTED:
                total[layer.node_name] += layer.real_time.total_seconds() * 1e6
    return {name: time_us / NUM_RUNS for name, time_us in total.items()}
