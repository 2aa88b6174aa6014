"""A network's layers as a table for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from edgec.pipeline.cli._tables import output_console

if TYPE_CHECKING:
    from edgec.pipeline.explain_layers import Explained
    from edgec.pipeline.network.layers import Layer
    from edgec.pipeline.network.roofline import Roofline


def print_explained(found: Explained) -> None:
    """One row for each layer, the shares of each kind, and what the words mean."""
    console, roofline = output_console(), found.roofline
    table = Table(box=None, header_style="bold")
    for column in ("layer", "kind"):
        table.add_column(column, no_wrap=True)
    columns = ("makes", "MACs M", "params k", "activations k", "MACs/element", "saving", "sees px")
    for column in (*columns, *(("limit", "us") if roofline else ())):
        table.add_column(column, justify="right", no_wrap=True)
    for layer in found.layers:
        table.add_row(*_cells(layer), *(_roof_cells(layer, roofline) if roofline else ()))
    console.print(table)
    shares = Table("kind", box=None, header_style="bold")
    for column in ("layers", "MACs %", "params %"):
        shares.add_column(column, justify="right")
    for share in found.shares:
        percent = (f"{100 * share.macs / found.macs:.2f}", f"{100 * share.params / found.params:.2f}")
        shares.add_row(share.kind, str(share.num_layers), *percent)
    console.print(shares)
    totals = f"{found.macs / 1e6:,.1f} M MACs, {found.params / 1e6:.3f} M parameters"
    console.print(f"{escape(found.name)} at {found.input_px[0]} x {found.input_px[1]} px: {totals}")
    for line in _meanings(found):
        console.print(line, style="dim")


def _cells(layer: Layer) -> tuple[str, ...]:
    window = "x".join(map(str, layer.kernel))
    groups = f" / {layer.groups}" if layer.kind == "grouped" else ""
    height, width = layer.receptive_field_px
    sees = str(height) if height == width else f"{height}x{width}"
    return (
        escape(layer.name),
        f"{layer.kind} {window}{groups}".rstrip(),
        "x".join(map(str, layer.output_shape)),
        f"{layer.macs / 1e6:,.2f}",
        f"{layer.params / 1e3:,.2f}",
        f"{layer.activations / 1e3:,.1f}",
        f"{layer.macs_per_element:.1f}",
        f"{layer.saving.times:.2f}x" if layer.saving else "",
        f"{sees}{' *' if layer.sees_all else ''}",
    )


def _roof_cells(layer: Layer, roofline: Roofline) -> tuple[str, str]:
    return roofline.limit(layer), f"{roofline.microseconds(layer):.1f}"


def _meanings(found: Explained) -> list[str]:
    lines = ["saving: against one plain convolution of the same channels; at the pointwise half of a separable one"]
    if any(layer.sees_all for layer in found.layers):
        lines.append("*: and the whole picture, by a global pooling before it")
    if found.roofline is not None:
        roof = found.roofline
        total = sum(roof.microseconds(layer) for layer in found.layers) / 1e3
        peaks = f"{roof.gmacs_s:,.0f} GMAC/s and {roof.bandwidth_gb_s:g} GB/s in {roof.precision}"
        lines.append(f"roofline of {roof.board}: {peaks} as stated, {roof.ridge:.0f} MACs/element at its ridge")
        lines.append(f"layers one by one at the roof: {total:.3f} ms, computed and not measured; no launch, no fusing")
    return lines
