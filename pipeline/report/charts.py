"""Plots as inline SVG: colours come from the page's style sheet, and each has a title and a description for readers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

WIDTH = 480
LABEL_WIDTH = 190
MAX_LABEL = 24  # characters that fit LABEL_WIDTH in the widest usual fonts
VALUE_WIDTH = 74
ROW = 26
MAX_BINS = 24
TOP = 8
AXIS = 30


@dataclass(frozen=True)
class Bar:
    """One row: a value, and where it is known its interval."""

    label: str
    value: float
    interval: tuple[float, float] | None = None
    highlight: bool = False


@dataclass(frozen=True)
class Point:
    """One build in a scatter plot; ``group`` chooses the mark."""

    label: str
    x: float
    y: float
    on_front: bool = False


def bars(title: str, rows: Sequence[Bar], unit: str, digits: int = 1) -> str:
    """Horizontal bars from zero."""
    low = min(0.0, min(row.value for row in rows))
    high = max(0.0, max(row.value for row in rows)) or 1.0
    place = _scale(low, high, LABEL_WIDTH, WIDTH - VALUE_WIDTH)
    parts = []
    for i, row in enumerate(rows):
        y, start, end = TOP + i * ROW, place(min(0.0, row.value)), place(max(0.0, row.value))
        kind = "mark strong" if row.highlight else "mark"
        parts += [
            _label(row.label, y),
            f'<rect class="{kind}" x="{start:.1f}" y="{y + 4}" width="{max(end - start, 1):.1f}" height="{ROW - 10}"/>',
            f'<text x="{end + 6:.1f}" y="{y + 18}">{row.value:.{digits}f} {escape(unit)}</text>',
        ]
    return _figure(title, _words(rows, unit, digits), TOP * 2 + len(rows) * ROW, parts)


def intervals(title: str, rows: Sequence[Bar], unit: str) -> str:
    """A dot and its 95 % interval for each row, on an axis that need not start at zero."""
    ends = [end for row in rows for end in (row.interval or (row.value, row.value))]
    low, high = _nice_range(min(ends), max(ends))
    place = _scale(low, high, LABEL_WIDTH, WIDTH - VALUE_WIDTH)
    height = TOP * 2 + len(rows) * ROW + AXIS
    parts = _vertical_axis_lines(low, high, place, height - AXIS, unit)
    for i, row in enumerate(rows):
        y = TOP + i * ROW + ROW / 2
        parts.append(_label(row.label, TOP + i * ROW))
        if row.interval:
            start, end = (place(value) for value in row.interval)
            parts.append(f'<line class="whisker" x1="{start:.1f}" x2="{end:.1f}" y1="{y}" y2="{y}"/>')
        parts.append(f'<circle class="mark" cx="{place(row.value):.1f}" cy="{y}" r="5"/>')
        parts.append(f'<text x="{WIDTH - VALUE_WIDTH + 8}" y="{y + 5}">{row.value:.2f}</text>')
    return _figure(title, _words(rows, unit, 2), height, parts)


def histogram(title: str, values: Sequence[float], unit: str) -> str:
    """How often each range of values occurs."""
    low, high = min(values), max(values)
    num_bins = min(MAX_BINS, 2 * math.ceil(math.sqrt(len(values))))
    width = (high - low) / num_bins or 1.0
    counts = [0] * num_bins
    for value in values:
        counts[min(int((value - low) / width), num_bins - 1)] += 1
    bottom, tallest = 150, max(counts)
    place = _scale(low, low + width * num_bins, 10, WIDTH - 30)
    parts = [
        f'<rect class="mark" x="{place(low + i * width):.1f}" y="{bottom - 130 * count / tallest:.1f}" '
        f'width="{(WIDTH - 40) / num_bins - 1:.1f}" height="{130 * count / tallest:.1f}"/>'
        for i, count in enumerate(counts)
    ]
    parts += [
        f'<text class="{anchor}" x="{place(value):.1f}" y="{bottom + 20}">{value:.3f} {escape(unit)}</text>'
        for value, anchor in ((low, ""), (low + width * num_bins, "end"))
    ]
    middle = sorted(values)[len(values) // 2]
    words = f"{len(values)} values from {low:.3f} to {high:.3f} {unit}, median {middle:.3f}"
    return _figure(title, words, bottom + 30, parts)


def scatter(title: str, points: Sequence[Point], x_unit: str, y_unit: str) -> str:
    """Points with their labels; those on the Pareto front are filled."""
    parts, x_of, y_of = _axes([p.x for p in points], [p.y for p in points], x_unit)
    for point in points:
        kind = "mark" if point.on_front else "hollow"
        x, y = x_of(point.x), y_of(point.y)
        parts.append(f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="6"/>')
        parts.append(f'<text x="{x + 9:.1f}" y="{y + 5:.1f}">{escape(point.label)}</text>')
    words = "; ".join(f"{p.label}: {p.x:.3g} {x_unit}, {p.y:.2f} {y_unit}" for p in points)
    return _figure(title, words, 220 + AXIS, parts)


def line(title: str, points: Sequence[tuple[float, float]], x_unit: str, y_unit: str) -> str:
    """Values in order, joined."""
    parts, x_of, y_of = _axes([x for x, _ in points], [y for _, y in points], x_unit)
    joined = " ".join(f"{x_of(x):.1f},{y_of(y):.1f}" for x, y in points)
    parts.append(f'<polyline class="whisker" fill="none" points="{joined}"/>')
    parts += [f'<circle class="mark" cx="{x_of(x):.1f}" cy="{y_of(y):.1f}" r="4"/>' for x, y in points]
    words = "; ".join(f"{x:g} {x_unit}: {y:.2f} {y_unit}" for x, y in points)
    return _figure(title, words, 220 + AXIS, parts)


def pareto(points: Sequence[tuple[str, float, float]]) -> list[Point]:
    """Mark the points that no other beats in both: smaller ``x`` (time) and larger ``y`` (accuracy)."""

    def beaten(x: float, y: float) -> bool:
        return any(ox <= x and oy >= y and (ox, oy) != (x, y) for _, ox, oy in points)

    return [Point(label, x, y, not beaten(x, y)) for label, x, y in points]


class _scale:
    """A linear map from values to pixels."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self._low, self._start = low, start
        self._slope = (end - start) / ((high - low) or 1.0)

    def __call__(self, value: float) -> float:
        return self._start + (value - self._low) * self._slope


