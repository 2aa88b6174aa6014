"""Which tensors must share one scale per channel, and the exact rescaling of such a stream.

A convolution is linear and a ReLU positively homogeneous, so a channel may be multiplied by s > 0 where it is produced
and divided by s where it is read, without any change of the function (Nagel et al. 2019, arXiv:1906.04721, section 4.1;
here extended to residual streams, squeeze-excite and gated products).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgec.pipeline.network.graph import Graph, Node
from edgec.pipeline.quantize.affine import Array
from edgec.pipeline.quantize.plan import Network, is_linear

HOMOGENEOUS = ("Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "Dropout")
"""f(s x) = s f(x) for s > 0, channel by channel."""

GATES = {"HardSigmoid": "squeeze_excite", "Sigmoid": "squeeze_excite", "Clip": "hard_swish"}
"""Producers of a gate, whose range is fixed, and the rewrite that carries a scale past it through the other operand."""

EVERYTHING = frozenset({"conv", "residual", "squeeze_excite", "hard_swish"})


@dataclass(frozen=True)
class Stream:
    """Tensors whose channels are scaled together.

    Attributes:
        tensors: in topological order.
        producers: nodes that write one of them from constants that can take the scale.
        consumers: nodes that read one of them into constants that can take its inverse.
        num_channels: of every tensor in the stream.
    """

    tensors: tuple[str, ...]
    producers: tuple[Node, ...]
    consumers: tuple[Node, ...]
    num_channels: int


def find_streams(
    graph: Graph, allowed: frozenset[str] = EVERYTHING, sources: frozenset[str] = frozenset()
) -> list[Stream]:
    """The streams whose every producer and consumer can absorb a scale, in topological order.

    Args:
        allowed: what a scale may be carried through, as in ``Scheme.equalize``.
        sources: outputs of gated products that start a stream of their own instead of continuing their operand's.
    """
    links = _Links(graph, allowed, sources)
    for node in graph.nodes:
        links.visit(node)
    producers = {node.output: node for node in graph.nodes if absorbs(graph, node)}
    streams = []
    for tensors in links.groups():
        made = tuple(producers[name] for name in tensors if name in producers)
        read = tuple(node for name in tensors for node in graph.consumers.get(name, ()) if absorbs(graph, node, name))
        if read and (made or sources.intersection(tensors)):
            streams.append(Stream(tuple(tensors), made, read, graph.shapes[tensors[0]][1] or 0))
    return streams


def absorbs(graph: Graph, node: Node, reading: str | None = None) -> bool:
    """A linear node, or a product with a constant per channel, that reads the tensor as data."""
    linear = node.op in ("Conv", "Gemm") and is_linear(graph, node)
    return (linear or is_channel_gain(graph, node)) and (reading is None or node.inputs[0] == reading)


def is_channel_gain(graph: Graph, node: Node) -> bool:
    """``Mul(x, constant)`` with one value per channel, ``(1, C, 1, 1)`` or ``(1, C)``."""
    if node.op != "Mul" or node.inputs[1] not in graph.constants or node.inputs[0] in graph.constants:
        return False
    shape = graph.constants[node.inputs[1]].shape
    return (
        len(shape) in (2, 4)
        and shape[0] == 1
        and shape[1] == graph.shapes.get(node.inputs[0], (0, 0))[1]
        and (shape[2:] in ((), (1, 1)))
    )


def rescale(network: Network, stream: Stream, factors: Array) -> Network:
    """Multiply the stream's channels by ``factors``, ``(C,)`` and positive, in the constants around it."""
    graph = network.graph
    changed: dict[str, Array] = {}

    def current(name: str) -> Array:
        return np.asarray(changed.get(name, graph.constants[name]), np.float64)

    for node in stream.producers:
        weight = current(node.inputs[1])
        changed[node.inputs[1]] = weight * rows(node, factors, weight.ndim)
        if len(node.inputs) > 2 and node.inputs[2]:
            changed[node.inputs[2]] = current(node.inputs[2]) * factors
    for node in stream.consumers:
        weight = current(node.inputs[1])
        changed[node.inputs[1]] = weight / columns(node, factors, weight.shape)
    scaled = graph.with_constants({name: array.astype(np.float32) for name, array in changed.items()})
    moved = {name: network.seen[name].scaled(factors) for name in stream.tensors if name in network.seen}
    return Network(scaled, {**network.seen, **moved})


