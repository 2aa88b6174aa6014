"""``edgec inspect``: what is inside a .tflite, .onnx or OpenVINO .xml file, or a bundle's artifact."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgec.pipeline.cli._options import json_option

if TYPE_CHECKING:
    from edgec.targets.inspect import Inspection, OperatorRow


@click.command()
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE|BUNDLE")
@json_option
def command(file: Path, as_json: bool) -> None:
    """List the operators of a file or a bundle's artifact: types, shapes, bytes, MACs, and who has fast kernels."""
    from edgec.targets.inspect import inspect_file

    if file.is_dir():
        from edgec.pipeline.bundle.use import artifact_file

        file = artifact_file(file)
    found = inspect_file(file)
    if as_json:
        import json
        from dataclasses import asdict

        click.echo(json.dumps({**asdict(found), "macs": found.macs, "counts": found.counts}, indent=2))
        return
    _print(file, found)


def _print(file: Path, found: Inspection) -> None:
    from rich.table import Table

    from edgec.pipeline.cli._tables import output_console

    table = Table(box=None, header_style="bold")
    for column in ("operator", "type", "shape"):
        table.add_column(column, no_wrap=True)
    for column in ("scale", "zero", "weight bytes", "MACs", "XNNPACK", "CMSIS-NN"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in found.operators:
        table.add_row(*_cells(row))
    console = output_console()
    console.print(table)
    counts = ", ".join(f"{count} {kind}" for kind, count in found.counts.items())
    console.print(
        f"{file}: {found.format}, {found.size_bytes:,} bytes, {found.macs / 1e6:,.1f} M MACs; {counts}", markup=False
    )
    if found.pieces is not None:
        console.print(f"XNNPACK: {found.pieces} delegate pieces, {found.macs_delegated_percent:.1f} % of the MACs")
    if found.fast_kernels is not None:
        console.print(found.fast_kernels.words)
    if found.refusal:
        console.print(f"XNNPACK refuses this file: {found.refusal}", markup=False)


def _cells(row: OperatorRow) -> tuple[str, ...]:
    taken = {None: "", True: "yes", False: "no"}[row.delegated]
    return (
        row.kind,
        row.dtype,
        "x".join(str(side) if side > 0 else "?" for side in row.shape),
        "" if row.scale is None else f"{row.scale:.3g}",
        "" if row.zero_point is None else str(row.zero_point),
        f"{row.weight_bytes:,}" if row.weight_bytes else "",
        f"{row.macs:,}" if row.macs else "",
        taken,
        {None: "", "": "yes"}.get(row.plain, "no"),
    )
