"""Runs a .tflite file on this machine: ai-edge-litert, or tflite-runtime where only that exists (armv7l)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgec.pipeline.core.at_once import Crew, each_at_once, side_by_side
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.scratch import scratch
from edgec.pipeline.forms.compiler import OnDevice
from edgec.pipeline.forms.format import Batch, Outputs
from edgec.targets.tflite.flatbuffer import INSTALL
from edgec.targets.tflite.options import TfliteOptions

if TYPE_CHECKING:
    from edgec.pipeline.forms.device import Device

REDIRECTING = Lock()  # standard error is one for all threads
ANNOUNCEMENT = b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n"


class LiteRtRunner:
    """A .tflite file in an interpreter.

    Args:
        path: the file.
        threads: threads of the XNNPACK delegate, or of the kernels without it.
        xnnpack: delegate to XNNPACK; without it the optimised built-in kernels run.
        reference: run TFLite's reference kernels instead, the ones that TFLite Micro shares.

    Raises:
        EdgecError: ``missing-runtime``, ``corrupt-tflite``.
    """

    def __init__(self, path: Path, threads: int = 1, xnnpack: bool = True, reference: bool = False) -> None:
        self._open = partial(open_interpreter, path.read_bytes(), xnnpack=xnnpack, reference=reference)
        self._at_once, self._threads_each = side_by_side(threads)
        self.interpreter = self._open(threads)
        self._alone, self._several = Crew(lambda: [self.interpreter]), Crew(self._interpreters)
        self._input, self._outputs = self.interpreter.get_input_details()[0], self.interpreter.get_output_details()
        self._in_model_order = _outputs_in_model_order(path)
        self._pixels = _pixel_normalisation(path) if self._input["dtype"] == np.uint8 else None

    def predict(self, batch: Batch) -> Outputs:
        """``(N, C, H, W)`` float32 to ``(N, ...)`` float32 outputs, dequantized; feature maps come back as NCHW.

        Several images side by side on the threads.
        """
        crew = self._alone if len(batch) == 1 or self._at_once == 1 else self._several

        def ask(image: Batch) -> list[npt.NDArray[Any]]:
            with crew.one() as interpreter:
                interpreter.set_tensor(self._input["index"], self.encode(image[None]))
                interpreter.invoke()
                return [interpreter.get_tensor(output["index"]) for output in self._outputs]

        found = each_at_once(ask, list(batch), self._at_once)
        return self.decode([np.concatenate(parts) for parts in zip(*found, strict=True)])

    def _interpreters(self) -> Iterator[Any]:
        """Share the threads; tensors have the same indices in each."""
        for _ in range(self._at_once):
            yield self._open(self._threads_each)

    def single(self, image: Batch) -> Callable[[], None]:
        """One image in the input tensor; the call runs the network alone."""
        self.interpreter.set_tensor(self._input["index"], self.encode(image))
        return self.interpreter.invoke  # type: ignore[no-any-return]

    def encode(self, image: Batch) -> npt.NDArray[Any]:
        """``(1, C, H, W)`` to the input tensor's layout and integers."""
        pixels = np.ascontiguousarray(image.transpose(0, 2, 3, 1)) if image.ndim == 4 else image
        dtype = self._input["dtype"]
        if dtype == np.float32:
            return pixels
        if self._pixels:
            mean, std = self._pixels
            return np.asarray(np.clip(np.rint(pixels * std + mean), 0, 255), np.uint8)
        scale, zero_point = self._input["quantization"]
        limits = np.iinfo(dtype)
        return np.asarray(np.clip(np.rint(pixels / np.float32(scale)) + zero_point, limits.min, limits.max), dtype)

    def decode(self, outputs: Sequence[npt.NDArray[Any]]) -> Outputs:
        """The output tensors' integers to float32; feature maps come back as NCHW."""
        pairs = enumerate(zip(outputs, self._outputs, strict=True))
        last = [place not in self._in_model_order for place in range(len(self._outputs))]
        return tuple(_real(values, output["quantization"], last[place]) for place, (values, output) in pairs)


