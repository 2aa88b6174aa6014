"""Explicit-QDQ ONNX to OpenVINO IR."""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.forms.compiler import Probe
from edgec.pipeline.forms.format import Format
from edgec.targets.openvino.format import IrFormat
from edgec.targets.openvino.options import OpenVinoOptions

if TYPE_CHECKING:
    import onnx
    import openvino

FORMAT: Format = IrFormat()
TOOLCHAIN: tuple[str, ...] = ("openvino",)
UNCONVERTED = ("NotSupportedONNXNode", "ONNXFrameworkNode")  # what the frontend leaves where it has no rule
INSTALL = "pip install 'edgec[cpu]'"


def check(model: onnx.ModelProto, settings: OpenVinoOptions) -> None:
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


def compile_model(qdq: Path, output: Path, settings: OpenVinoOptions) -> None:
    """Convert to IR for a batch of one and save it as ``output/model.xml`` with int8 constants kept as they are.

    OpenVINO's own common transformations run here, as in its ``convert_model``: they would run each time that the IR is
    loaded, over two to three times as many operators, most of them arithmetic on constant shapes.

    Raises:
        EdgecError: ``missing-runtime``.
        OSError: the disk is full.
    """
    _require()
    import openvino
    from openvino._offline_transformations import apply_moc_transformations

    model = openvino.Core().read_model(qdq)
    shape = model.input(0).partial_shape
    shape[0] = 1
    model.reshape({model.input(0): shape})
    apply_moc_transformations(model, cf=False, smart_reshape=False)
    _rename(model, _names(qdq))
    output.mkdir()
    try:
        openvino.save_model(model, output / "model.xml", compress_to_fp16=settings.constants == "f16")
    except RuntimeError:
        _ask_disk(output, num_bytes=4 * qdq.stat().st_size)
        raise


def _ask_disk(folder: Path, num_bytes: int) -> None:
    """OpenVINO's writer says only that it failed. The disk itself says why, if it cannot take as much as an IR needs.

    Raises:
        OSError: in the disk's words.
    """
    with (folder / "room").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, num_bytes)
    (folder / "room").unlink()


def _rename(model: openvino.Model, known: frozenset[str]) -> None:
    """Number the nodes that OpenVINO named itself: it counts them over the life of a process, past other models."""
    for index, node in enumerate(model.get_ordered_ops()):
        name = node.get_friendly_name()
        if name not in known and re.fullmatch(r"[A-Z][A-Za-z0-9]*_\d+", name):
            node.set_friendly_name(f"{name.rpartition('_')[0]}_{index}")


def _names(path: Path) -> frozenset[str]:
    """Everything that the ONNX file itself names."""
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    nodes = (name for node in graph.node for name in (node.name, *node.input, *node.output))
    return frozenset((*nodes, *(tensor.name for tensor in graph.initializer)))


def estimate(artifact: Path, settings: OpenVinoOptions) -> None:
    """Nobody computes this board's latency; measure it."""


def probe(settings: OpenVinoOptions | None = None) -> Probe:
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
