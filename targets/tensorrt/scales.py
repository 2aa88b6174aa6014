"""Moves constant scales per channel away from Q and DQ, whose scale is one per tensor. The function stays the same.

TensorRT turns a product or a sum with a constant into a Scale layer and merges neighbouring Scales, Q and DQ among them
("Types of Fusions" and "Q/DQ Fusion" in the developer guide). One that holds a factor per channel and one that holds a
single factor and zero_point do not merge: 8.6.0 ends in ``mergeScales ... Assertion equalOrZero``, seen on a GPU.

In order, and with no operator more than before where one of the first three fits:

1. behind a convolution or Gemm, also through a pool or a ReLU: into its weights' scales and its bias;
2. behind a product, ``x * hardsigmoid(x)`` say: onto the factor that is a gate, ``x * (hardsigmoid(x) * gain)``.
   Another reader of it, the product of squeeze-excite, gets ``1 / gain`` onto its own gate;
3. behind a ReLU: before it, since ``relu(x) * gain = relu(x * gain)`` for a positive gain;
4. else: a depthwise 1x1 convolution in float, which is no Scale.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from edgec.pipeline.network.graph import Array, Graph, Node

MOVING = ("Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Concat", "Slice", "MaxPool")
"""What Q and DQ wander through in TensorRT ("Q/DQ propagation"): on the other side they still meet the scale."""

CARRIES = ("GlobalAveragePool", "AveragePool", "MaxPool", "Flatten")
"""``f(x * gain) = f(x) * gain`` for a positive gain per channel; Flatten where a channel is one value."""

SCALES = ("Mul", "Div", "Add", "Sub", "BatchNormalization")


@dataclass(frozen=True)
class Affine:
    """``factor * x + shift`` per channel, both ``(C,)`` in float64."""

    factor: Array
    shift: Array

    @property
    def is_gain(self) -> bool:
        return not self.shift.any() and bool((self.factor > 0).all())


def scale_size(graph: Graph, node: Node) -> int:
    """How many constants TensorRT's Scale layer would hold for this node; 0 where it is none."""
    if node.op == "BatchNormalization":
        return graph.constants[node.inputs[1]].size if node.inputs[1] in graph.constants else 0
    constants = [graph.constants[name].size for name in node.inputs if name in graph.constants]
    is_scale = node.op in SCALES and len(constants) == 1 and len(node.inputs) == 2
    return constants[0] if is_scale else 0


def meets_quantization(graph: Graph, node: Node) -> Node | None:
    """A Q or DQ of another granularity that TensorRT would merge with ``node``, a scale per channel."""
    size = scale_size(graph, node)
    if size <= 1:
        return None
    for neighbour in (*dequantizers(graph, _data(graph, node)), *quantizers(graph, node.output)):
        if graph.constants[neighbour.inputs[1]].size != size:
            return neighbour
    return None


def separate_scales(graph: Graph) -> Graph:
    """Apply the four rules wherever a scale meets a Q or DQ; one that fits none of them stays, for the lint to name."""
    shapes = dict(graph.shapes)
    left: set[str] = set()
    while True:
        found = next((n for n in graph.nodes if n.name not in left and meets_quantization(graph, n)), None)
        if found is None:
            return graph
        moved = _Move(graph, shapes).away(found)
        left.add(found.name)
        graph = moved or graph


def _data(graph: Graph, node: Node) -> str:
    return next(name for name in node.inputs if name not in graph.constants)


def _passes(graph: Graph, node: Node, also: tuple[str, ...]) -> bool:
    return node.op in (*MOVING, *also) or scale_size(graph, node) == 1


def dequantizers(graph: Graph, tensor: str, also: tuple[str, ...] = ()) -> Iterator[Node]:
    """Those whose values arrive in ``tensor`` unchanged but for moves, one factor, and operators of ``also``."""
    made = graph.producer.get(tensor)
    if made is not None and made.op == "DequantizeLinear":
        yield made
    elif made is not None and _passes(graph, made, also):
        for name in graph.data_inputs(made):
            yield from dequantizers(graph, name, also)


def quantizers(graph: Graph, tensor: str, also: tuple[str, ...] = ()) -> Iterator[Node]:
    """Those that ``tensor`` arrives in, in the same way."""
    for reader in graph.consumers.get(tensor, ()):
        if reader.op == "QuantizeLinear":
            yield reader
        elif _passes(graph, reader, also):
            yield from quantizers(graph, reader.output, also)


