"""Every point, and the front, in a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgec.pipeline.core.plots import save_plot
from edgec.pipeline.search.space import Found, front


def plot(found: Sequence[Found], shipped: Found, title: str, output: Path) -> None:
    """Headline against cost as an image, .svg or .png.

    Raises:
        EdgecError: ``output-not-writable``.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    best = front(found)
    axes.scatter([one.cost for one in found], [one.headline for one in found], color="#bbbbbb", label="tried")
    axes.step([one.cost for one in best], [one.headline for one in best], where="post", color="#4477aa", label="front")
    axes.scatter([one.cost for one in best], [one.headline for one in best], color="#4477aa")
    for one in best:
        axes.annotate(
            one.point.words(), (one.cost, one.headline), fontsize=7, xytext=(4, -9), textcoords="offset points"
        )
    axes.scatter([shipped.cost], [shipped.headline], color="#bb5566", zorder=3, label="built")
    axes.set_xlabel(shipped.unit)
    axes.set_ylabel("headline, %")
    axes.set_title(title)
    axes.legend()
    save_plot(figure, output)
