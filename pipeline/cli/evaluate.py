"""``edgec evaluate``: accuracy of a bundle on other images."""

from __future__ import annotations

from pathlib import Path

import click

from edgec.pipeline.cli._options import FOLDER, json_option, on_option


@click.command()
@click.argument("bundle", type=FOLDER)
@click.option("--data", type=FOLDER, required=True, help="Images: folder per class, labels.csv, or unlabelled.")
@on_option
@json_option
def command(bundle: Path, data: Path, on: str | None, as_json: bool) -> None:
    """Run BUNDLE's artifact, its QDQ reference and its float network on images and compare them."""
    import json
    from dataclasses import asdict

    from edgec.pipeline.bundle.read import open_bundle
    from edgec.pipeline.bundle.use import evaluate_bundle
    from edgec.pipeline.cli._progress import progress_bar
    from edgec.pipeline.cli._tables import output_console, print_accuracy

    opened = open_bundle(bundle)
    with progress_bar():
        accuracy = evaluate_bundle(opened, data, on)
    if as_json:
        click.echo(json.dumps(asdict(accuracy), indent=2))
    else:
        print_accuracy(accuracy, output_console(), opened.labels)
