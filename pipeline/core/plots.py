"""Pictures as files: .svg or .png, the same bytes for the same figure, refused before the work that they show."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgec.pipeline.core.errors import EdgecError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".svg", ".png")


def check_plot(path: Path) -> None:
    """Refuse before the work, not after it.

    Raises:
        EdgecError: ``bad-plot-format``, ``missing-matplotlib``.
    """
    from importlib.util import find_spec

    if path.suffix not in SUFFIXES:
        raise EdgecError("bad-plot-format", f"'{path}' is neither .svg nor .png", "choose one of them")
    if find_spec("matplotlib") is None:
        raise EdgecError("missing-matplotlib", "plots as files need matplotlib", "pip install 'edgec[plot]'")


def save_plot(figure: Figure, path: Path) -> None:
    """Write ``figure`` without a date, and without names that are drawn by lot.

    Raises:
        EdgecError: ``output-not-writable``.
    """
    from matplotlib import rc_context

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with rc_context({"svg.hashsalt": "edgec"}):
            figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    except OSError as error:
        raise EdgecError("output-not-writable", f"cannot write '{path}': {error}", "choose another file") from error