def _axes(xs: Sequence[float], ys: Sequence[float], x_unit: str) -> tuple[list[str], _scale, _scale]:
    """Grid and numbers of a plane, and where values lie in it."""
    (left, right), (low, high) = (_nice_range(min(values), max(values)) for values in (xs, ys))
    x_of, y_of = _scale(left, right, 60, WIDTH - 90), _scale(low, high, 210, 20)
    parts = _vertical_axis_lines(left, right, x_of, 220, x_unit)
    for tick in _ticks(low, high):
        parts.append(f'<line class="grid" x1="60" x2="{WIDTH - 90}" y1="{y_of(tick):.1f}" y2="{y_of(tick):.1f}"/>')
        parts.append(f'<text class="end" x="54" y="{y_of(tick) + 5:.1f}">{tick:g}</text>')
    return parts, x_of, y_of


def _nice_range(low: float, high: float) -> tuple[float, float]:
    """A little room on both sides, on round numbers."""
    step = _step(max(high - low, abs(high) * 1e-3, 1e-9))
    return math.floor(low / step - 0.25) * step, math.ceil(high / step + 0.25) * step


def _step(span: float) -> float:
    power = 10.0 ** math.floor(math.log10(span / 4))
    return next(power * factor for factor in (1, 2, 5, 10) if span / (power * factor) <= 5)


def _ticks(low: float, high: float) -> list[float]:
    step = _step(high - low)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 10) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _vertical_axis_lines(low: float, high: float, place: _scale, bottom: float, unit: str) -> list[str]:
    parts = []
    for tick in _ticks(low, high):
        x = place(tick)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom}"/>')
        parts.append(f'<text class="middle" x="{x:.1f}" y="{bottom + 18}">{tick:g}</text>')
    parts.append(f'<text class="end" x="{WIDTH - 2}" y="{bottom + 18}">{escape(unit)}</text>')
    return parts


def _label(text: str, y: float) -> str:
    shown = _shortened(text)
    return f'<text class="end" x="{LABEL_WIDTH - 8}" y="{y + 18}"><title>{escape(text)}</title>{escape(shown)}</text>'


def _shortened(text: str) -> str:
    """A node's path without steps that the next one repeats (``blocks/blocks.4``, ``conv/Conv``), cut in the middle."""
    steps = [step for step in text.split("/") if step]
    kept = [a for a, b in pairwise([*steps, ""]) if not b.lower().startswith(a.lower())]
    short = "/".join(kept) or text
    return short if len(short) <= MAX_LABEL else f"{short[: MAX_LABEL // 2]}…{short[1 - MAX_LABEL // 2 :]}"


def _words(rows: Sequence[Bar], unit: str, digits: int) -> str:
    return "; ".join(
        f"{row.label}: {row.value:.{digits}f} {unit}"
        + (f" ({row.interval[0]:.1f} to {row.interval[1]:.1f})" if row.interval else "")
        for row in rows
    )


def _figure(title: str, description: str, height: float, parts: Sequence[str]) -> str:
    label = escape(f"{title}. {description}", quote=True)
    return (
        f'<svg role="img" aria-label="{label}" viewBox="0 0 {WIDTH} {height:.0f}" '
        f'preserveAspectRatio="xMinYMin meet"><title>{escape(title)}</title>{"".join(parts)}</svg>'
    )
