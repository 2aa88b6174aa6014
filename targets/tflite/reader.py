"""ONNX to ``Graph``: Q/DQ pairs become notes on the float graph."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.network.graph import Graph as _Network
from edgec.pipeline.network.scalar_functions import ScalarFunction, scalar_functions
from edgec.targets.tflite.graph import Array, Graph, Node, Quantization, Tensor

if TYPE_CHECKING:
    import onnx

TRANSPARENT = ("Identity", "Dropout")

NATIVE = frozenset(
    {"Add", "Clip", "Div", "HardSigmoid", "HardSwish", "LeakyRelu", "Mul", "PRelu", "Relu", "Sigmoid", "Sub", "Tanh"}
)
"""Elementwise operators of which every set of kernels has one in int8; LiteRT's reference kernels have no ELU."""


def read_graph(model: onnx.ModelProto) -> Graph:
    """Strip Q/DQ and constants from a float or explicit-QDQ model; a symbolic batch becomes one.

    A Split becomes a Slice for each of its outputs, a function of single values for which TFLite has no operator a
    ``Lookup``. Operators are not judged here (see ``constraints``); what this cannot even describe is refused.

    Raises:
        EdgecError: ``unsupported-operator`` (a node with several outputs in use), ``dynamic-shape``,
            ``bad-quantization``, ``bad-output`` (one that is a constant).
    """
    model = _with_batch_of_one(model)
    found = scalar_functions(_Network.read(model), lambda node: node.op in NATIVE)
    functions = {function.output: function for function in found}
    inside = {name for function in found for name in function.interior}
    reader = _Reader(_shapes(model))
    for tensor in model.graph.initializer:
        reader.constants[tensor.name] = _array(tensor)
    for node in model.graph.node:
        if node.op_type == "Split":
            reader.split(node)
        elif node.output[0] in functions:
            reader.look_up(node, functions[node.output[0]])
        elif node.output[0] not in inside:
            reader.read(node)
    inputs = tuple(i.name for i in model.graph.input if i.name not in reader.constants)
    outputs = {o.name: reader.resolve(o.name) for o in model.graph.output}
    for name, tensor in outputs.items():
        if tensor in reader.constants:
            message = f"the output '{name}' is the same for every picture, which no .tflite file can say"
            raise EdgecError("bad-output", message, "export the network without it, and keep it beside the artifact")
    return reader.graph(inputs, outputs)


