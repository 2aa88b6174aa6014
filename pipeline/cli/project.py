"""``edgec project``: a bundle as a firmware project that builds."""

from __future__ import annotations

from pathlib import Path

import click

from edgec.pipeline.cli._options import FOLDER, json_option

ECOSYSTEMS = ("cmake", "zephyr", "arduino", "esp-idf", "cmsis-pack")


@click.command()
@click.argument("bundle", type=FOLDER)
@click.option("--for", "ecosystem", type=click.Choice(ECOSYSTEMS), required=True, help="Who builds it.")
@click.option("--output", type=FOLDER, help="New folder; ./edgec-out/MODEL-ECOSYSTEM by default.")
@click.option(
    "--tflite-micro",
    type=FOLDER,
    help="TFLite Micro's sources, as its create_tflm_tree.py writes them: copied in and pinned. For cmake.",
)
@json_option
def command(bundle: Path, ecosystem: str, output: Path | None, tflite_micro: Path | None, as_json: bool) -> None:
    """Write a firmware project from a microcontroller's BUNDLE: interpreter, self-test, UART, memory map.

    Nothing is downloaded.
    """
    import json
    from dataclasses import asdict

    from edgec.pipeline.firmware.project import default_output, write_project

    if tflite_micro is not None and ecosystem != "cmake":
        raise click.UsageError(f"--tflite-micro is for --for cmake: {ecosystem} has TFLite Micro as a package")
    written = write_project(bundle, ecosystem, output or default_output(bundle, ecosystem), tflite_micro)
    if as_json:
        click.echo(json.dumps(asdict(written), indent=2))
        return
    click.echo(f"{written.output}: {written.num_files} files; begin with its README.md")
    for row in written.memory:
        click.echo(f"  {row.where:<5}  {row.bytes:>10,} bytes  {row.what} ({row.source})")
    if written.warning:
        click.echo(f"  {written.warning}")
