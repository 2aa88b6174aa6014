"""TFLite for Arm boards and microcontrollers: the QDQ ONNX becomes ``model.tflite``."""

from edgec.targets.tflite.compiler import COUNTS_WITH, FORMAT, TOOLCHAIN, check, compile_model, estimate, probe
from edgec.targets.tflite.options import settings
from edgec.targets.tflite.placement import layer_times, placement
from edgec.targets.tflite.runner import describe, on_device, open_runner

__all__ = [
    "COUNTS_WITH",
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
