"""The worst layers as bars in an image file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.quantize.sensitivity import Sensitivity
from edgec.pipeline.tasks.metrics import finite


def check_can_plot() -> None:
    """Refuse before the work, not after it.

    Raises:
        EdgecError: ``missing-matplotlib``.
    """
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        raise EdgecError("missing-matplotlib", "matplotlib is not installed", "pip install 'edgec[plot]'")


def plot(ranked: Sequence[Sensitivity], title: str, output: Path, count: int = 20) -> None:
    """Bars of the worst layers as an image; the suffix chooses the format.

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
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(output)
    except (OSError, ValueError) as error:
        message = f"cannot write '{output}': {error}"
        raise EdgecError("output-not-writable", message, "choose another --plot, ending in .svg or .png") from error
