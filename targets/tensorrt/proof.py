"""Proves in ONNX Runtime that a rewritten file computes what the QDQ reference does.

Two spellings of one function differ in the last bits, now and then a value falls on the other side of a quantization
step, and behind it whole networks differ by some of their quantization noise. So the proof has three parts: activations
are rounded by the same scales; without rounding the two are equal but for float's own error; with it, they are no
further apart than rounding has brought the reference from its own float function, or two such noises from each other.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.scratch import scratch
from edgec.pipeline.forms.format import Batch, Outputs
from edgec.pipeline.forms.ort import OrtRunner
from edgec.pipeline.network.graph import Array, Graph, Node
from edgec.pipeline.tasks.metrics import sqnr_db

FLOAT_DB = 80.0  # of outputs without rounding: float32's own error over a hundred layers
HALF_DB = 20.0  # the same with FP16 tensors: real weights of MobileNetV3-small reach 30
CONSTANTS_DB = 30.0  # with FP16 constants and float32 tensors: real weights 48 and more, random ones 34
FP16_ROUNDING = 2.0**-9  # of a scale
SLACK_DB = 6.0  # two noises of one power that have nothing to do with each other lie 3 dB further apart; few inputs: 3


def without_rounding(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model whose activations are cut where their Q saturates, and not rounded; Q and DQ of weights stay."""
    graph = Graph.read(model)
    bounds: dict[str, Array] = {}
    nodes = []
    for node in graph.nodes:
        if node.op not in ("QuantizeLinear", "DequantizeLinear") or _of_weight(graph, node):
            nodes.append(node)
        elif node.op == "DequantizeLinear":  # of another type than its Q, or an output's
            kind = helper.np_dtype_to_tensor_dtype(graph.constants[node.inputs[1]].dtype)
            nodes.append(Node("Cast", node.inputs[:1], node.outputs, {"to": kind}, node.name))
        else:
            names = (f"{node.output}.least", f"{node.output}.most")
            bounds |= zip(names, _span(graph, node), strict=True)
            nodes.append(Node("Clip", (node.inputs[0], *names), node.outputs, {}, node.name))
    return graph.with_nodes(nodes, bounds).write()


def _span(graph: Graph, quantizer: Node) -> tuple[Array, Array]:
    """The least and the largest value that a Q of one scale can tell."""
    scale, zero_point = (graph.constants[name] for name in quantizer.inputs[1:3])
    kind, zero = np.iinfo(zero_point.dtype), int(zero_point.reshape(-1)[0])
    least, most = (np.asarray((end - zero) * scale.max(), scale.dtype) for end in (kind.min, kind.max))
    return least, most


def without_types(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model in float32: FP16 constants by their values, and no Cast between the two."""
    graph = Graph.read(model)
    floats = (np.dtype(np.float16), np.dtype(np.float32))
    to_float = {helper.np_dtype_to_tensor_dtype(dtype) for dtype in floats}
    nodes = [
        Node("Identity", node.inputs, node.outputs, {}, node.name)
        if node.op == "Cast" and node.attributes["to"] in to_float
        else node
        for node in graph.nodes
    ]
    constants = {name: value.astype(np.float32) for name, value in graph.constants.items() if value.dtype == floats[0]}
    return graph.with_nodes(nodes, constants).write()


def activation_scales(model: onnx.ModelProto) -> Array:
    """Those of every Q of an activation, sorted."""
    graph = Graph.read(model)
    quantizers = (node for node in graph.nodes if node.op == "QuantizeLinear" and not _of_weight(graph, node))
    return np.sort(np.concatenate([[], *(graph.constants[node.inputs[1]].reshape(-1) for node in quantizers)]))


def _of_weight(graph: Graph, node: Node) -> bool:
    made = graph.producer.get(node.inputs[0])
    source = made.inputs[0] if made is not None and made.op == "QuantizeLinear" else node.inputs[0]
    return source in graph.constants


def same_function(ours: onnx.ModelProto, reference: onnx.ModelProto, inputs: Batch, least_db: float) -> Outputs:
    """The reference's outputs for ``(N, C, H, W)`` inputs, after all parts of the proof.

    Args:
        least_db: without rounding.

    Raises:
        EdgecError: ``compile-mismatch``.
    """
    found, wanted = activation_scales(ours), activation_scales(reference)
    if len(found) != len(wanted) or not np.allclose(found, wanted, rtol=FP16_ROUNDING):
        message = "the model in TensorRT's dialect rounds its activations unlike the QDQ reference"
        raise EdgecError("compile-mismatch", message, "report the model")
    plain_ours, plain = (_answers(without_rounding(model), inputs) for model in (ours, reference))
    rounded_ours, rounded = (_answers(model, inputs) for model in (ours, reference))
    for parts in zip(reference.graph.output, plain_ours, plain, rounded_ours, rounded, strict=True):
        _same_output(parts[0].name, *parts[1:], least_db)
    return rounded


def _same_output(name: str, plain_ours: Array, plain: Array, ours: Array, expected: Array, least_db: float) -> None:
    """Without rounding, and with it."""
    plain_db, rounded_db = sqnr_db(plain_ours, plain), sqnr_db(ours, expected)
    rounding_db = min(sqnr_db(plain, expected), least_db)
    if not (plain_db >= least_db and rounded_db >= rounding_db - SLACK_DB):
        message = (
            f"the model in TensorRT's dialect answers '{name}' unlike the QDQ reference: "
            f"{plain_db:.0f} dB without rounding, {rounded_db:.0f} dB with it"
        )
        raise EdgecError("compile-mismatch", message, "report the model")


def typed_function(typed: onnx.ModelProto, reference: onnx.ModelProto, inputs: Batch) -> None:
    """A file with FP16 in it: first by its constants alone, in float32; then as it is.

    Raises:
        EdgecError: ``compile-mismatch``.
    """
    same_function(without_types(typed), reference, inputs, CONSTANTS_DB)
    same_function(typed, reference, inputs, HALF_DB)


def _answers(model: onnx.ModelProto, inputs: Batch) -> Outputs:
    with scratch("proof") as folder:
        path = folder / "m.onnx"
        onnx.save(model, path)
        outputs = OrtRunner(path, as_written=True, integer_sums=False).predict(inputs)
    return tuple(values.astype(np.float32) for values in outputs)
