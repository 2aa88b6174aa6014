"""Which parameters of a plan's activations are free, and which go together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgec.pipeline.forms.scheme import Scheme
from edgec.pipeline.network.graph import Graph
from edgec.pipeline.quantize.plan import (
    Plan,
    fixed_params,
    integer_nodes,
    kept_step,
    quantized_tensors,
    same_scale_groups,
)


@dataclass(frozen=True)
class Ties:
    """Whose parameters a stored tensor takes, by name; those that the runtime or pixels prescribe are not there.

    Attributes:
        scales: the first of those that share one.
        zero_points: the same; none where all are 0, or at the end of a Relu's range.
    """

    scales: Mapping[str, str]
    zero_points: Mapping[str, str]


def ties(graph: Graph, scheme: Scheme, plan: Plan) -> Ties:
    """Of all activations that a plan stores."""
    integer, _ = integer_nodes(graph, scheme, plan.floats)
    names = [name for name in quantized_tensors(graph, scheme, integer) if name in plan.activations]
    groups = same_scale_groups(graph, scheme, integer, names)
    first, kept = {name: members[0] for name, members in groups.items()}, set[str]()
    for name in names:
        if len(groups[name]) == 1 and kept_step(graph, scheme, name, plan.activations) is not None:
            first[name] = first[graph.producer[name].inputs[0]]
            kept.add(name)
    settled = {first[name] for name in names if name in graph.inputs or fixed_params(graph, scheme, name) is not None}
    scales = {name: leader for name, leader in first.items() if leader not in settled}
    free = () if scheme.activation_symmetric else (name for name in scales if name not in kept)
    return Ties(scales, {name: scales[name] for name in free})
