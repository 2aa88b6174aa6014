"""Which tensors must share one scale per channel, and the exact rescaling of such a stream.

A convolution is linear and a ReLU positively homogeneous, so a channel may be multiplied by s > 0 where it is produced
and divided by s where it is read, without any change of the function (Nagel et al. 2019, arXiv:1906.04721, section 4.1;
here extended to residual streams, squeeze-excite and gated products).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgec.pipeline.quantize.affine import Array
from edgec.pipeline.quantize.graph import Graph, Node
from edgec.pipeline.quantize.plan import Network, is_linear

HOMOGENEOUS = ("Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "Dropout")
"""f(s x) = s f(x) for s > 0, channel by channel."""

BOUNDED = ("HardSigmoid", "Sigmoid", "Clip", "Softmax")
"""Producers of a gate: its range is fixed, so that a scale passes a product through the other operand."""


@dataclass(frozen=True)
class Stream:
    """Tensors whose channels are scaled together.

    Attributes:
        tensors: in topological order.
        producers: linear nodes that write one of them; their rows take the scale.
        consumers: linear nodes that read one of them; their columns take its inverse.
        num_channels: of every tensor in the stream.
    """

    tensors: tuple[str, ...]
    producers: tuple[Node, ...]
    consumers: tuple[Node, ...]
    num_channels: int


def find_streams(graph: Graph, sources: frozenset[str] = frozenset()) -> list[Stream]:
    """The streams whose every producer and consumer can absorb a scale, in topological order.

    Args:
        sources: outputs of gated products that start a stream of their own instead of continuing their operand's.
    """
    links = _Links(graph, sources)
    for node in graph.nodes:
        links.visit(node)
    producers = {node.output: node for node in graph.nodes if _absorbs(graph, node)}
    streams = []
    for tensors in links.groups():
        made = tuple(producers[name] for name in tensors if name in producers)
        read = tuple(
            node for name in tensors for node in graph.consumers.get(name, ()) if _absorbs(graph, node, reading=name)
        )
        if read and (made or sources.intersection(tensors)):
            streams.append(Stream(tuple(tensors), made, read, graph.shapes[tensors[0]][1] or 0))
    return streams


def rescale(network: Network, stream: Stream, factors: Array) -> Network:
    """Multiply the stream's channels by ``factors``, ``(C,)`` and positive, in the weights around it."""
    graph = network.graph
    changed: dict[str, Array] = {}

    def current(name: str) -> Array:
        return np.asarray(changed.get(name, graph.constants[name]), np.float64)

    for node in stream.producers:
        rows = _rows(node, factors, current(node.inputs[1]).ndim)
        changed[node.inputs[1]] = current(node.inputs[1]) * rows
        if len(node.inputs) > 2 and node.inputs[2]:
            changed[node.inputs[2]] = current(node.inputs[2]) * factors
    for node in stream.consumers:
        changed[node.inputs[1]] = current(node.inputs[1]) / columns(node, factors, current(node.inputs[1]).shape)
    scaled = graph.with_constants({name: array.astype(np.float32) for name, array in changed.items()})
    moved = {name: network.ranges[name] for name in stream.tensors if name in network.ranges}
    return Network(scaled, {**network.ranges, **{name: (a * factors, b * factors) for name, (a, b) in moved.items()}})


def columns(node: Node, factors: Array, shape: tuple[int, ...]) -> Array:
    """Per-input-channel factors, shaped to broadcast against the node's weight, grouped convolutions included."""
    if node.op == "Gemm":
        return factors[None, :] if node.attributes.get("transB") else factors[:, None]
    groups = int(node.attributes.get("group", 1))
    spread = np.repeat(factors.reshape(groups, shape[1]), shape[0] // groups, axis=0)
    return spread.reshape(shape[0], shape[1], *[1] * (len(shape) - 2))


def _rows(node: Node, factors: Array, rank: int) -> Array:
    if node.op == "Gemm" and not node.attributes.get("transB"):
        return factors[None, :]
    return factors.reshape(-1, *[1] * (rank - 1))


def _absorbs(graph: Graph, node: Node, reading: str | None = None) -> bool:
    fits = node.op in ("Conv", "Gemm") and is_linear(graph, node)
    return fits and (reading is None or node.inputs[0] == reading)


class _Links:
    """Union of tensors that share a scale; a pinned member forbids scaling its whole group."""

    def __init__(self, graph: Graph, sources: frozenset[str]) -> None:
        self.graph = graph
        self.sources = sources
        self.parent: dict[str, str] = {}
        self.pinned = {*graph.inputs, *graph.outputs}

    def visit(self, node: Node) -> None:
        data = self.graph.data_inputs(node)
        if _absorbs(self.graph, node) and data == node.inputs[:1]:
            for name in (*data, node.output):
                self.root(name)
        elif node.op in HOMOGENEOUS or self._keeps_channels(node):
            self.tie(data[0], node.output)
        elif node.op == "Add" and len(data) == 2 and self._same_shape(data):
            self.tie(*data, node.output)
        elif node.op == "Mul" and len(data) == 2 and self._gate(data) is not None:
            gate = self._gate(data)
            self.pin(str(gate))
            operands = () if node.output in self.sources else tuple(name for name in data if name != gate)
            self.tie(node.output, *operands)
        else:
            self.pin(*data, *node.outputs)

    def groups(self) -> list[list[str]]:
        members: dict[str, list[str]] = {}
        for name in list(self.parent):
            members.setdefault(self.root(name), []).append(name)
        return [names for names in members.values() if not self.pinned.intersection(names)]

    def root(self, name: str) -> str:
        self.parent.setdefault(name, name)
        while self.parent[name] != name:
            name = self.parent[name]
        return name

    def tie(self, *names: str) -> None:
        first = self.root(names[0])
        for name in names[1:]:
            self.parent[self.root(name)] = first

    def pin(self, *names: str) -> None:
        for name in names:
            self.root(name)
        self.pinned.update(names)

    def _is_vector(self, name: str) -> bool:
        return self.graph.shapes.get(name, (0, 0, 0))[2:] in ((1, 1), ())

    def _keeps_channels(self, node: Node) -> bool:
        """A Flatten of ``(N, C, 1, 1)`` or a mean over exactly the spatial axes."""
        if node.op != "ReduceMean":
            return node.op == "Flatten" and self._is_vector(node.inputs[0])
        axes: Mapping[str, object] | list[int] = node.attributes.get("axes", [])
        if len(node.inputs) > 1 and node.inputs[1] in self.graph.constants:
            axes = self.graph.constants[node.inputs[1]].tolist()
        return sorted(axis % 4 for axis in axes) == [2, 3]  # type: ignore[operator]

    def _same_shape(self, names: tuple[str, ...]) -> bool:
        shapes = [self.graph.shapes.get(name) for name in names]
        return shapes[0] is not None and shapes[0] == shapes[1]

    def _gate(self, names: tuple[str, ...]) -> str | None:
        """The operand of a fixed range; the other one must have at least its shape."""
        bounded = [name for name in names if (made := self.graph.producer.get(name)) is not None and made.op in BOUNDED]
        return bounded[0] if len(bounded) == 1 else None
