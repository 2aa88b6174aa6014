"""What OpenVINO's CPU plugin makes of an IR: its own execution graph, counted."""

from __future__ import annotations

from pathlib import Path

from edgec.pipeline.forms.compiler import Placement
from edgec.targets.openvino.options import OpenVinoOptions
from edgec.targets.openvino.runner import compile_for_cpu

NO_WORK = ("Const", "Input", "Output")
LAYERS = ("Convolution", "FullyConnected", "MatMul", "Deconvolution")
INTEGERS = ("i8", "u8")


def placement(artifact: Path, settings: OpenVinoOptions) -> Placement:
    """Read ``layerType`` and ``runtimePrecision`` of each executed node; a ``Reorder`` is a reformat."""
    compiled = compile_for_cpu(artifact, threads=1, precision=settings.inference_precision)
    nodes = [node.get_rt_info() for node in compiled.get_runtime_model().get_ordered_ops()]
    executed = [(n["layerType"].astype(str), n["runtimePrecision"].astype(str)) for n in nodes]
    kinds = [kind for kind, _ in executed if kind not in NO_WORK]
    in_float = sum(kind in LAYERS and precision not in INTEGERS for kind, precision in executed)
    return Placement(len(kinds), kinds.count("Transpose"), in_float, num_reformats=kinds.count("Reorder"))
