"""Hard-swish that is written out, as older exporters and other frameworks do it, becomes the operator again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import isclose

from edgec.pipeline.network.graph import Graph, Node

RELATIVE = 1e-4
"""To which 1/6, 1/2 and 1 have to be met: constants are of float32, some of float16, or were typed as 0.16667."""


def hard_swish_as_one(graph: Graph) -> Graph:
    """``x clip(x + 3, 0, 6) / 6``, ``x HardSigmoid(x)`` and their kin as HardSwish.

    The sixth may stand before, between or behind, as a factor or a divisor, and the gate may be a Clip of any affine
    function of x that comes to ``clip(x / 6 + 1 / 2, 0, 1)`` (Howard et al. 2019, arXiv:1905.02244, section 5.2).
    """
    nodes = []
    for node in graph.nodes:
        source = _swished(graph, node)
        nodes.append(node if source is None else replace(node, op="HardSwish", inputs=(source,), attributes={}))
    return graph.with_nodes(read(nodes, graph.outputs), {})


def read(nodes: list[Node], outputs: tuple[str, ...]) -> list[Node]:
    """The nodes that the outputs need, in their order."""
    needed, kept = set(outputs), []
    for node in reversed(nodes):
        if needed.intersection(node.outputs):
            needed.update(node.inputs)
            kept.append(node)
    return kept[::-1]


def _swished(graph: Graph, node: Node) -> str | None:
    """x, where the node gives ``HardSwish(x)``."""
    if node.op not in ("Mul", "Div"):
        return None
    for name, factor, offset in _affine_steps(graph, node.output):
        product = graph.producer.get(name)
        if product is None or product.op != "Mul" or offset or any(n in graph.constants for n in product.inputs):
            continue
        for one, other in (product.inputs, product.inputs[::-1]):
            for source, outer, shift in _affine_steps(graph, one):
                if not shift and _gates(graph, other, source, factor * outer):
                    return source
    return None


def _gates(graph: Graph, name: str, source: str, factor: float) -> bool:
    """``factor`` times this tensor is ``clip(source / 6 + 1 / 2, 0, 1)``."""
    for inner, scale, shift in _affine_steps(graph, name):
        gate = graph.producer.get(inner)
        clipped = _clipped(graph, gate) if gate is not None and not shift else None
        if gate is None or clipped is None:
            continue
        slope, start, top = (value * scale * factor for value in clipped)
        for reached, gain, offset in _affine_steps(graph, gate.inputs[0]):
            found = (slope * gain, slope * offset + start, top)
            if reached == source and all(map(_is_close, found, (1 / 6, 1 / 2, 1.0))):
                return True
    return False


def _clipped(graph: Graph, node: Node) -> tuple[float, float, float] | None:
    """``(a, b, c)`` of ``clip(a x + b, 0, c)``; None for anything else."""
    if node.op == "HardSigmoid":
        return node.attributes.get("alpha", 0.2), node.attributes.get("beta", 0.5), 1.0
    bounds = [_scalar(graph, name) for name in node.inputs[1:3]] if node.op == "Clip" else []
    return (1.0, 0.0, bounds[1]) if len(bounds) == 2 and bounds[0] == 0 and bounds[1] is not None else None


def _affine_steps(graph: Graph, name: str) -> Iterator[tuple[str, float, float]]:
    """``(x, a, b)`` with ``name = a x + b``: the tensor itself, and what is behind operators with one number each."""
    gain, offset = 1.0, 0.0
    while True:
        yield name, gain, offset
        node = graph.producer.get(name)
        step = _affine_step(graph, node) if node is not None else None
        if step is None:
            return
        name, inner, shift = step
        gain, offset = gain * inner, gain * shift + offset


def _affine_step(graph: Graph, node: Node) -> tuple[str, float, float] | None:
    """``(x, a, b)`` of a node that gives ``a x + b``."""
    if node.op not in ("Add", "Sub", "Mul", "Div") or len(node.inputs) != 2:
        return None
    first, second = node.inputs
    value = _scalar(graph, second)
    if value is None and node.op in ("Add", "Mul"):
        first, value = second, _scalar(graph, first)
    grows = graph.shapes.get(node.output) != graph.shapes.get(first)  # one number of more dimensions
    if value is None or first in graph.constants or grows or (node.op == "Div" and not value):
        return None
    return {
        "Add": (first, 1.0, value),
        "Sub": (first, 1.0, -value),
        "Mul": (first, value, 0.0),
        "Div": (first, 1 / value if value else 0.0, 0.0),
    }[node.op]


def _scalar(graph: Graph, name: str) -> float | None:
    constant = graph.constants.get(name)
    return float(constant.item()) if constant is not None and constant.size == 1 else None


def _is_close(found: float, wanted: float) -> bool:
    return isclose(found, wanted, rel_tol=RELATIVE)
