"""``edgec measure``: latency of a bundle on this machine."""

from __future__ import annotations

from pathlib import Path

import click

from edgec.pipeline.cli._options import FOLDER, json_option, on_option, threads_option


@click.command()
@click.argument("bundle", type=FOLDER)
@threads_option
@on_option
@json_option
def command(bundle: Path, threads: int, on: str | None, as_json: bool) -> None:
    """Measure BUNDLE's artifact through its own runtime, one image at a time, here or on a device."""
    import json
    from dataclasses import asdict

    from edgec.pipeline.bundle.use import measure_bundle
    from edgec.pipeline.cli._tables import output_console, print_latency

    cost = measure_bundle(bundle, threads, on)
    if as_json:
        further = {"instructions": cost.instructions, "board": dict(cost.board), "on_target": cost.on_target}
        click.echo(json.dumps(asdict(cost.latency) | further, indent=2))
        return
    console = output_console()
    print_latency(asdict(cost.latency), console)
    if cost.instructions is not None:
        console.print(f"instructions per inference: {cost.instructions:,}")
    for name, value in cost.board.items():
        console.print(f"{name:<14} {value}", style="dim", markup=False)
