"""The training curve: what each epoch came to, and its picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from edgec.pipeline.core.plots import save_plot
from edgec.pipeline.network.models.curve import Curve


@dataclass(frozen=True)
class Epoch:
    """What an epoch came to.

    Attributes:
        number: from 1; epochs that a phase left out by its patience have none.
        loss: mean over its batches.
        figure: of the objective on validation, percent.
        head_only: the classifier alone learned.
    """

    number: int
    px: int
    loss: float
    figure: float
    head_only: bool = False


def curve_of(epochs: Sequence[Epoch], metric: str) -> Curve:
    """The epochs as a card keeps them."""
    return Curve(
        metric,
        tuple(epoch.number for epoch in epochs),
        tuple(epoch.px for epoch in epochs),
        tuple(round(epoch.loss, 4) for epoch in epochs),
        tuple(round(epoch.figure, 2) for epoch in epochs),
    )


def plot_curve(curve: Sequence[Epoch], metric: str, title: str, path: Path) -> None:
    """Loss and validation figure by epoch; a line where the picture size or what learns changes.

    Raises:
        EdgecError: ``output-not-writable``.
    """
    from matplotlib.figure import Figure

    numbers = [epoch.number for epoch in curve]
    figure = Figure(figsize=(7, 5), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    upper.plot(numbers, [epoch.loss for epoch in curve], marker="o", markersize=3, color="#bb5566")
    upper.set_ylabel("training loss")
    upper.set_title(title)
    lower.plot(numbers, [epoch.figure for epoch in curve], marker="o", markersize=3, color="#4477aa")
    lower.set_ylabel(f"validation {metric}, %")
    lower.set_xlabel("epoch")
    for before, after in pairwise(curve):
        if (before.px, before.head_only) != (after.px, after.head_only):
            for panel in (upper, lower):
                panel.axvline((before.number + after.number) / 2, linestyle=":", color="grey")
    save_plot(figure, path)
