"""Plots as inline SVG: colours come from the page's style sheet, and each has a title and a description for readers.

Every plot is ``WIDTH`` units wide, about a phone, and has its labels above its rows: so it stays readable at any width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from edgec.pipeline.core.pareto import unbeaten
from edgec.pipeline.report.axes import AXIS, EDGE, LINE, WIDTH, Scale, figure, nice_range, ticks, vertical_axis

MAX_TEXT = 44  # characters of a row's label and words together, in the widest usual fonts
ROW = 44
PLANE, LEFT, RIGHT = 240, 44, 28  # of a plane: height, and room for its numbers, at least
DIGIT = 8  # as wide as one, in the widest usual fonts
NEAR = 16  # points that lie no further apart share their marks' place


@dataclass(frozen=True)
class Estimate:
    """One row: a value, its interval where that is known, and how both are written."""

    label: str
    value: float
    interval: tuple[float, float] | None
    words: str
    highlight: bool = False


@dataclass(frozen=True)
class Dots:
    """One row of single observations; ``words`` writes their middle."""

    label: str
    values: tuple[float, ...]
    middle: float
    words: str
    highlight: bool = False


@dataclass(frozen=True)
class Point:
    """One build in a plane; ``mark`` stands beside it."""

    mark: str
    label: str
    x: float
    y: float
    on_front: bool = False


def forest(title: str, rows: Sequence[Estimate], unit: str, zero: bool = False) -> str:
    """A dot and its 95 % interval for each row, on an axis that starts at zero only where ``zero`` is to be seen."""
    ends = [end for row in rows for end in (row.interval or (row.value, row.value))] + ([0.0] if zero else [])
    parts, place, tops, height = _rows([(row.label, row.words) for row in rows], ends, unit)
    if zero:
        parts.append(f'<line class="zero" x1="{place(0):.1f}" x2="{place(0):.1f}" y1="0" y2="{height - AXIS}"/>')
    for row, y in zip(rows, tops, strict=True):
        kind = " strong" if row.highlight else ""
        if row.interval:
            start, end = (place(value) for value in row.interval)
            parts.append(f'<line class="whisker{kind}" x1="{start:.1f}" x2="{end:.1f}" y1="{y}" y2="{y}"/>')
        parts.append(f'<circle class="mark{kind}" cx="{place(row.value):.1f}" cy="{y}" r="5"/>')
    words = "; ".join(f"{row.label}: {row.words}" for row in rows)
    return figure(title, words, height, parts)


def dots(title: str, rows: Sequence[Dots], unit: str) -> str:
    """Every observation of each row as a dot, and a line at its middle."""
    ends = [value for row in rows for value in (*row.values, row.middle)]
    parts, place, tops, height = _rows([(row.label, row.words) for row in rows], ends, unit)
    for row, y in zip(rows, tops, strict=True):
        kind, x = " strong" if row.highlight else "", place(row.middle)
        parts += [f'<circle class="dot{kind}" cx="{place(v):.1f}" cy="{y}" r="4"/>' for v in row.values]
        parts.append(f'<line class="middle-line" x1="{x:.1f}" x2="{x:.1f}" y1="{y - 10}" y2="{y + 10}"/>')
    words = "; ".join(
        f"{row.label}: {row.words}, {len(row.values)} dots from {min(row.values):.3f} to {max(row.values):.3f} {unit}"
        for row in rows
    )
    return figure(title, words, height, parts)


def scatter(title: str, points: Sequence[Point], x_unit: str, y_unit: str) -> str:
    """Points with their marks; those on the Pareto front are filled and joined."""
    parts, x_of, y_of = _plane([p.x for p in points], [p.y for p in points], x_unit)
    front = sorted((p.x, p.y) for p in points if p.on_front)
    parts.append(_joined("front", [(x_of(x), y_of(y)) for x, y in front]))
    marks: dict[tuple[float, float], list[str]] = {}  # points that lie on each other share a place for their marks
    for point in points:
        kind, x, y = "mark" if point.on_front else "hollow", x_of(point.x), y_of(point.y)
        named = f"<title>{escape(point.label)}</title>"
        parts.append(f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="6">{named}</circle>')
        near = next((spot for spot in marks if abs(spot[0] - x) < NEAR and abs(spot[1] - y) < NEAR), (x, y))
        marks.setdefault(near, []).append(point.mark)
    for (x, y), names in marks.items():
        parts.append(f'<text x="{x + 9:.1f}" y="{y - 6:.1f}">{escape(", ".join(names))}</text>')
    words = "; ".join(
        f"{p.label}: {p.x:.4g} {x_unit}, {p.y:.2f} {y_unit}{', on the front' if p.on_front else ''}" for p in points
    )
    return figure(title, words, PLANE + AXIS, parts)


def line(title: str, points: Sequence[tuple[float, float]], x_unit: str, y_unit: str) -> str:
    """Values in order, joined."""
    parts, x_of, y_of = _plane([x for x, _ in points], [y for _, y in points], x_unit)
    placed = [(x_of(x), y_of(y)) for x, y in points]
    parts.append(_joined("whisker", placed))
    parts += [f'<circle class="mark" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in placed]
    words = "; ".join(f"{x:g} {x_unit}: {y:.2f} {y_unit}" for x, y in points)
    return figure(title, words, PLANE + AXIS, parts)


def pareto(points: Sequence[tuple[str, str, float, float]]) -> list[Point]:
    """Mark the points that no other beats in both: smaller ``x`` (cost) and larger ``y`` (quality).

    Args:
        points: mark, label, x and y of each.
    """
    kept = unbeaten([(x, y) for _, _, x, y in points])
    return [Point(*point, is_kept) for point, is_kept in zip(points, kept, strict=True)]


def _plane(xs: Sequence[float], ys: Sequence[float], x_unit: str) -> tuple[list[str], Scale, Scale]:
    """Grid and numbers of a plane, and where values lie in it."""
    (left, right), (low, high) = (nice_range(min(values), max(values)) for values in (xs, ys))
    numbers = ticks(low, high)
    start = max(LEFT, 10 + DIGIT * max(len(f"{number:g}") for number in numbers))
    x_of, y_of = Scale(left, right, start, WIDTH - RIGHT), Scale(low, high, PLANE - 10, 20)
    parts = vertical_axis(left, right, x_of, PLANE, x_unit)
    for number in numbers:
        y = y_of(number)
        parts.append(f'<line class="grid" x1="{start}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="end soft" x="{start - 6}" y="{y + 4:.1f}">{number:g}</text>')
    return parts, x_of, y_of


def _rows(
    rows: Sequence[tuple[str, str]], ends: Sequence[float], unit: str
) -> tuple[list[str], Scale, list[float], float]:
    """Axis and headings; where values lie, the middle of each row's marks, and the height of all.

    Args:
        rows: label and words; these stand on the right of the label, or of all rows below it where one has no room.
    """
    low, high = nice_range(min(ends), max(ends))
    place = Scale(low, high, EDGE, WIDTH - EDGE)
    below = LINE if any(len(label) + len(words) > MAX_TEXT for label, words in rows) else 0
    height = EDGE + len(rows) * (ROW + below) + AXIS
    parts, tops = vertical_axis(low, high, place, height - AXIS, unit), []
    for i, (label, words) in enumerate(rows):
        y = EDGE + i * (ROW + below)
        shown = shortened(label, MAX_TEXT - (0 if below else len(words)))
        where = f'x="{EDGE}" y="{y + 10 + LINE}"' if below else f'class="end" x="{WIDTH - EDGE}" y="{y + 10}"'
        parts.append(f'<text x="{EDGE}" y="{y + 10}"><title>{escape(label)}</title>{escape(shown)}</text>')
        parts.append(f"<text {where}>{escape(words)}</text>")
        tops.append(y + 24.0 + below)
    return parts, place, tops, height


def shortened(text: str, room: int) -> str:
    """Cut in the middle where it is longer than ``room``, which is at least a few characters."""
    half = max(room, 8) // 2
    return text if len(text) <= 2 * half else f"{text[:half]}…{text[1 - half :]}"


def _joined(kind: str, placed: Sequence[tuple[float, float]]) -> str:
    where = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
    return f'<polyline class="{kind}" fill="none" points="{where}"/>'
