"""Proves in ONNX Runtime that a rewritten file computes what the QDQ reference does.

Two spellings of one function round differently in the last bit, and now and then a value falls on the other side of a
quantization step, after which whole networks differ by some of their quantization noise. So the proof has two halves:
without rounding the two are equal but for float's own error, and with rounding they are as near as rounding allows.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.forms.format import Batch
from edgec.pipeline.forms.ort import OrtRunner
from edgec.pipeline.network.graph import Graph, Node
from edgec.pipeline.tasks.metrics import sqnr_db

LEAST_ROUNDED_DB = 15.0  # of one rounding against another; two equivalent arithmetics of MobileNetV3-small reach 20


def without_rounding(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without Q and DQ of activations; those of weights stay, they are constants."""
    graph = Graph.read(model)
    alias: dict[str, str] = {}
    nodes = []
    for node in graph.nodes:
        inputs = tuple(alias.get(name, name) for name in node.inputs)
        if node.op not in ("QuantizeLinear", "DequantizeLinear") or _of_weight(graph, node):
            nodes.append(replace(node, inputs=inputs))
        elif node.output in graph.outputs:
            nodes.append(Node("Identity", inputs[:1], node.outputs, {}, node.name))
        else:
            alias[node.output] = inputs[0]
    return graph.with_nodes(nodes).write()


def _of_weight(graph: Graph, node: Node) -> bool:
    made = graph.producer.get(node.inputs[0])
    source = made.inputs[0] if made is not None and made.op == "QuantizeLinear" else node.inputs[0]
    return source in graph.constants


def same_function(ours: onnx.ModelProto, reference: onnx.ModelProto, inputs: Batch, least_db: float) -> Batch:
    """The reference's outputs for ``(N, 3, H, W)`` inputs, after both halves of the proof.

    Args:
        least_db: without rounding.

    Raises:
        EdgecError: ``compile-mismatch``.
    """
    plain = sqnr_db(*(_answers(without_rounding(model), inputs) for model in (ours, reference)))
    expected = _answers(reference, inputs)
    rounded = sqnr_db(_answers(ours, inputs), expected)
    if not (plain >= least_db and rounded >= LEAST_ROUNDED_DB):
        message = (
            "the model in TensorRT's dialect answers unlike the QDQ reference: "
            f"{plain:.0f} dB without rounding, {rounded:.0f} dB with it"
        )
        raise EdgecError("compile-mismatch", message, "report the model")
    return expected


def _answers(model: onnx.ModelProto, inputs: Batch) -> Batch:
    with tempfile.TemporaryDirectory(prefix="edgec-") as folder:
        path = Path(folder) / "m.onnx"
        onnx.save(model, path)
        return OrtRunner(path, as_written=True, integer_sums=False).predict(inputs)[0].astype(np.float32)
