"""Keeps the bounds of a Clip away from Q and DQ. The function stays the same.

TensorRT lets Q and DQ wander over activations ("Q/DQ Propagation" in the developer guide). Over a ReLU that is right:
zero is zero in any unit. Over a Clip 8.6.0 does it as well and leaves the bounds as they are: behind a convolution in
float ``Clip(x, 0, 6)`` then cuts the quantizer's *steps* at six. The engine builds and answers nearly the same to every
image. Seen on a GPU: executed in this way in ONNX Runtime, MobileNetV1 and V2 answer as their engines did, within 32
and 24 dB. Inside the kernel of an integer convolution the bounds are right (``CLIPPED_RELU [0, 127]``, seen as well).

1. A bound at which the Q behind saturates, or that the DQ before does not reach, is left out. A lower bound of zero is
   a ReLU. So a ReLU6 with its own range costs nothing.
2. Any other is computed: ``max(x, low) = relu(x - low) + low`` and ``min(x, high) = high - relu(high - x)``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from edgec.pipeline.network.graph import LINEAR, Array, Graph, Node
from edgec.targets.tensorrt.scales import dequantizers, quantizers

ACTIVATIONS = ("Relu", "Clip")
LEAST, MOST = -128, 127
"""Of the integers that TensorRT quantizes to."""

NEARLY = 1e-3
"""Of a step: what float32 loses of ``6 / 127 * 127``."""


@dataclass(frozen=True)
class Bounds:
    """Of a Clip: ``min(max(x, low), high)``; infinite where there is none."""

    low: float
    high: float

    @property
    def mean_the_same_in_steps(self) -> bool:
        """Only zero and none do."""
        return all(bound == 0 or math.isinf(bound) for bound in (self.low, self.high))


def bounds_of(graph: Graph, node: Node) -> Bounds | None:
    """None where they are computed."""
    low, high = (*node.inputs[1:], "", "")[:2]
    if any(name and name not in graph.constants for name in (low, high)):
        return None
    return Bounds(
        graph.constants[low].item() if low else -math.inf,
        graph.constants[high].item() if high else math.inf,
    )


def meets_quantizer(graph: Graph, node: Node) -> Node | None:
    """The Q or DQ that TensorRT would move over this Clip, whose bounds mean something else in its steps."""
    if node.op != "Clip" or _is_fused(graph, node):
        return None
    bounds = bounds_of(graph, node)
    if bounds is not None and bounds.mean_the_same_in_steps:
        return None
    behind, before = (
        quantizers(graph, node.output, ACTIVATIONS),
        dequantizers(graph, node.inputs[0], ACTIVATIONS),
    )
    return next(chain(behind, before), None)


def separate_bounds(graph: Graph) -> Graph:
    """Apply the rules to every Clip that meets a Q or DQ; one with computed bounds stays, for the lint to name."""
    constants: dict[str, Array] = {}
    renamed: dict[str, str] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        read = replace(node, inputs=tuple(renamed.get(name, name) for name in node.inputs))
        bounds = bounds_of(graph, node) if meets_quantizer(graph, node) else None
        if bounds is None:
            nodes.append(read)
            continue
        made = list(_computed(read, _needed(graph, node, bounds), constants))
        nodes += made
        if not made:
            renamed[node.output] = read.inputs[0]
    return graph.with_nodes(nodes, constants)


def _is_fused(graph: Graph, node: Node) -> bool:
    """Whether an integer convolution or product takes the Clip into its kernel."""
    made = graph.producer.get(node.inputs[0])
    if made is None or made.op not in LINEAR or graph.only_consumer(made.output) is None:
        return False
    pairs = (graph.producer.get(name) for name in made.inputs[:2])
    return all(pair is not None and pair.op == "DequantizeLinear" for pair in pairs)


def _needed(graph: Graph, node: Node, bounds: Bounds) -> Bounds:
    """Rule 1: what its neighbours do not do anyway."""
    readers, made = graph.consumers.get(node.output, ()), graph.producer.get(node.inputs[0])
    spans = []
    if readers and node.output not in graph.outputs and all(reader.op == "QuantizeLinear" for reader in readers):
        spans.append([_scale(graph, reader) for reader in readers])
    if made is not None and made.op == "DequantizeLinear":
        spans.append([_scale(graph, made)])
    for scales in spans:
        if all(bounds.low / scale <= LEAST + NEARLY for scale in scales):
            bounds = replace(bounds, low=-math.inf)
        if all(bounds.high / scale >= MOST - NEARLY for scale in scales):
            bounds = replace(bounds, high=math.inf)
    return bounds


def _scale(graph: Graph, node: Node) -> float:
    """The largest of a Q's or DQ's scales."""
    return float(graph.constants[node.inputs[1]].max())


def _computed(node: Node, bounds: Bounds, constants: dict[str, Array]) -> Iterator[Node]:
    """Rule 2; nothing where there are no bounds."""
    steps: list[tuple[str, str]] = []  # operator, constant that it takes
    if bounds.low == 0:
        steps.append(("Relu", ""))
    elif bounds.low > -math.inf:
        constants[f"{node.name}.low"] = np.asarray(bounds.low, np.float32)
        steps += [("Sub", f"{node.name}.low"), ("Relu", ""), ("Add", f"{node.name}.low")]
    if bounds.high < math.inf:
        constants[f"{node.name}.high"] = np.asarray(bounds.high, np.float32)
        steps += [("Rsub", f"{node.name}.high"), ("Relu", ""), ("Rsub", f"{node.name}.high")]
    read = node.inputs[0]
    for number, (op, constant) in enumerate(steps, start=1):
        last = number == len(steps)
        name, made = (node.name, node.output) if last else (f"{node.name}.{number}", f"{node.output}.{number}")
        inputs = (constant, read) if op == "Rsub" else (read, constant) if constant else (read,)
        yield Node(op.replace("Rsub", "Sub"), inputs, (made,), {}, name)
        read = made
