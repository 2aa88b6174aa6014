"""An ONNX graph as immutable nodes with numpy constants: what every pass of the quantizer reads and rewrites."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

Array = npt.NDArray[Any]

LINEAR = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Weighted sums."""


@dataclass(frozen=True)
class Node:
    """One operator. ``domain`` is empty for ONNX's own operators; an absent optional input is ``""``."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    name: str
    domain: str = ""

    @property
    def output(self) -> str:
        return self.outputs[0]

    def proto(self) -> onnx.NodeProto:
        node = helper.make_node(self.op, self.inputs, self.outputs, name=self.name, domain=self.domain)
        node.attribute.extend(
            value if isinstance(value, onnx.AttributeProto) else helper.make_attribute(key, value)
            for key, value in sorted(self.attributes.items())
        )
        return node


@dataclass(frozen=True)
class Graph:
    """Nodes in topological order; ``constants`` holds initializers and the outputs of Constant nodes."""

    nodes: tuple[Node, ...]
    constants: Mapping[str, Array]
    model: onnx.ModelProto

    @classmethod
    def read(cls, model: onnx.ModelProto) -> Graph:
        """Take a model apart. Node names are made unique, Constant and Identity nodes vanish, ranks become known."""
        constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        alias: dict[str, str] = {}
        kept = {value.name for value in model.graph.output}
        nodes: list[Node] = []
        for proto in model.graph.node:
            attributes = {attribute.name: _attribute(attribute) for attribute in proto.attribute}
            inputs = tuple(alias.get(name, name) for name in proto.input)
            if proto.op_type == "Constant" and "value" in attributes:
                constants[proto.output[0]] = numpy_helper.to_array(attributes["value"])
            elif proto.op_type == "Identity" and proto.output[0] not in kept:
                alias[proto.output[0]] = inputs[0]
            else:
                name = f"{proto.op_type}_{len(nodes)}" if not proto.name else proto.name
                nodes.append(Node(proto.op_type, inputs, tuple(proto.output), attributes, name, proto.domain))
        return cls(_unique_names(nodes), constants, _shell(model))

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        return tuple(value.name for value in self.model.graph.input if value.name not in self.constants)

    @cached_property
    def batch(self) -> int | None:
        """The number of images that the network is fixed to; None where it takes any."""
        sides = next(v for v in self.model.graph.input if v.name == self.inputs[0]).type.tensor_type.shape.dim
        return (sides[0].dim_value or None) if sides else None

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        return tuple(value.name for value in self.model.graph.output)

    @cached_property
    def producer(self) -> Mapping[str, Node]:
        return {name: node for node in self.nodes for name in node.outputs}

    @cached_property
    def consumers(self) -> Mapping[str, tuple[Node, ...]]:
        readers: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                readers.setdefault(name, []).append(node)
        return {name: tuple(nodes) for name, nodes in readers.items()}

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int | None, ...]]:
        """Inferred shapes; a symbolic dimension is ``None``. Tensors that ONNX cannot infer are absent."""
        inferred = onnx.shape_inference.infer_shapes(self.write(), data_prop=True).graph
        values = [*inferred.input, *inferred.value_info, *inferred.output]
        shapes = {
            value.name: tuple(dim.dim_value or None for dim in value.type.tensor_type.shape.dim)
            for value in values
            if value.type.tensor_type.HasField("shape")
        }
        return shapes | {name: array.shape for name, array in self.constants.items()}

    @cached_property
    def peak_values(self) -> int:
        """Most activation values of one image that exist at the same time in an execution node by node."""
        remaining = {name: len(nodes) for name, nodes in self.consumers.items()}
        alive = {name: self._num_values(name) for name in self.inputs}
        peak = 0
        for node in self.nodes:
            alive |= {name: self._num_values(name) for name in node.outputs}
            peak = max(peak, sum(alive.values()))
            for name in dict.fromkeys(node.inputs):
                remaining[name] = remaining.get(name, 1) - 1
                if remaining[name] <= 0:
                    alive.pop(name, None)
        return peak

    def _num_values(self, tensor: str) -> int:
        return int(np.prod([size or 1 for size in self.shapes.get(tensor, ())[1:]], dtype=np.int64))

    def data_inputs(self, node: Node) -> tuple[str, ...]:
        """The inputs of a node that are activations."""
        return tuple(name for name in node.inputs if name and name not in self.constants)

    def only_consumer(self, tensor: str) -> Node | None:
        """The single reader of a tensor that is no output of the network, else ``None``."""
        readers = self.consumers.get(tensor, ())
        return readers[0] if len(readers) == 1 and tensor not in self.outputs else None

    def end(self, node: Node, absorbed: Container[str]) -> str:
        """The tensor that a layer's kernel writes: its own output, or that of an operator behind it that it absorbs."""
        reader = self.only_consumer(node.output)
        return reader.output if reader is not None and reader.op in absorbed else node.output

    def makers(self, tensor: str) -> tuple[Node, ...]:
        """Every node that a tensor depends on, in order."""
        wanted, nodes = {tensor}, list[Node]()
        for node in reversed(self.nodes):
            if wanted.intersection(node.outputs):
                nodes.append(node)
                wanted.update(node.inputs)
        return tuple(reversed(nodes))

    def part(self, nodes: Iterable[Node], inputs: Iterable[str], outputs: Iterable[str]) -> onnx.ModelProto:
        """Some of the nodes as a model of their own, from some tensors to others; an unknown batch is symbolic."""
        known = {value.name: value for value in (*self.model.graph.input, *self.model.graph.output)}
        shell = onnx.ModelProto()
        shell.CopyFrom(self.model)
        for field, names in (("input", inputs), ("output", outputs)):
            shell.graph.ClearField(field)
            getattr(shell.graph, field).extend(known.get(name) or self._value(name) for name in names)
        return replace(self, nodes=tuple(nodes), model=shell).write()

    def _value(self, name: str) -> onnx.ValueInfoProto:
        batch, *sides = self.shapes[name]
        return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [batch or "N", *sides])

    def with_constants(self, changed: Mapping[str, Array]) -> Graph:
        graph = replace(self, constants={**self.constants, **changed})
        if "shapes" in self.__dict__ and all(self._keeps_shapes(name, array) for name, array in changed.items()):
            graph.__dict__["shapes"] = self.shapes  # ONNX takes a tenth of a second to infer them
        return graph

    def _keeps_shapes(self, name: str, array: Array) -> bool:
        """A weight in place of a weight: floats decide the shape of a Resize or a Range alone."""
        weight = np.issubdtype(array.dtype, np.floating) and array.shape == self.constants.get(name, np.empty(0)).shape
        return weight and all(node.op not in ("Resize", "Range") for node in self.consumers.get(name, ()))

    def with_nodes(self, nodes: Iterable[Node], constants: Mapping[str, Array] | None = None) -> Graph:
        return replace(self, nodes=tuple(nodes), constants={**self.constants, **(constants or {})})

    def write(self) -> onnx.ModelProto:
        """Put the model together again; unused constants are dropped."""
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        model.graph.node.extend(node.proto() for node in self.nodes)
        used = {name for node in self.nodes for name in node.inputs} | set(self.outputs)
        model.graph.initializer.extend(
            numpy_helper.from_array(np.asarray(array, order="C"), name)
            for name, array in self.constants.items()
            if name in used
        )
        return model