@dataclass
class _Reader:
    """State of one walk over the nodes."""

    shapes: dict[str, tuple[int, ...]]
    constants: dict[str, Array] = field(default_factory=dict)
    quantized: dict[str, tuple[Array, Quantization]] = field(default_factory=dict)
    notes: dict[str, Quantization] = field(default_factory=dict)
    alias: dict[str, str] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)

    def resolve(self, name: str) -> str:
        return self.alias.get(name, name)

    def read(self, node: onnx.NodeProto) -> None:
        attributes = _attributes(node)
        if node.op_type == "Constant":
            self.constants[node.output[0]] = _constant(node.name, attributes)
        elif node.op_type == "QuantizeLinear":
            self._quantize(node, attributes)
        elif node.op_type == "DequantizeLinear":
            self._dequantize(node, attributes)
        elif node.op_type in TRANSPARENT:
            self._forward(node)
        else:
            inputs = tuple(self.resolve(name) for name in node.input)
            if len([name for name in node.output if name]) != 1:
                raise _refused(node, "has several outputs")
            self.nodes.append(Node(node.op_type, node.name or node.output[0], inputs, node.output[0], attributes))

    def split(self, node: onnx.NodeProto) -> None:
        attributes, source = _attributes(node), self.resolve(node.input[0])
        shapes = [self.shapes[name] for name in node.output]
        axis = int(attributes.get("axis", 0)) % len(shapes[0])
        start = 0
        for name, shape in zip(node.output, shapes, strict=True):
            begin = [start if place == axis else 0 for place in range(len(shape))]
            plain = {"begin": begin, "steps": [1] * len(shape)}
            self.nodes.append(Node("Slice", f"{node.name}:{name}", (source,), name, plain))
            start += shape[axis]

    def look_up(self, node: onnx.NodeProto, function: ScalarFunction) -> None:
        name, source = node.name or node.output[0], self.resolve(function.source)
        self.nodes.append(Node("Lookup", name, (source,), node.output[0], {"function": function}))

    def _forward(self, node: onnx.NodeProto) -> None:
        source = self.resolve(node.input[0])
        if source in self.constants:
            self.constants[node.output[0]] = self.constants[source]
        self.alias[node.output[0]] = source

    def _quantize(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        source = self.resolve(node.input[0])
        scale, zero_point = self._parameters(node)
        if source in self.constants:
            axis = int(attributes.get("axis", 1))
            self.constants[node.output[0]] = _round(self.constants[source], scale, zero_point, axis)
            return
        note = _note(node, scale, zero_point, None)
        if self.notes.setdefault(source, note) == note:
            self.alias[node.output[0]] = source
            return
        self.notes[node.output[0]] = note  # a second, different quantization of one tensor: requantized for its reader
        self.shapes.setdefault(node.output[0], self.shapes[source])
        self.nodes.append(Node("QuantizeLinear", node.name or node.output[0], (source,), node.output[0]))

    def _dequantize(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        source = self.resolve(node.input[0])
        if source not in self.constants:
            self.alias[node.output[0]] = source
            return
        scale, zero_point = self._parameters(node)
        axis = int(attributes.get("axis", 1)) if scale.size > 1 else None
        data = self.constants[source]
        if data.dtype == np.uint8:
            data = (data.astype(np.int16) - 128).astype(np.int8)
        self.quantized[node.output[0]] = (data, _note(node, scale, zero_point, axis))

    def _parameters(self, node: onnx.NodeProto) -> tuple[Array, Array]:
        names = [self.resolve(name) for name in node.input[1:]]
        if any(name not in self.constants for name in names):
            raise EdgecError("bad-quantization", f"node '{node.name}': scale and zero_point are not constants", "")
        scale = np.atleast_1d(self.constants[names[0]]).astype(np.float32)
        zero_point = self.constants[names[1]] if len(names) > 1 else np.zeros(1, np.uint8)
        return scale, np.atleast_1d(zero_point)

    def graph(self, inputs: tuple[str, ...], outputs: dict[str, str]) -> Graph:
        tensors = {name: Tensor(name, data.shape, None, data) for name, data in self.constants.items()}
        for name, (data, note) in self.quantized.items():
            tensors[name] = Tensor(name, data.shape, note, data)
        indices = {node.output for node in self.nodes if node.op == "ArgMax"}
        indices |= {node.output for node in self.nodes if node.op == "Cast" and node.attributes["to"] in INTEGERS}
        for name in (*inputs, *(node.output for node in self.nodes)):
            if any(side <= 0 for side in self.shapes.get(name, (0,))) and self.shapes.get(name) != ():
                hint = "give the input a fixed spatial size and simplify the model first"
                raise EdgecError("dynamic-shape", f"tensor '{name}' has no fixed shape", hint)
            tensors[name] = Tensor(
                name, self.shapes[name], self.notes.get(name), dtype="int32" if name in indices else "float32"
            )
        return Graph(tuple(self.nodes), tensors, inputs, outputs)


INTEGERS = (6, 7)
"""``TensorProto.INT32`` and ``INT64``: both are int32 in the file."""


def _note(node: onnx.NodeProto, scale: Array, zero_point: Array, axis: int | None) -> Quantization:
    """int8 or int16 parameters; unsigned ones move down by 128, which is the same function.

    Raises:
        EdgecError: ``bad-quantization``.
    """
    name = node.name or node.output[0]
    if zero_point.dtype not in (np.int8, np.uint8, np.int16, np.int32):
        told = f"node '{name}': type {zero_point.dtype}, expected int8, uint8 or int16"
        raise EdgecError("bad-quantization", told, "")
    if not np.all(np.isfinite(scale)) or np.any(scale <= 0):
        raise EdgecError("bad-quantization", f"node '{name}': scale {scale.min()}, expected a positive number", "")
    points = set((zero_point.astype(int) - (128 if zero_point.dtype == np.uint8 else 0)).tolist())
    if len(points) != 1 or (axis is None and scale.size != 1):
        raise EdgecError("bad-quantization", f"node '{name}': per-channel parameters, expected one per tensor", "")
    dtype = "int16" if zero_point.dtype == np.int16 else "int8"
    if dtype == "int16" and points != {0}:
        raise EdgecError("bad-quantization", f"node '{name}': zero_point {points.pop()} in int16, expected 0", "")
    return Quantization(tuple(float(s) for s in scale), points.pop(), axis, dtype)


def _round(data: Array, scale: Array, zero_point: Array, axis: int) -> Array:
    """QuantizeLinear on a constant: round half to even, saturate."""
    shape = [-1 if i == axis and scale.size > 1 else 1 for i in range(data.ndim)]
    limits = np.iinfo(zero_point.dtype)
    rounded = np.rint(data / scale.reshape(shape)) + zero_point.astype(np.int64).reshape(
        shape if zero_point.size > 1 else [1]
    )
    result: Array = np.clip(rounded, limits.min, limits.max).astype(zero_point.dtype).reshape(data.shape)
    return result


def _with_batch_of_one(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with the symbolic batch set to one and shapes inferred anew."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    constants = {i.name for i in copy.graph.initializer}
    for value in copy.graph.input:
        dims = value.type.tensor_type.shape.dim
        if value.name not in constants and dims and dims[0].dim_value <= 0:
            dims[0].dim_value = 1
    del copy.graph.value_info[:]
    for value in copy.graph.output:
        value.type.tensor_type.ClearField("shape")
    return onnx.shape_inference.infer_shapes(copy, data_prop=True)


def _shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    values = [*model.graph.input, *model.graph.value_info, *model.graph.output]
    typed = {v.name: v.type.tensor_type for v in values}
    return {name: tuple(d.dim_value for d in t.shape.dim) for name, t in typed.items() if t.HasField("shape")}


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    from onnx import helper

    values = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in values.items()}


def _constant(name: str, attributes: dict[str, Any]) -> Array:
    if "value" in attributes:
        return _array(attributes["value"])
    for key, dtype in (
        ("value_float", np.float32),
        ("value_floats", np.float32),
        ("value_int", np.int64),
        ("value_ints", np.int64),
    ):
        if key in attributes:
            return np.asarray(attributes[key], dtype)
    raise EdgecError(
        "unsupported-operator", f"node '{name}' (Constant) holds {sorted(attributes)}", "simplify the model first"
    )


def _array(tensor: onnx.TensorProto) -> Array:
    from onnx import numpy_helper

    array: Array = numpy_helper.to_array(tensor)
    return array.astype(np.float32) if array.dtype in (np.float16, np.float64) else array


def _refused(node: onnx.NodeProto, why: str) -> EdgecError:
    return EdgecError("unsupported-operator", f"node '{node.name}' ({node.op_type}) {why}", "replace it in the model")
