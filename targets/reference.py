"""ONNX Runtime as a target: the artifact is the QDQ file itself. Always there."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from edgec.pipeline.ort import OrtRunner
from edgec.targets.adapter import Placement, Probe

if TYPE_CHECKING:
    import onnx

    from edgec.targets.spec import TargetSpec

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


def placement(artifact: Path, target: TargetSpec) -> Placement:
    """The file's own nodes; QuantizeLinear and DequantizeLinear describe types and are not counted."""
    import onnx

    nodes = onnx.load(artifact, load_external_data=False).graph.node
    dequantized = {output for node in nodes if node.op_type == "DequantizeLinear" for output in node.output}
    kinds = [node.op_type for node in nodes if node.op_type not in ("QuantizeLinear", "DequantizeLinear")]
    layers = [node for node in nodes if node.op_type in ("Conv", "Gemm", "MatMul")]
    in_float = sum(node.input[0] not in dequantized for node in layers)
    return Placement(len(kinds), kinds.count("Transpose"), in_float)


def probe() -> Probe:
    """ONNX Runtime is a plain dependency."""
    import onnxruntime

    return Probe(True, True, f"onnxruntime {onnxruntime.__version__}")
