"""Networks of float16 and bfloat16 as float32: every number of theirs is one of float32."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, numpy_helper

HALF = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
TYPE_ATTRIBUTES = ("to", "dtype")


def widened(model: onnx.ModelProto) -> onnx.ModelProto:
    """The network with float32 wherever it had half precision; itself where it had none."""
    if not any(True for _ in _halves(model.graph)):
        return model
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    for half in list(_halves(wide.graph)):
        _widen(half)
    del wide.graph.value_info[:]
    wide = onnx.shape_inference.infer_shapes(wide)
    graph = wide.graph
    real = {v.name for v in (*graph.input, *graph.value_info) if v.type.tensor_type.elem_type == TensorProto.FLOAT}
    real |= {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}
    for node in graph.node:
        to_float = any(attribute.name == "to" and attribute.i == TensorProto.FLOAT for attribute in node.attribute)
        if node.op_type == "Cast" and to_float and node.input[0] in real:
            node.op_type = "Identity"  # it was a change of precision
            del node.attribute[:]
    return wide


Half = TensorProto | AttributeProto | onnx.ValueInfoProto


def _halves(graph: onnx.GraphProto) -> Iterator[Half]:
    """Tensors, attributes that name a type, and declared values of half precision, in subgraphs too."""
    yield from (tensor for tensor in graph.initializer if tensor.data_type in HALF)
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type in HALF:
            yield value
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.name in TYPE_ATTRIBUTES and attribute.i in HALF:
                yield attribute
            yield from (t for t in (attribute.t, *attribute.tensors) if t.data_type in HALF)
            for inner in (*attribute.graphs, *([attribute.g] if attribute.type == AttributeProto.GRAPH else [])):
                yield from _halves(inner)


def _widen(half: Half) -> None:
    if isinstance(half, TensorProto):
        values = np.asarray(numpy_helper.to_array(half)).astype(np.float32)
        half.CopyFrom(numpy_helper.from_array(values, half.name))
    elif isinstance(half, AttributeProto):
        half.i = TensorProto.FLOAT
    else:
        half.type.tensor_type.elem_type = TensorProto.FLOAT