def _real(values: npt.NDArray[Any], note: tuple[float, int], channels_last: bool) -> Batch:
    scale, zero_point = note
    if scale:
        values = (values.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)
    if values.ndim == 4 and channels_last:
        values = values.transpose(0, 3, 1, 2)
    return values.astype(np.float32, copy=False)


def open_runner(artifact: Path, settings: TfliteOptions, threads: int) -> LiteRtRunner:
    """The file as the board would run it: with XNNPACK, or with the reference kernels of a microcontroller."""
    return LiteRtRunner(artifact, threads, settings.xnnpack, reference=settings.runtime == "tflite-micro")


def on_device(device: Device, artifact: Path, settings: TfliteOptions, threads: int) -> OnDevice:
    """The file on a board or an emulated Arm core, as the board would run it.

    Raises:
        EdgecError: ``cannot-run-there``.
    """
    from edgec.targets.devices.qemu import must_take
    from edgec.targets.tflite.device import DeviceRunner

    must_take(device, "tflite")
    return DeviceRunner(device, artifact, threads, settings.xnnpack)


def describe(device: Device) -> dict[str, Any]:
    """``inference.Board`` and ``inference.BoardState`` of a board or an emulated core, field by field.

    Raises:
        EdgecError: ``cannot-run-there``; see ``Device.run``.
    """
    from edgec.targets.devices.qemu import must_take
    from edgec.targets.tflite import inference

    must_take(device, "tflite")
    board, state = inference.describe(device)
    return {**asdict(board), **asdict(state)}


def open_interpreter(content: bytes, threads: int, xnnpack: bool, reference: bool = False) -> Any:
    """An interpreter with its tensors allocated.

    Raises:
        EdgecError: ``missing-runtime``, ``corrupt-tflite``.
    """
    module = _runtime()
    kinds = module.OpResolverType
    kind = kinds.BUILTIN_REF if reference else kinds.AUTO if xnnpack else kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    try:
        with _unannounced():
            interpreter = module.Interpreter(
                model_content=content, num_threads=threads, experimental_op_resolver_type=kind
            )
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        message = f"the runtime refuses the file: {str(error).splitlines()[0]}"
        raise EdgecError("corrupt-tflite", message, "check that it is a whole .tflite file") from error
    return interpreter


@contextmanager
def _unannounced() -> Iterator[None]:
    """Keep ``ANNOUNCEMENT`` from standard error, where LiteRT writes it past Python and has no switch for it.

    Everything else that is written meanwhile arrives, a little later.
    """
    with REDIRECTING, scratch("stderr") as folder, (folder / "written").open("w+b") as written:
        stderr = os.dup(2)
        os.dup2(written.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            written.seek(0)
            os.write(stderr, written.read().replace(ANNOUNCEMENT, b""))
            os.close(stderr)


def _runtime() -> Any:
    if find_spec("ai_edge_litert"):
        from ai_edge_litert import interpreter

        return interpreter
    if find_spec("tflite_runtime"):
        from tflite_runtime import interpreter  # type: ignore[import-not-found]

        return interpreter
    raise EdgecError("missing-runtime", "neither ai-edge-litert nor tflite-runtime is installed", INSTALL)


def _outputs_in_model_order(path: Path) -> frozenset[int]:
    from edgec.targets.tflite.flatbuffer import read_tflite

    return read_tflite(path.read_bytes()).outputs_in_model_order


def _pixel_normalisation(path: Path) -> tuple[Batch, Batch]:
    """mean and std, (3,), that the file's own metadata holds for pixels."""
    from edgec.targets.tflite.flatbuffer import description, read_metadata

    described = description(read_metadata(path.read_bytes()))
    try:
        content = described["preprocess"]
        mean, std = (np.asarray(content[name], np.float32).reshape(3) for name in ("mean", "std"))
    except (TypeError, KeyError, ValueError) as error:
        message = f"its metadata states no normalisation of pixels: {error}"
        raise EdgecError("corrupt-tflite", message, "check that it is a whole file of edgec's") from error
    return mean, std
