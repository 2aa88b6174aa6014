"""Runs an OpenVINO IR on this machine's CPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgec.pipeline.forms.compiler import OnDevice, stays_here
from edgec.pipeline.forms.format import Batch, Outputs
from edgec.targets.openvino.options import OpenVinoOptions

if TYPE_CHECKING:
    from edgec.pipeline.forms.device import Device


class OpenVinoRunner:
    """An IR compiled for the CPU plugin.

    Args:
        path: the folder with ``model.xml``.
        threads: inference threads.
        precision: what float operators run in.
    """

    def __init__(self, path: Path, threads: int, precision: str = "f32") -> None:
        self._compiled = compile_for_cpu(path, threads, precision)

    def predict(self, batch: Batch) -> Outputs:
        """``(N, C, H, W)`` to every output, image by image as on the device.

        One after another: two requests that are asked from two threads of Python were seen to wait for each other.
        """
        request, count = self._compiled.create_infer_request(), len(self._compiled.outputs)
        outputs: list[list[Batch]] = [[] for _ in range(count)]
        for image in batch:
            request.infer({0: image[None]}, share_inputs=True)
            for i in range(count):
                outputs[i].append(request.get_output_tensor(i).data.copy())
        return tuple(np.concatenate(parts).astype(np.float32, copy=False) for parts in outputs)

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


def open_runner(artifact: Path, settings: OpenVinoOptions, threads: int) -> OpenVinoRunner:
    """The IR with the board's inference precision."""
    return OpenVinoRunner(artifact, threads, settings.inference_precision)


def on_device(device: Device, artifact: Path, settings: OpenVinoOptions, threads: int) -> OnDevice:
    """OpenVINO runs on this machine's CPU, or on an emulated x86 core, where instructions are counted.

    Raises:
        EdgecError: ``cannot-run-there``.
    """
    from edgec.targets.devices.qemu import QemuDevice, must_take
    from edgec.targets.openvino.device import DeviceRunner

    if not isinstance(device, QemuDevice):
        raise stays_here("OpenVINO")
    must_take(device, "openvino")
    return DeviceRunner(device, artifact, settings.inference_precision)


def describe(device: Device) -> dict[str, Any]:
    """Processor and runtime of a device.

    Raises:
        EdgecError: ``cannot-run-there``; see ``Device.run``.
    """
    from edgec.targets.devices.qemu import must_take
    from edgec.targets.openvino import device as there

    must_take(device, "openvino")
    return asdict(there.describe(device))
