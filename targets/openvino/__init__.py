"""OpenVINO for x86 and Arm CPUs: the QDQ ONNX becomes an IR (``model.xml`` and ``model.bin``)."""

from edgec.targets.openvino.compiler import FORMAT, TOOLCHAIN, check, compile_model, estimate, probe
from edgec.targets.openvino.options import settings
from edgec.targets.openvino.placement import placement
from edgec.targets.openvino.profile import layer_times
from edgec.targets.openvino.runner import describe, on_device, open_runner

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
