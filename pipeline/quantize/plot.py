"""The worst layers as bars in an image file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgec.pipeline.core.plots import save_plot
from edgec.pipeline.quantize.sensitivity import Sensitivity
from edgec.pipeline.tasks.metrics import finite


def plot(ranked: Sequence[Sensitivity], title: str, output: Path, count: int = 20) -> None:
    """Bars of the worst layers as an image, .svg or .png.

    Raises:
        EdgecError: ``output-not-writable``.
    """
    from matplotlib.figure import Figure

    worst = [entry for entry in ranked[:count][::-1] if finite(entry.sqnr_db) is not None]
    figure = Figure(figsize=(9, 1 + 0.28 * len(worst)), layout="constrained")
    axes = figure.subplots()
    axes.barh([entry.layer.name for entry in worst], [entry.sqnr_db for entry in worst], color="#4477aa")
    axes.set_xlabel("SQNR of the output in dB with only this layer quantized")
    axes.set_title(title)
    axes.tick_params(axis="y", labelsize=7)
    save_plot(figure, output)
