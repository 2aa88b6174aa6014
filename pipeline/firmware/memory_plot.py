"""RAM over a network: what the arena holds while each operator runs, against what is reserved for it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from edgec.pipeline.forms.format import MemoryStep
from edgec.pipeline.forms.memory import MemoryFit
from edgec.pipeline.report.axes import AXIS, EDGE, WIDTH, Scale, figure, standalone, ticks, vertical_axis

LEFT, HEIGHT, LEGEND = 52, 230, 18
MIN_COLUMNS = 6  # so that operators are counted in whole numbers
NEAR = 2  # a board's RAM is drawn up to so many times the arena: above, it would flatten everything


def memory_plot(steps: Sequence[MemoryStep], memory: MemoryFit) -> str:
    """An SVG file: a bar for each operator, lines for the arena measured and reserved, and for the board's RAM.

    Args:
        steps: at least one.
        memory: with its arena.
    """
    limits = _limits(memory)
    peak = max(range(len(steps)), key=lambda i: steps[i].live_bytes)
    key = [("mark", "tensors of one operator, at most", f"{steps[peak].live_bytes:,} bytes"),
           ("mark strong", f"the most: operator {peak + 1} of {len(steps)}", steps[peak].operator),
           *((kind, label, f"{size:,} bytes") for kind, label, size in limits)]  # fmt: skip
    top = EDGE + LEGEND * len(key)
    bottom = top + HEIGHT
    most = max(steps[peak].live_bytes, *(size for _, _, size in limits))
    columns = max(len(steps), MIN_COLUMNS)
    x_of, y_of = Scale(0.5, columns + 0.5, LEFT, WIDTH - EDGE), Scale(0.0, most, bottom, top + EDGE)
    parts = vertical_axis(1, columns, x_of, bottom, "operator, in the order they run", top)
    parts += [*_sizes(most, y_of, bottom), *_bars(steps, peak, x_of, y_of)]
    for kind, _, size in limits:
        y = y_of(size)
        parts.append(f'<line class="{kind}" x1="{LEFT}" x2="{WIDTH - EDGE}" y1="{y:.1f}" y2="{y:.1f}"/>')
    parts += [part for row, words in enumerate(key) for part in _legend(EDGE + LEGEND * row, *words)]
    said = "; ".join(f"{label}: {words}" for _, label, words in key)
    return standalone(figure("RAM while each operator runs", said, bottom + AXIS, parts))


def _limits(memory: MemoryFit) -> list[tuple[str, str, int]]:
    """Style, name and bytes of each line."""
    measured, reserved, board = memory.arena_bytes or 0, memory.arena_with_margin_bytes or 0, memory.ram_limit_bytes
    lines = [("zero", "the arena, measured", measured), ("middle-line", "reserved, with its margin", reserved)]
    if board is not None and board <= NEAR * reserved:
        lines.append(("limit", "the board's RAM", board))
    return lines


def _sizes(most: int, y_of: Scale, bottom: float) -> list[str]:
    unit, divisor = ("kB", 1e3) if most < 1e7 else ("MB", 1e6)
    parts = [f'<text class="soft" x="{EDGE}" y="{bottom + 32}">{unit}</text>']
    for tick in ticks(0.0, most / divisor):
        y = y_of(tick * divisor)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - EDGE}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="end soft" x="{LEFT - 6}" y="{y + 4:.1f}">{tick:,g}</text>')
    return parts


def _bars(steps: Sequence[MemoryStep], peak: int, x_of: Scale, y_of: Scale) -> list[str]:
    parts = []
    for i, step in enumerate(steps):
        left, right, y = x_of(i + 0.5), x_of(i + 1.5), y_of(step.live_bytes)
        shape = "x".join(map(str, step.shape))
        named = f"<title>{i + 1} {escape(step.operator)} {shape}: {step.live_bytes:,} bytes</title>"
        place = f'x="{left:.2f}" y="{y:.1f}" width="{right - left:.2f}" height="{y_of(0) - y:.1f}"'
        kind = "mark strong" if i == peak else "mark"
        parts.append(f'<rect class="{kind}" shape-rendering="crispEdges" {place}>{named}</rect>')
    return parts


def _legend(y: float, kind: str, label: str, words: str) -> list[str]:
    if kind.startswith("mark"):
        sample = f'<rect class="{kind}" x="{EDGE}" y="{y}" width="16" height="10"/>'
    else:
        sample = f'<line class="{kind}" x1="{EDGE}" x2="{EDGE + 16}" y1="{y + 5}" y2="{y + 5}"/>'
    return [
        sample,
        f'<text x="{EDGE + 24}" y="{y + 9}">{escape(label)}</text>',
        f'<text class="end" x="{WIDTH - EDGE}" y="{y + 9}">{escape(words)}</text>',
    ]
