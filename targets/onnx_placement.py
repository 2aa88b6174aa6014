"""What an explicit-QDQ ONNX file says about placement, for runtimes that execute or build from the file itself."""

from __future__ import annotations

from pathlib import Path

from edgec.pipeline.forms.compiler import Placement

LAYERS = ("Conv", "Gemm", "MatMul")
QDQ = ("QuantizeLinear", "DequantizeLinear")


def onnx_placement(path: Path) -> Placement:
    """The file's own nodes; QuantizeLinear and DequantizeLinear describe types and are not counted."""
    import onnx

    nodes = onnx.load(path, load_external_data=False).graph.node
    dequantized = {output for node in nodes if node.op_type == "DequantizeLinear" for output in node.output}
    kinds = [node.op_type for node in nodes if node.op_type not in QDQ]
    in_float = sum(node.input[0] not in dequantized for node in nodes if node.op_type in LAYERS)
    return Placement(len(kinds), kinds.count("Transpose"), in_float)
