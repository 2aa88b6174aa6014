"""A history as a picture, or as characters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from edgec.pipeline.core.plots import save_plot
from edgec.pipeline.gate.change_points import ChangePoint, change_points
from edgec.pipeline.gate.history import Entry, shown

LEVELS = "▁▂▃▄▅▆▇█"
SHORT = 8  # characters of a commit


def in_terminal(values: Sequence[float], points: Sequence[ChangePoint], height: int = 8) -> str:
    """Columns of block characters from the least to the largest value; ``▲`` marks strong change points, ``△`` weak."""
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    eighths = [round((value - low) / span * (8 * height - 1)) + 1 for value in values]
    rows = []
    for row in reversed(range(height)):
        cells = [min(max(level - 8 * row, 0), 8) for level in eighths]
        rows.append("".join(LEVELS[cell - 1] if cell else " " for cell in cells))
    labels = [shown(high), *[""] * (height - 2), shown(low)]
    width = max(map(len, labels))
    marks = {point.index: "▲" if point.strong else "△" for point in points}
    axis = "".join(marks.get(i, " ") for i in range(len(values)))
    return "\n".join(
        [*(f"{label:>{width}} │{row}" for label, row in zip(labels, rows, strict=True)), f"{'':{width}} │{axis}"]
    )


def to_file(path: Path, measure: str, series: Mapping[tuple[str, str, str], Sequence[Entry]]) -> None:
    """One panel for each series, change points as vertical lines; the suffix decides between SVG and PNG.

    Raises:
        EdgecError: ``output-not-writable``.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 2.6 * len(series)), layout="constrained")
    panels = figure.subplots(len(series), 1, squeeze=False)[:, 0]
    for panel, ((model, target, fingerprint), entries) in zip(panels, series.items(), strict=True):
        values = [entry.values[measure] for entry in entries]
        panel.plot(range(len(values)), values, marker="o", markersize=3, linewidth=1)
        for point in change_points(values):
            panel.axvline(point.index - 0.5, linestyle="-" if point.strong else ":", color="tab:red")
        where = f", fingerprint {fingerprint}" if fingerprint else ""
        panel.set_title(f"{model} on {target}{where}", fontsize="medium")
        panel.set_ylabel(measure)
        panel.set_xticks(
            range(len(values)), [entry.commit[:SHORT] for entry in entries], rotation=90, fontsize="x-small"
        )
    save_plot(figure, path)
