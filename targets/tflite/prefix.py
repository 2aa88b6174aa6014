"""A network whose first layers are in float: two graphs, joined at one tensor in one file.

The input stays int8, as the board wants it: ``DEQUANTIZE``, float operators, ``QUANTIZE``, int8 operators. XNNPACK runs
all of it in one piece, since it has both conversions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import onnx

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.network.graph import LINEAR, Graph
from edgec.targets.tflite.graph import Graph as TfliteGraph
from edgec.targets.tflite.lowering import Lowering, stored_shape
from edgec.targets.tflite.options import TfliteOptions
from edgec.targets.tflite.writer import B, schema


@dataclass(frozen=True, eq=False)
class Parts:
    """A model in two.

    Attributes:
        prefix: float, from ``DequantizeLinear`` of the input to where they are joined.
        rest: with Q/DQ, from there on.
        entry: the input's pair alone: what the caller feeds.
    """

    prefix: onnx.ModelProto
    rest: onnx.ModelProto
    entry: onnx.ModelProto


def parts_of(model: onnx.ModelProto) -> Parts | None:
    """The parts of a model whose first layers, between the input's DQ and the next Q, compute in float; else None."""
    graph = Graph.read(model)
    quantizers = [n for n in graph.nodes if n.op == "QuantizeLinear" and n.inputs[0] not in graph.constants]
    if len(quantizers) < 2 or quantizers[0].inputs[0] not in graph.inputs or len(graph.inputs) != 1:
        return None
    tensor, fed = quantizers[1].inputs[0], graph.only_consumer(quantizers[0].output)
    if fed is None or tensor in graph.inputs:
        return None
    before = graph.makers(tensor)
    inner = [node for node in before if node.name not in (quantizers[0].name, fed.name)]
    has_layer = any(node.op in LINEAR and node.inputs[1] in graph.constants for node in inner)
    if not has_layer or any(node.op in ("QuantizeLinear", "DequantizeLinear") for node in inner):
        return None
    gone = {node.name for node in before}
    rest = [node for node in graph.nodes if node.name not in gone]
    made = {name for node in before for name in node.outputs} - {tensor}
    read = {name for node in rest for name in node.inputs}.union(graph.outputs)
    if made & read or tensor in graph.outputs:
        return None
    return Parts(
        prefix=graph.part(inner, (fed.output,), (tensor,)),
        rest=graph.part(rest, (tensor,), graph.outputs),
        entry=graph.part((quantizers[0], fed), graph.inputs, (fed.output,)),
    )


def lower_parts(
    entry: TfliteGraph,
    prefix: TfliteGraph,
    rest: TfliteGraph,
    options: TfliteOptions,
    rules: Mapping[str, Any],
    metadata: Mapping[str, bytes],
) -> bytes:
    """The three graphs of ``Parts``, prepared, in one file.

    Raises:
        EdgecError: ``unsupported-precision`` where the board wants another input than int8.
    """
    if options.input_type != "int8":
        message = f"a float prefix needs input_type = 'int8', got '{options.input_type}'"
        raise EdgecError("unsupported-precision", message, "choose --precision int8")
    first = Lowering(prefix, options)
    (fed,), (source,), (tensor,) = entry.inputs, prefix.inputs, rest.inputs
    shape = stored_shape(prefix.tensors[source])
    given = first.writer.tensor(fed, shape, "int8", entry.tensors[fed].quantization)
    first.emit(B.DEQUANTIZE, [given], source, schema.DequantizeOptionsT())
    (made,) = first.run_nodes(rules).values()
    second = Lowering(rest, options, first.writer)
    second.emit(B.QUANTIZE, [made], tensor, schema.QuantizeOptionsT())
    return first.writer.finish({fed: given}, second.run_nodes(rules), metadata)
