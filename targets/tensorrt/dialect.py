"""Explicit-QDQ ONNX in the words that every TensorRT from 8.2 to 11 reads. The function stays the same.

The differences, from the operator table of onnx-tensorrt (``docs/operators.md``) and the developer guide:

1. DequantizeLinear takes INT8 alone: int32 biases become their float values.
2. Weights before TensorRT 10 must be float with QuantizeLinear and DequantizeLinear behind them: int8 initializers
   become the float values that quantize back to the same integers.
3. HardSwish is not in the table of 8.4: ``x * HardSigmoid(x)`` with alpha 1/6 and beta 1/2, its definition in ONNX.
4. A constant per channel beside a Q or DQ stops 8.6: ``scales.py`` moves it elsewhere.
5. The bounds of a Clip between floats and a Q or DQ are cut in its steps by 8.6: ``bounds.py`` says them otherwise.
6. Older versions read older operator sets (8.4 up to 13): the file declares the oldest one, from 13 on, in which its
   operators have their present definition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import onnx

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.network.graph import Array, Graph, Node
from edgec.targets.tensorrt.bounds import separate_bounds
from edgec.targets.tensorrt.scales import separate_scales

OLDEST_OPSET = 13  # the first with a scale per channel


def to_tensorrt(model: onnx.ModelProto) -> onnx.ModelProto:
    """Rewrite a QDQ or float model for every version.

    Raises:
        EdgecError: ``bad-quantization`` where weights lie off the grid that their scale spans.
    """
    return with_float_weights(in_dialect(model))


def in_dialect(model: onnx.ModelProto) -> Graph:
    """Rules 1 and 3 to 5: what TensorRT 10 and later reads; weights are stored integers."""
    return separate_bounds(separate_scales(_each(Graph.read(model), _plain)))


def with_float_weights(graph: Graph) -> onnx.ModelProto:
    """Rules 2 and 6.

    Raises:
        EdgecError: ``bad-quantization``.
    """
    rewritten = _each(graph, _with_float_weights).write()
    _lower_opset(rewritten)
    onnx.checker.check_model(rewritten)
    return rewritten


Rewrite = Callable[[Graph, Node, dict[str, Array]], Iterator[Node]]


def _each(graph: Graph, rewrite: Rewrite) -> Graph:
    """Every node in the words of ``rewrite``, which puts new constants into the dictionary that it gets."""
    constants: dict[str, Array] = {}
    nodes = [new for node in graph.nodes for new in rewrite(graph, node, constants)]
    return graph.with_nodes(nodes, constants)


def _plain(graph: Graph, node: Node, constants: dict[str, Array]) -> Iterator[Node]:
    """Rules 1 and 3."""
    stored = _stored(graph, node)
    if stored is not None and stored.dtype == np.int32:
        constants[node.output] = dequantized(graph, node, stored)
    elif node.op == "HardSwish":
        gate = f"{node.output}.gate"
        yield Node("HardSigmoid", node.inputs, (gate,), {"alpha": 1 / 6, "beta": 0.5}, f"{node.name}.gate")
        yield Node("Mul", (node.inputs[0], gate), node.outputs, {}, node.name)
    else:
        yield node


def _with_float_weights(graph: Graph, node: Node, constants: dict[str, Array]) -> Iterator[Node]:
    """Rule 2."""
    stored = _stored(graph, node)
    if stored is None:
        yield node
        return
    values, scale, zero_point = f"{node.output}.float", *node.inputs[1:]
    constants[values] = dequantized(graph, node, stored)
    if not np.array_equal(np.rint(constants[values] / _along(graph, node, scale, stored)), stored):
        message = f"the weights '{node.inputs[0]}' do not survive a round trip through float32"
        raise EdgecError("bad-quantization", message, "quantize the model again, and report it")
    quantized = f"{node.output}.quantized"
    yield Node("QuantizeLinear", (values, scale, zero_point), (quantized,), node.attributes, quantized)
    yield replace(node, inputs=(quantized, scale, zero_point))


def _stored(graph: Graph, node: Node) -> Array | None:
    """The integers that a DequantizeLinear takes from the file."""
    return graph.constants.get(node.inputs[0]) if node.op == "DequantizeLinear" else None


def dequantized(graph: Graph, node: Node, stored: Array) -> Array:
    """What DequantizeLinear computes from a constant, zero_point 0: float32 of the same shape."""
    return (stored.astype(np.float32) * _along(graph, node, node.inputs[1], stored)).astype(np.float32)


def _along(graph: Graph, node: Node, name: str, stored: Array) -> Array:
    """A scale, shaped to be broadcast along the node's axis."""
    scale = graph.constants[name]
    if scale.size == 1:
        return scale.reshape(())
    shape = [1] * stored.ndim
    shape[int(node.attributes.get("axis", 1))] = scale.size
    return scale.reshape(shape)


def _lower_opset(model: onnx.ModelProto) -> None:
    """Declare the oldest operator set in which every operator is defined as it is now."""
    (opset,) = (entry for entry in model.opset_import if not entry.domain)
    operators = {node.op_type for node in model.graph.node if not node.domain}
    newest = max(onnx.defs.get_schema(name, opset.version).since_version for name in operators)
    opset.version = min(opset.version, max(newest, OLDEST_OPSET))
