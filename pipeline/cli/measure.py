"""``edgec measure``: latency of a bundle on this machine."""

from __future__ import annotations

from pathlib import Path

import click

from edgec.pipeline.cli._options import FOLDER, json_option, threads_option


@click.command()
@click.argument("bundle", type=FOLDER)
@threads_option
@json_option
def command(bundle: Path, threads: int, as_json: bool) -> None:
    """Measure BUNDLE's artifact through its own runtime, one image at a time."""
    import json
    from dataclasses import asdict

    from rich.console import Console

    from edgec.pipeline.cli._tables import print_latency
    from edgec.pipeline.use_bundle import measure_bundle

    latency = asdict(measure_bundle(bundle, threads))
    if as_json:
        click.echo(json.dumps(latency, indent=2))
    else:
        print_latency(latency, Console(highlight=False))
