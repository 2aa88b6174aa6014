"""Constants that stand where no value is: the -1e9 around a max-pool, under a mask, or added in front of a Softmax.
They are outliers by construction and must not set a range."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.forms.scheme import Scheme
from edgec.pipeline.network.graph import Graph, Node
from edgec.pipeline.quantize.affine import Array
from edgec.pipeline.quantize.channels import Channels
from edgec.pipeline.quantize.plan import Network, Plan, num_steps

MAXIMA = frozenset({"GlobalMaxPool", "Max", "MaxPool", "ReduceMax", "Relu"})
"""Operators that take the largest of their values: what lies below all others is never the answer."""

BOTTOM = -(2.0**63)

FAR = 10.0
"""``exp(-FAR)`` is nothing beside 1 where a step is 1/256, a hundred times over."""

MOVES = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
"""Operators that hand every value on as it is."""


def filled(graph: Graph) -> Mapping[str, tuple[str, float]]:
    """Tensors that hold constants beside computed values, with the computed tensor and the lowest constant.

    A Pad by a constant, a Where with a constant branch, and whatever only moves their values.
    """
    found: dict[str, tuple[str, float]] = {}
    for node in graph.nodes:
        if node.op == "Pad":
            value = graph.constants.get(node.inputs[2]) if len(node.inputs) > 2 else None
            if value is not None and node.attributes.get("mode", "constant") == "constant":
                found[node.output] = (node.inputs[0], float(value.min()))
        elif node.op == "Where":
            computed = [name for name in node.inputs[1:] if name not in graph.constants]
            constant = [graph.constants[name] for name in node.inputs[1:] if name in graph.constants]
            if len(computed) == len(constant) == 1:
                found[node.output] = (computed[0], float(constant[0].min()))
        elif node.op in MOVES and node.inputs[0] in found:
            found[node.output] = found[node.inputs[0]]
    return found


def masked(graph: Graph) -> Mapping[str, tuple[str, float]]:
    """Those of ``filled`` that only maxima read, moved or not: their lowest constants cannot be an answer."""
    found = filled(graph)

    def only_maxima(name: str) -> bool:
        readers = graph.consumers.get(name, ())
        fits = all(node.op in MAXIMA or (node.op in MOVES and only_maxima(node.output)) for node in readers)
        return bool(readers) and fits and name not in graph.outputs

    return {name: source for name, source in found.items() if only_maxima(name)}


def added(graph: Graph) -> Mapping[str, tuple[str, str]]:
    """Sums of a computed tensor and a constant that one Softmax alone reads, with the names of the two."""
    found: dict[str, tuple[str, str]] = {}
    for node in graph.nodes:
        reader = graph.only_consumer(node.output)
        if node.op != "Add" or reader is None or reader.op != "Softmax":
            continue
        constant = [name for name in node.inputs if name in graph.constants]
        computed = [name for name in node.inputs if name not in graph.constants]
        if len(constant) == len(computed) == 1:
            found[node.output] = (computed[0], constant[0])
    return found


def bottomless(graph: Graph) -> frozenset[str]:
    """Masked tensors that hold -inf, which is legal there, or what has no square in float32."""
    lowest = {name: float(graph.constants[mask].min(initial=0)) for name, (_, mask) in added(graph).items()}
    lowest |= {name: least for name, (_, least) in masked(graph).items()}
    return frozenset(name for name, least in lowest.items() if least < BOTTOM)


def with_near_masks(network: Network) -> Network:
    """Masks that are added in front of a Softmax reach as far below the values as 8 bits of a probability can tell.

    A Softmax sees differences alone: a row of the mask may move as a whole, and what lies ``FAR`` below every value of
    its row weighs nothing.
    """
    graph, constants, seen, nodes = network.graph, dict[str, Array](), dict(network.seen), list(network.graph.nodes)
    for name, (source, mask) in added(graph).items():
        if source not in seen:
            continue
        channels, add, softmax = _joined(seen[source]), graph.producer[name], graph.consumers[name][0]
        bottom = -(float(channels.high.max()) - float(channels.low.min()) + FAR)
        given = graph.constants[mask]
        axis = int(softmax.attributes.get("axis", -1))
        axis -= len(graph.shapes[name]) if axis >= 0 else 0
        tops = given.max(axis=axis, keepdims=True) if -axis <= given.ndim else given
        if not given.size or given.min() >= bottom or not np.isfinite(tops).all():
            continue
        near = np.maximum(given - tops, bottom).astype(np.float32)
        constants[f"{add.name}.near"] = near
        inputs = tuple(f"{add.name}.near" if given_name == mask else given_name for given_name in add.inputs)
        nodes[nodes.index(add)] = replace(add, inputs=inputs)
        low, high = float(channels.low.min() + near.min()), float(channels.high.max() + near.max())
        moved = channels.shifted(np.full(1, float(near.mean())))
        seen[name] = replace(moved, lowest=np.full(1, low), highest=np.full(1, high)).ending(low, high)
    return Network(graph.with_nodes(nodes, constants), seen) if constants else network


def without_constants(graph: Graph, seen: Mapping[str, Channels]) -> dict[str, Channels]:
    """Statistics in which a masked tensor is as wide as its computed values alone."""
    changed = dict(seen)
    for name, (source, lowest) in masked(graph).items():
        if source not in changed or lowest >= float(changed[source].low.min()):
            continue
        channels = changed[source]
        same = name not in seen or seen[name].low.size == channels.low.size
        changed[name] = channels if same and _keeps_channels(graph, name) else _joined(channels)
    return changed


def refuse_outliers(source: Graph, network: Network, scheme: Scheme, plan: Plan) -> None:
    """No tensor that is stored as integers has a range which a constant makes so wide that the values vanish in it.

    Args:
        source: the network before rewrites: constants stand in it as its author wrote them.

    Raises:
        EdgecError: ``constant-outlier``.
    """
    hidden, steps = masked(source), num_steps(scheme)
    for name, (data, lowest) in filled(source).items():
        if data not in network.seen:
            continue
        span = _span(network.seen[data])
        if name not in hidden and name in plan.activations and abs(lowest) > steps * span:
            raise _outlier(source.producer[name], lowest, scheme, "and is read as a value")
        for reader in source.consumers.get(name, ()):
            reaches = name in hidden and reader.op in MAXIMA - {"Relu"} and reader.output in plan.activations
            if reaches and float(network.seen[reader.output].low.min()) < -steps * span:
                raise _outlier(source.producer[name], lowest, scheme, f"and leaves '{reader.name}' as a result")


def _outlier(node: Node, constant: float, scheme: Scheme, what: str) -> EdgecError:
    values = f"values that {scheme.activation_dtype} cannot hold with it"
    message = f"{node.op} '{node.name}' puts {constant:g} beside {values}, {what}"
    return EdgecError(
        "constant-outlier", message, "use a constant within the values' range, or let only maxima read it"
    )


def _span(channels: Channels) -> float:
    """Width of the computed values, 0 included."""
    return max(float(channels.high.max()), 0.0) - min(float(channels.low.min()), 0.0)


def _keeps_channels(graph: Graph, name: str) -> bool:
    """Axis 1 is what it was."""
    return graph.producer[name].op in ("Pad", "Where")


def _joined(channels: Channels) -> Channels:
    """The same for all channels at once."""

    def one(how: Callable[[Array], float], values: Array) -> Array:
        return np.full(1, how(values))

    return Channels(
        one(np.min, channels.low),
        one(np.max, channels.high),
        one(np.mean, channels.mean),
        one(np.mean, channels.power),
        one(np.max, channels.low_tail),
        one(np.max, channels.high_tail),
        one(np.min, channels.lowest),
        one(np.max, channels.highest),
        channels.rarity,
    )
