"""Puts the fewest layers back into float that keep the accuracy drop within what was asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from edgec.pipeline.quantize.graph import Graph
from edgec.pipeline.quantize.sensitivity import Sensitivity


@dataclass(frozen=True)
class Fallback:
    """What had to stay in float.

    Attributes:
        floats: nodes by name and why.
        drop_pp: of the network with them, on the images that decided.
        held: whether the drop is within the limit; False only where even the whole ranking in float does not hold it.
    """

    floats: Mapping[str, str]
    drop_pp: float
    held: bool


def fall_back(
    graph: Graph,
    ranked: Sequence[Sensitivity],
    drop_pp: Callable[[Mapping[str, str]], float],
    max_drop_pp: float,
) -> Fallback:
    """Exclude the most sensitive layers: 0, 1, 2, 4, ... until the drop holds, then the fewest between the last two.

    Args:
        ranked: most sensitive first.
        drop_pp: accuracy lost with these nodes in float; each call quantizes and evaluates.
    """
    tried: dict[int, float] = {}

    def drop(count: int) -> float:
        if count not in tried:
            tried[count] = drop_pp(excluded(graph, ranked[:count]))
        return tried[count]

    low, high = -1, 0
    while drop(high) > max_drop_pp and high < len(ranked):
        low, high = high, min(max(1, 2 * high), len(ranked))
    while high - low > 1 and drop(high) <= max_drop_pp:
        middle = (low + high) // 2
        low, high = (low, middle) if drop(middle) <= max_drop_pp else (middle, high)
    return Fallback(excluded(graph, ranked[:high]), drop(high), drop(high) <= max_drop_pp)


def excluded(graph: Graph, ranked: Sequence[Sensitivity]) -> dict[str, str]:
    """The nodes to keep in float for these layers: their own, and those that read the tensor they store."""
    floats: dict[str, str] = {}
    for entry in ranked:
        reason = f"sensitive: alone it leaves {entry.sqnr_db:.1f} dB at the output"
        if entry.layer.op != "input":
            floats[entry.layer.name] = reason
        for reader in graph.consumers.get(entry.layer.tensor, ()):
            floats.setdefault(reader.name, f"reads '{entry.layer.tensor}', which {entry.layer.name} leaves in float")
    return floats
