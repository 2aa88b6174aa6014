"""What plots as SVG stand on: sizes, scales, ticks, and the frame with a title and a description for readers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from edgec.pipeline.core.templates import templates_of

WIDTH = 360
EDGE = 12
LINE, AXIS = 15, 40


class Scale:
    """A linear map from values to units of the plot."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self._low, self._start = low, start
        self._slope = (end - start) / ((high - low) or 1.0)

    def __call__(self, value: float) -> float:
        return self._start + (value - self._low) * self._slope


def nice_range(low: float, high: float) -> tuple[float, float]:
    """A little room on both sides, on round numbers."""
    step = _step(max(high - low, abs(high) * 1e-3, 1e-9))
    return math.floor(low / step - 0.25) * step, math.ceil(high / step + 0.25) * step


def _step(span: float) -> float:
    power = 10.0 ** math.floor(math.log10(span / 4))
    return next(power * factor for factor in (1, 2, 5, 10) if span / (power * factor) <= 5)


def ticks(low: float, high: float) -> list[float]:
    """Two to six round numbers between both, which differ."""
    step = _step(high - low)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 10) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def vertical_axis(low: float, high: float, place: Scale, bottom: float, unit: str, top: float = 0.0) -> list[str]:
    """Grid lines from ``top`` to ``bottom``, their numbers, and the unit below."""
    parts = []
    for tick in ticks(low, high):
        x = place(tick)
        anchor = "end" if x > WIDTH - EDGE - 8 else "" if x < EDGE + 8 else "middle"
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top:g}" y2="{bottom}"/>')
        parts.append(f'<text class="{anchor} soft" x="{x:.1f}" y="{bottom + 15}">{tick:g}</text>')
    parts.append(f'<text class="end soft" x="{WIDTH - EDGE}" y="{bottom + 32}">{escape(unit)}</text>')
    return parts


def figure(title: str, description: str, height: float, parts: Sequence[str]) -> str:
    label = escape(f"{title}. {description}", quote=True)
    return (
        f'<svg role="img" aria-label="{label}" viewBox="0 0 {WIDTH} {height:.0f}" '
        f'preserveAspectRatio="xMinYMin meet"><title>{escape(title)}</title>{"".join(parts)}</svg>'
    )


def standalone(svg: str) -> str:
    """A plot as a file of its own: with its style, light and dark, and a size for those who embed it."""
    style = templates_of("edgec.pipeline.report", escape_html=True).get_template("chart-file.css.j2").render()
    opening, rest = svg.split(">", 1)
    attributes = f'xmlns="http://www.w3.org/2000/svg" width="{2 * WIDTH}"'
    return f"{opening} {attributes}><!-- Made by edgec. --><style>\n{style}</style>{rest}\n"
