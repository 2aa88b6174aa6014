"""Runs an OpenVINO IR on this machine's CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgec.pipeline.core.at_once import Crew, each_at_once, side_by_side
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
        self._compile = partial(compile_for_cpu, path, threads, precision)
        self._at_once, _ = side_by_side(threads)
        self._alone, self._several = Crew(self._one), Crew(self._streams)
        if self._at_once == 1:
            with self._alone.one():  # what cannot be loaded says so at once
                pass

    def predict(self, batch: Batch) -> Outputs:
        """``(N, C, H, W)`` to every output, image by image as on the device, several side by side on the threads."""
        crew = self._alone if len(batch) == 1 or self._at_once == 1 else self._several

        def ask(image: Batch) -> list[Batch]:
            with crew.one() as request:
                request.infer({0: image}, share_inputs=True)
                return [tensor.data.copy() for tensor in request.output_tensors]

        found = each_at_once(ask, [image[None] for image in batch], self._at_once)
        return tuple(np.concatenate(parts).astype(np.float32, copy=False) for parts in zip(*found, strict=True))

    def single(self, image: Batch) -> Callable[[], None]:
        """One image in the request's own input tensor; ``infer`` without arguments neither copies nor allocates."""
        with self._alone.one() as other:
            request = other.get_compiled_model().create_infer_request()
        request.get_input_tensor(0).data[:] = image

        def invoke() -> None:
            request.infer()

        return invoke

    def _one(self) -> Iterator[Any]:
        """A request that has all threads."""
        yield self._compile().create_infer_request()

    def _streams(self) -> Iterator[Any]:
        """Requests that run side by side and share the threads."""
        compiled = self._compile(streams=self._at_once)
        for _ in range(self._at_once):
            yield compiled.create_infer_request()


def compile_for_cpu(path: Path, threads: int, precision: str, *, streams: int = 1, profiled: bool = False) -> Any:
    """The folder's IR as the CPU plugin executes it: an ``openvino.CompiledModel``.

    Args:
        streams: images that run side by side and share the threads; one is as fast as can be alone.
        profiled: count times.
    """
    import openvino

    hint = {"PERFORMANCE_HINT": "LATENCY"} if streams == 1 else {"NUM_STREAMS": streams}
    config = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": precision, "PERF_COUNT": profiled}
    return openvino.Core().compile_model(path / "model.xml", "CPU", hint | config)


def open_runner(artifact: Path, settings: OpenVinoOptions, threads: int) -> OpenVinoRunner:
    """The IR with the board's inference precision."""
    return OpenVinoRunner(artifact, threads, settings.inference_precision)


def on_device(device: Device, artifact: Path, settings: OpenVinoOptions, threads: int) -> OnDevice:
    """OpenVINO runs on this machine's CPU alone.

    Raises:
        EdgecError: ``cannot-run-there``.
    """
    raise stays_here("OpenVINO")


def describe(device: Device) -> dict[str, Any]:
    """No device is asked.

    Raises:
        EdgecError: ``cannot-run-there``.
    """
    raise stays_here("OpenVINO")