def _attribute(attribute: onnx.AttributeProto) -> Any:
    """Python value of an attribute; strings as str, graphs and the rest as the proto itself."""
    simple = (onnx.AttributeProto.INT, onnx.AttributeProto.INTS, onnx.AttributeProto.FLOAT, onnx.AttributeProto.FLOATS)
    if attribute.type in simple:
        value = helper.get_attribute_value(attribute)
        return list(value) if attribute.type in (simple[1], simple[3]) else value
    if attribute.type == onnx.AttributeProto.STRING:
        return attribute.s.decode()
    return attribute.t if attribute.type == onnx.AttributeProto.TENSOR else attribute


def _unique_names(nodes: list[Node]) -> tuple[Node, ...]:
    seen: set[str] = set()
    unique = []
    for node in nodes:
        name, count = node.name, 1
        while name in seen:
            name, count = f"{node.name}_{count}", count + 1
        seen.add(name)
        unique.append(replace(node, name=name))
    return tuple(unique)


def _shell(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without nodes, initializers and value infos: header, opset, inputs and outputs."""
    shell = onnx.ModelProto()
    shell.CopyFrom(model)
    for field in ("node", "initializer", "value_info"):
        shell.graph.ClearField(field)
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    shell.graph.ClearField("input")
    shell.graph.input.extend(inputs)
    return shell
