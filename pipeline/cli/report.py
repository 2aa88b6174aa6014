"""``edgec report``: one page for one bundle, or many compared."""

from __future__ import annotations

from pathlib import Path

import click

from edgec.pipeline.cli._options import FOLDER


@click.command()
@click.argument("bundles", type=FOLDER, nargs=-1, required=True)
@click.option("--output", type=FOLDER, default=Path("report.html"), show_default=True, help="The page.")
@click.option(
    "--model-explorer",
    type=FOLDER,
    metavar="FILE",
    help="Also write SQNR by layer for Google's Model Explorer, and time, where it is known, beside it.",
)
def command(bundles: tuple[Path, ...], output: Path, model_explorer: Path | None) -> None:
    """Write one self-contained HTML page of BUNDLES, folders or archives.

    Of several each is compared with the first: what it loses, costs and confuses, and which no other beats.
    """
    from edgec.pipeline.report.compare import write_report
    from edgec.pipeline.report.model_explorer import write_node_data

    if model_explorer is not None and len(bundles) > 1:
        raise click.UsageError(f"--model-explorer is of one graph, and there are {len(bundles)} bundles")
    write_report(bundles, output)
    click.echo(output)
    if model_explorer is not None:
        for path in write_node_data(bundles[0], model_explorer):
            click.echo(path)
