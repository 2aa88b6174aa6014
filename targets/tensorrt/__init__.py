"""TensorRT for Jetson and NVIDIA GPUs: a folder from which the device builds, proves and measures its engine."""

from edgec.targets.tensorrt.compiler import FORMAT, TOOLCHAIN, check, compile_model, estimate
from edgec.targets.tensorrt.device import describe, on_device
from edgec.targets.tensorrt.options import settings
from edgec.targets.tensorrt.placement import layer_times, placement
from edgec.targets.tensorrt.runner import open_runner, probe

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
