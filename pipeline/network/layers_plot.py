"""The layers of a network as a picture: what each costs, and where it lies under a board's roof."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from edgec.pipeline.core.plots import save_plot
from edgec.pipeline.network.layers import Kind, Layer

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from edgec.pipeline.network.roofline import Roofline

COLOURS: dict[Kind, str] = dict(
    zip(get_args(Kind), ("#4477aa", "#66ccee", "#228833", "#ee6677", "#aa3377"), strict=True)
)
MARKERS: dict[Kind, str] = dict(zip(get_args(Kind), "so^vD", strict=True))


def plot_layers(layers: Sequence[Layer], title: str, path: Path, roofline: Roofline | None = None) -> None:
    """Bars of the layers in their order, and the roofline below them where there is one.

    Raises:
        EdgecError: ``output-not-writable``.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 8 if roofline is None else 12), layout="constrained")
    panels = list(
        figure.subplots(4 if roofline is None else 5, 1, height_ratios=[1, 1, 1, 1, 2.5][: 5 if roofline else 4])
    )
    _bars(panels[0], layers, [layer.macs / 1e6 for layer in layers], "MACs, 10^6")
    _bars(panels[1], layers, [layer.params / 1e3 for layer in layers], "parameters, 10^3")
    _bars(panels[2], layers, [layer.activations / 1e3 for layer in layers], "activations, 10^3")
    _bars(panels[3], layers, [max(layer.receptive_field_px) for layer in layers], "sees, px")
    panels[3].set_xlabel("layer, in the order of execution")
    if roofline is not None:
        _roof(panels[4], layers, roofline)
    figure.suptitle(title)
    used = [kind for kind in COLOURS if any(layer.kind == kind for layer in layers)]
    squares = [_square(COLOURS[kind]) for kind in used]
    panels[0].legend(squares, used, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(used), frameon=False)
    save_plot(figure, path)


def _square(colour: str) -> object:
    from matplotlib.patches import Patch

    return Patch(color=colour)


def _bars(axes: Axes, layers: Sequence[Layer], values: Sequence[float], label: str) -> None:
    axes.bar(range(len(layers)), values, color=[COLOURS[layer.kind] for layer in layers])
    axes.set_ylabel(label)
    axes.margins(x=0.01)


def _roof(axes: Axes, layers: Sequence[Layer], roofline: Roofline) -> None:
    """Both axes logarithmic; each layer stands on the roof, that is, where it can come at best."""
    reached = [layer.macs_per_element for layer in layers]
    low, high = min(*reached, roofline.ridge) / 2, max(*reached, roofline.ridge) * 2
    axes.plot([low, roofline.ridge, high], [roofline.reachable_gmacs_s(x) for x in (low, roofline.ridge, high)], "k-")
    for kind, colour in COLOURS.items():
        found = [layer.macs_per_element for layer in layers if layer.kind == kind]
        heights = [roofline.reachable_gmacs_s(value) for value in found]
        axes.plot(found, heights, MARKERS[kind], color=colour, alpha=0.6, label=kind if found else None)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("multiply-accumulates for each element moved")
    axes.set_ylabel("10^9 MACs a second, at most")
    axes.set_title(f"roof of {roofline.board}, {roofline.precision}: stated rates, not measured", fontsize="medium")
