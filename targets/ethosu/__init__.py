"""Arm Ethos-U: the full-integer .tflite for TFLite Micro, compiled by Arm's Vela."""

from edgec.targets.ethosu.compiler import (
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
from edgec.targets.ethosu.options import settings

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
