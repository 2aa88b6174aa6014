"""ONNX Runtime as a target: the artifact is the QDQ file itself. Always there."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from edgec.pipeline.forms.adapter import OnDevice, Placement, Probe, stays_here
from edgec.pipeline.forms.ort import OrtRunner, node_times
from edgec.targets.onnx_placement import onnx_placement

if TYPE_CHECKING:
    import onnx

    from edgec.pipeline.forms.device import Device
    from edgec.pipeline.forms.spec import TargetSpec

ARTIFACT = "model.onnx"
TOOLCHAIN: tuple[str, ...] = ("onnxruntime",)


def check(model: onnx.ModelProto, target: TargetSpec) -> None:
    """ONNX Runtime takes every standard operator; nothing to refuse that the ONNX checker does not."""


def compile_model(qdq: Path, output: Path, target: TargetSpec) -> None:
    """The QDQ file is the artifact."""
    shutil.copyfile(qdq, output)


def open_runner(artifact: Path, target: TargetSpec, threads: int) -> OrtRunner:
    """The artifact with ONNX Runtime's own optimisations, as a user would run it."""
    return OrtRunner(artifact, threads)


def on_device(device: Device, artifact: Path, target: TargetSpec, threads: int) -> OnDevice:
    """The reference stays where ONNX Runtime is.

    Raises:
        EdgecError: ``cannot-run-there``.
    """
    raise stays_here(target)


def estimate(artifact: Path, target: TargetSpec) -> None:
    """Nobody computes this board's latency; measure it."""


def placement(artifact: Path, target: TargetSpec) -> Placement:
    """The file's own nodes."""
    return onnx_placement(artifact)


def layer_times(artifact: Path, target: TargetSpec, threads: int) -> dict[str, float]:
    """ONNX Runtime's own profile."""
    return node_times(artifact, threads)


def probe(target: TargetSpec | None = None) -> Probe:
    """ONNX Runtime is a plain dependency."""
    import onnxruntime

    return Probe(True, True, f"onnxruntime {onnxruntime.__version__}")
