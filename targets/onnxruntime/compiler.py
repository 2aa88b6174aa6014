"""The QDQ file is the artifact."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgec.pipeline.forms.compiler import OnDevice, Placement, Probe, stays_here
from edgec.pipeline.forms.format import Format
from edgec.pipeline.forms.ort import OrtRunner, node_times
from edgec.targets.onnx_placement import onnx_placement
from edgec.targets.onnxruntime.format import OnnxFormat
from edgec.targets.onnxruntime.options import OnnxRuntimeOptions

if TYPE_CHECKING:
    import onnx

    from edgec.pipeline.forms.device import Device

FORMAT: Format = OnnxFormat()
TOOLCHAIN: tuple[str, ...] = ("onnxruntime",)


def check(model: onnx.ModelProto, settings: OnnxRuntimeOptions) -> None:
    """ONNX Runtime takes every standard operator; nothing to refuse that the ONNX checker does not."""


def compile_model(qdq: Path, output: Path, settings: OnnxRuntimeOptions) -> None:
    """A copy."""
    shutil.copyfile(qdq, output)


def open_runner(artifact: Path, settings: OnnxRuntimeOptions, threads: int) -> OrtRunner:
    """The artifact with ONNX Runtime's own optimisations, as a user would run it."""
    return OrtRunner(artifact, threads)


def on_device(device: Device, artifact: Path, settings: OnnxRuntimeOptions, threads: int) -> OnDevice:
    """It stays where ONNX Runtime is.

    Raises:
        EdgecError: ``cannot-run-there``.
    """
    raise stays_here("ONNX Runtime")


def describe(device: Device) -> dict[str, Any]:
    """No device is asked.

    Raises:
        EdgecError: ``cannot-run-there``.
    """
    raise stays_here("ONNX Runtime")


def estimate(artifact: Path, settings: OnnxRuntimeOptions) -> None:
    """Nobody computes this board's latency; measure it."""


def placement(artifact: Path, settings: OnnxRuntimeOptions) -> Placement:
    """The file's own nodes."""
    return onnx_placement(artifact)


def layer_times(artifact: Path, settings: OnnxRuntimeOptions, threads: int) -> dict[str, float]:
    """ONNX Runtime's own profile."""
    return node_times(artifact, threads)


def probe(settings: OnnxRuntimeOptions | None = None) -> Probe:
    """ONNX Runtime is a plain dependency."""
    import onnxruntime

    return Probe(True, True, f"onnxruntime {onnxruntime.__version__}")
