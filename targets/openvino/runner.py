"""Runs an OpenVINO IR on this machine's CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgec.pipeline.forms.adapter import Batch, OnDevice, stays_here

if TYPE_CHECKING:
    from edgec.pipeline.forms.device import Device
    from edgec.pipeline.forms.spec import TargetSpec


class OpenVinoRunner:
    """An IR compiled for the CPU plugin.

    Args:
        path: the folder with ``model.xml``.
        threads: inference threads.
        precision: what float operators run in. ``f32`` by default: the plugin's own choice is bf16 where the CPU has
            it, and then the same artifact answers differently from machine to machine.
    """

    def __init__(self, path: Path, threads: int, precision: str = "f32") -> None:
        self._compiled = compile_for_cpu(path, threads, precision)

    def predict(self, batch: Batch) -> Batch:
        """``(N, 3, H, W)`` to the first output, image by image as on the device."""
        request = self._compiled.create_infer_request()
        outputs = []
        for image in batch:
            request.infer({0: image[None]}, share_inputs=True)
            outputs.append(request.get_output_tensor(0).data.copy())
        return np.concatenate(outputs).astype(np.float32, copy=False)

    def single(self, image: Batch) -> Callable[[], None]:
        """One image in the request's own input tensor; ``infer`` without arguments neither copies nor allocates."""
        request = self._compiled.create_infer_request()
        request.get_input_tensor(0).data[:] = image

        def invoke() -> None:
            request.infer()

        return invoke


def compile_for_cpu(path: Path, threads: int, precision: str, profiled: bool = False) -> Any:
    """The folder's IR as the CPU plugin executes it: an ``openvino.CompiledModel``; ``profiled`` counts times."""
    import openvino

    config = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": precision,
        "PERF_COUNT": profiled,
    }
    return openvino.Core().compile_model(path / "model.xml", "CPU", config)


def open_runner(artifact: Path, target: TargetSpec, threads: int) -> OpenVinoRunner:
    """The IR with the board's inference precision."""
    return OpenVinoRunner(artifact, threads, str(target.options.get("inference_precision", "f32")))


def on_device(device: Device, artifact: Path, target: TargetSpec, threads: int) -> OnDevice:
    """OpenVINO runs on this machine's CPU alone.

    Raises:
        EdgecError: ``cannot-run-there``.
    """
    raise stays_here(target)