@dataclass(frozen=True)
class _Move:
    """Takes one scale to another place. ``shapes`` are those of the tensors before any move."""

    graph: Graph
    shapes: Mapping[str, tuple[int | None, ...]]

    def away(self, node: Node) -> Graph | None:
        """The graph without ``node`` next to a Q or DQ; None where no rule fits."""
        affine = self._affine(node)
        data = _data(self.graph, node)
        if affine is None:
            return None
        landed = None if node.output in self.graph.outputs else self._land(data, node, affine)
        if landed is None:
            return self._as_convolution(node, data, affine)
        kept = (n for n in landed.nodes if n.name != node.name)
        return landed.with_nodes(_reading(n, {node.output: data}) for n in kept)

    def _affine(self, node: Node) -> Affine | None:
        """None where the constants are not one per channel of axis 1."""
        shape = self.shapes.get(_data(self.graph, node), ())
        channels = shape[1] if len(shape) in (2, 4) else None
        if channels is None:
            return None
        if node.op == "BatchNormalization":
            scale, bias, mean, var = (self.graph.constants[name].astype(np.float64) for name in node.inputs[1:5])
            factor = scale / np.sqrt(var + node.attributes.get("epsilon", 1e-5))
            return Affine(factor, bias - mean * factor)
        (constant,) = (name for name in node.inputs if name in self.graph.constants)
        values = self.graph.constants[constant].astype(np.float64)
        wanted = (channels, *[1] * (len(shape) - 2))
        if values.shape not in (wanted, (1, *wanted)):
            return None
        values, one, first = values.reshape(-1), np.ones(channels), node.inputs[0] == constant
        known: dict[str, Callable[[], Affine | None]] = {
            "Mul": lambda: Affine(values, 0 * one),
            "Div": lambda: None if first else Affine(1 / values, 0 * one),
            "Add": lambda: Affine(one, values),
            "Sub": lambda: Affine(-one, values) if first else Affine(one, -values),
        }
        return known[node.op]()

    def _land(self, tensor: str, reader: Node, affine: Affine) -> Graph | None:
        """``tensor`` comes out scaled for ``reader``; every other reader computes what it did."""
        made = self.graph.producer.get(tensor)
        if made is None or tensor in self.graph.outputs:
            return None
        if made.op == "Mul" and len(self.graph.data_inputs(made)) == 2 and affine.is_gain:
            return self._onto_gate(made, reader, affine.factor)
        if self.graph.only_consumer(tensor) is None:
            return None
        if made.op in ("Conv", "Gemm"):
            return self._into_weights(made, affine)
        if made.op in CARRIES and affine.is_gain and self._keeps_channels(made):
            return self._land(made.inputs[0], made, affine)
        if made.op == "Relu" and affine.is_gain:
            return self._land(made.inputs[0], made, affine) or self._before(made, affine.factor)
        return None

    def _keeps_channels(self, node: Node) -> bool:
        return node.op != "Flatten" or self.shapes.get(node.inputs[0], ())[2:] == (1, 1)

    def _into_weights(self, node: Node, affine: Affine) -> Graph | None:
        """Rule 1. Of quantized weights the scales are multiplied; their integers stay."""
        dequantized = self.graph.producer.get(node.inputs[1])
        name = node.inputs[1] if dequantized is None else dequantized.inputs[1]
        stored, bias = self.graph.constants.get(name), self._bias(node)
        if stored is None or bias is None or not (affine.factor > 0).all():
            return None
        if dequantized is None:
            rows = 1 if node.op == "Gemm" and not node.attributes.get("transB") else 0
            stored = stored * affine.factor.reshape([-1 if axis == rows else 1 for axis in range(stored.ndim)])
        elif stored.size == affine.factor.size and self.graph.only_consumer(dequantized.output):
            stored = stored * affine.factor.reshape(stored.shape)
        else:
            return None
        scaled, shifted = f"{node.name}.moved_scale", f"{node.name}.moved_bias"
        constants = {scaled: _float(stored), shifted: _float(bias * affine.factor + affine.shift)}
        weight = scaled if dequantized is None else node.inputs[1]
        changed = {node.name: replace(node, inputs=(node.inputs[0], weight, shifted))}
        if dequantized is not None:
            inputs = (dequantized.inputs[0], scaled, *dequantized.inputs[2:])
            changed[dequantized.name] = replace(dequantized, inputs=inputs)
        return self.graph.with_nodes((changed.get(n.name, n) for n in self.graph.nodes), constants)

    def _bias(self, node: Node) -> Array | None:
        """Its values in float64, 0 where there is none; None where they are computed, or weighed by alpha and beta."""
        if node.attributes.get("alpha", 1.0) != 1.0 or node.attributes.get("beta", 1.0) != 1.0:
            return None
        if len(node.inputs) < 3 or not node.inputs[2]:
            return np.zeros(1)
        stored = self.graph.constants.get(node.inputs[2])
        return None if stored is None else stored.astype(np.float64)

    def _onto_gate(self, product: Node, reader: Node, factor: Array) -> Graph | None:
        """Rule 2. ``1 / factor`` goes onto the gates of other readers, which must be products of the same kind."""
        others = [node for node in self.graph.consumers.get(product.output, ()) if node.name != reader.name]
        gates = {node.name: self._gate(node, product.output) for node in others}
        own = self._gate(product)
        if own is None or None in gates.values():
            return None
        graph = self._multiplied(self.graph, product, own, factor)
        for node in others:
            graph = self._multiplied(graph, node, str(gates[node.name]), 1 / factor)
        return graph

    def _gate(self, product: Node, factor: str = "") -> str | None:
        """The operand that may take a factor: not quantized, a vector rather than a map, made by an activation."""
        is_product = product.op == "Mul" and len(self.graph.data_inputs(product)) == 2
        free = [name for name in product.inputs if name != factor and not any(dequantizers(self.graph, name))]
        if not is_product or not free or (factor and len(free) != 1):
            return None
        return min(free, key=lambda name: (self._is_map(name), not self._is_activation(name)))

    def _is_map(self, name: str) -> bool:
        return self.shapes.get(name, ())[2:] not in ((), (1, 1))

    def _is_activation(self, name: str) -> bool:
        made = self.graph.producer.get(name)
        return made is not None and made.op in ("HardSigmoid", "Sigmoid", "Clip")

    def _multiplied(self, graph: Graph, reader: Node, operand: str, factor: Array) -> Graph:
        """``reader`` gets ``operand * factor``; a constant that stands there already takes the factor as well."""
        made = graph.producer.get(operand)
        shape = (1, factor.size, *[1] * (len(self.shapes.get(reader.output, (0,) * 4)) - 2))
        if made is not None and scale_size(graph, made) == factor.size and made.op == "Mul":
            (constant,) = (name for name in made.inputs if name in graph.constants)
            if graph.only_consumer(operand) is not None and graph.constants[constant].shape == shape:
                return graph.with_constants({constant: _float(graph.constants[constant] * factor.reshape(shape))})
        scaled, gain = f"{reader.name}.scaled", f"{reader.name}.gain"
        multiply = Node("Mul", (operand, gain), (scaled,), {}, scaled)
        constants = {gain: _float(factor.reshape(shape))}
        return graph.with_nodes(_before(graph, reader, multiply, _reading(reader, {operand: scaled})), constants)

    def _before(self, relu: Node, factor: Array) -> Graph | None:
        """Rule 3."""
        if any(dequantizers(self.graph, relu.inputs[0])) or self.graph.only_consumer(relu.inputs[0]) is None:
            return None
        return self._multiplied(self.graph, relu, relu.inputs[0], factor)

    def _as_convolution(self, node: Node, data: str, affine: Affine) -> Graph:
        """Rule 4. A vector ``(N, C)`` is looked at as ``(N, C, 1, 1)`` for it."""
        weight, bias, axes, tall, wide = (f"{node.name}.{part}" for part in ("weight", "bias", "axes", "in", "out"))
        channels, is_map = affine.factor.size, len(self.shapes[data]) == 4
        constants = {weight: _float(affine.factor.reshape(-1, 1, 1, 1)), bias: _float(affine.shift)}
        attributes = {"group": channels, "kernel_shape": [1, 1], "strides": [1, 1], "pads": [0, 0, 0, 0]}
        read, made = (data, node.output) if is_map else (tall, wide)
        nodes = [Node("Conv", (read, weight, bias), (made,), attributes, node.name)]
        if not is_map:
            constants[axes] = np.array([2, 3])
            nodes.insert(0, Node("Unsqueeze", (data, axes), (tall,), {}, tall))
            nodes.append(Node("Squeeze", (wide, axes), (node.output,), {}, wide))
        return self.graph.with_nodes(_before(self.graph, node, *nodes), constants)


def _before(graph: Graph, place: Node, *nodes: Node) -> list[Node]:
    """``nodes`` in place of one."""
    return [new for node in graph.nodes for new in (nodes if node.name == place.name else (node,))]


def _reading(node: Node, names: Mapping[str, str]) -> Node:
    return replace(node, inputs=tuple(names.get(name, name) for name in node.inputs))


def _float(values: Array) -> Array:
    return np.asarray(values, np.float32)
