"""Which of many choices are worth a look: those that no other beats."""

from __future__ import annotations

from collections.abc import Sequence


def unbeaten(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Of each (cost, gain), that no other costs as little and gains as much without being equal."""

    def is_beaten(cost: float, gain: float) -> bool:
        return any(c <= cost and g >= gain and (c, g) != (cost, gain) for c, g in points)

    return [not is_beaten(*point) for point in points]