def columns(node: Node, factors: Array, shape: tuple[int, ...]) -> Array:
    """Per-input-channel factors, shaped to broadcast against the node's weight, grouped convolutions included."""
    if node.op == "Mul":
        return factors.reshape(1, -1, *[1] * (len(shape) - 2))
    if node.op == "Gemm":
        return factors[None, :] if node.attributes.get("transB") else factors[:, None]
    groups = int(node.attributes.get("group", 1))
    spread = np.repeat(factors.reshape(groups, shape[1]), shape[0] // groups, axis=0)
    return spread.reshape(shape[0], shape[1], *[1] * (len(shape) - 2))


def rows(node: Node, factors: Array, rank: int) -> Array:
    """Per-output-channel factors, shaped to broadcast against the node's weight."""
    if node.op == "Mul" or (node.op == "Gemm" and not node.attributes.get("transB")):
        return factors.reshape(1, -1, *[1] * (rank - 2))
    return factors.reshape(-1, *[1] * (rank - 1))


class _Links:
    """Union of tensors that share a scale; a pinned member forbids scaling its whole group."""

    def __init__(self, graph: Graph, allowed: frozenset[str], sources: frozenset[str]) -> None:
        self.graph = graph
        self.allowed = allowed
        self.sources = sources
        self.parent: dict[str, str] = {}
        self.pinned = {*graph.inputs, *graph.outputs}

    def visit(self, node: Node) -> None:
        data = self.graph.data_inputs(node)
        if "conv" in self.allowed and absorbs(self.graph, node) and data == node.inputs[:1]:
            self.touch(*data, node.output)
        elif node.op in HOMOGENEOUS or self._keeps_channels(node):
            self.tie(data[0], node.output)
        elif node.op == "Add" and "residual" in self.allowed and len(data) == 2 and self._same_shape(data):
            self.tie(*data, node.output)
        elif node.op == "Mul" and len(data) == 2 and (gate := self._gate(data)) is not None:
            operand = data[0] if gate == data[1] else data[1]
            self.pin(gate)
            self.tie(node.output, *(() if node.output in self.sources else (operand,)))
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

    def touch(self, *names: str) -> None:
        for name in names:
            self.root(name)

    def tie(self, *names: str) -> None:
        first = self.root(names[0])
        for name in names[1:]:
            self.parent[self.root(name)] = first

    def pin(self, *names: str) -> None:
        self.touch(*names)
        self.pinned.update(names)

    def _keeps_channels(self, node: Node) -> bool:
        """A Flatten of ``(N, C, 1, 1)`` or a mean over exactly the spatial axes."""
        if node.op == "Flatten":
            return self.graph.shapes.get(node.inputs[0], (0, 0, 0))[2:] in ((1, 1), ())
        if node.op != "ReduceMean":
            return False
        axes = node.attributes.get("axes", [])
        if len(node.inputs) > 1 and node.inputs[1] in self.graph.constants:
            axes = self.graph.constants[node.inputs[1]].tolist()
        return sorted(axis % 4 for axis in axes) == [2, 3]

    def _same_shape(self, names: tuple[str, ...]) -> bool:
        shapes = [self.graph.shapes.get(name) for name in names]
        return shapes[0] is not None and shapes[0] == shapes[1]

    def _gate(self, names: tuple[str, ...]) -> str | None:
        """The operand that keeps its scale: a gate of fixed range, or the one that is not itself a rescaled gate."""
        made = [self.graph.producer.get(name) for name in names]
        gains = [node is not None and is_channel_gain(self.graph, node) for node in made]
        if sum(gains) == 1:
            return names[gains.index(False)]
        gates = [
            name
            for name, node in zip(names, made, strict=True)
            if node is not None and GATES.get(node.op) in self.allowed
        ]
        return gates[0] if len(gates) == 1 else None
