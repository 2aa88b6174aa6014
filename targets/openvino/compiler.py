"""Explicit-QDQ ONNX to OpenVINO IR."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.forms.adapter import Probe

if TYPE_CHECKING:
    import onnx

    from edgec.pipeline.forms.spec import TargetSpec

ARTIFACT = "openvino"
TOOLCHAIN = ("openvino",)
UNCONVERTED = ("NotSupportedONNXNode", "ONNXFrameworkNode")  # what the frontend leaves where it has no rule
INSTALL = "pip install 'edgec[cpu]'"


def check(model: onnx.ModelProto, target: TargetSpec) -> None:
    """Let OpenVINO's ONNX frontend name what it cannot convert.

    Raises:
        EdgecError: ``unsupported-operator``, ``missing-runtime``.
    """
    import io

    _require()
    from openvino.frontend import FrontEndManager

    frontend = FrontEndManager().load_by_framework("onnx")
    loaded = frontend.load(io.BytesIO(model.SerializeToString()))
    converted = frontend.convert_partially(loaded)
    for operator in converted.get_ordered_ops():
        if operator.get_type_name() in UNCONVERTED:
            raise _unsupported(model, operator.get_friendly_name())


def compile_model(qdq: Path, output: Path, target: TargetSpec) -> None:
    """Convert to IR for a batch of one and save it as ``output/model.xml`` with int8 constants kept as they are.

    Raises:
        EdgecError: ``missing-runtime``.
    """
    _require()
    import openvino

    model = openvino.Core().read_model(qdq)
    shape = model.input(0).partial_shape
    shape[0] = 1
    model.reshape({model.input(0): shape})
    output.mkdir()
    openvino.save_model(model, output / "model.xml", compress_to_fp16=False)


def estimate(artifact: Path, target: TargetSpec) -> None:
    """Nobody computes this board's latency; measure it."""


def probe(target: TargetSpec | None = None) -> Probe:
    """OpenVINO is there when its CPU plugin answers with a device name."""
    if find_spec("openvino") is None:
        return Probe(False, False, "", f"openvino is not installed: {INSTALL}")
    import openvino

    core = openvino.Core()
    if "CPU" not in core.available_devices:
        return Probe(True, False, f"openvino {openvino.__version__}", "OpenVINO finds no CPU device")
    return Probe(True, True, f"openvino {openvino.__version__}, {core.get_property('CPU', 'FULL_DEVICE_NAME')}")


def _require() -> None:
    if find_spec("openvino") is None:
        raise EdgecError("missing-runtime", "this target needs openvino, which is not installed", INSTALL)


def _unsupported(model: onnx.ModelProto, name: str) -> EdgecError:
    """``name`` is the node's, or that of its first output where it has none of its own or shares it."""
    node = next(node for node in model.graph.node if name in (node.name, *node.output))
    where = f"'{node.op_type}' (node '{node.name or node.output[0]}')"
    return EdgecError(
        "unsupported-operator",
        f"OpenVINO cannot take the operator {where}",
        "replace it in the model, or choose another target",
    )
