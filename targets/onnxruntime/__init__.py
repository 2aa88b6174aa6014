"""ONNX Runtime as a target: the artifact is the QDQ file itself. Always there."""

from edgec.targets.onnxruntime.compiler import (
    FORMAT,
    TOOLCHAIN,
    check,
    compile_model,
    describe,
    estimate,
    layer_times,
    on_device,
    open_runner,
    placement,
    probe,
)
from edgec.targets.onnxruntime.options import settings

__all__ = [
    "FORMAT",
    "TOOLCHAIN",
    "check",
    "compile_model",
    "describe",
    "estimate",
    "layer_times",
    "on_device",
    "open_runner",
    "placement",
    "probe",
    "settings",
]
