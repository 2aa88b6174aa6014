"""``edgec report``: one page for one bundle or many."""

from __future__ import annotations

from pathlib import Path

import click

from edgec.pipeline.cli._options import FOLDER


@click.command()
@click.argument("bundles", type=FOLDER, nargs=-1, required=True)
@click.option("--output", type=FOLDER, default=Path("report.html"), show_default=True, help="The page.")
def command(bundles: tuple[Path, ...], output: Path) -> None:
    """Write one self-contained HTML page that shows BUNDLES side by side."""
    from edgec.pipeline.report.compare import write_report

    write_report(bundles, output)
    click.echo(output)
