"""``edgec verify``: is this bundle what it says?"""

from __future__ import annotations

from pathlib import Path

import click

from edgec.pipeline.cli._options import FOLDER, json_option, on_option


@click.command()
@click.argument("bundle", type=FOLDER)
@click.option(
    "--key",
    "keys",
    type=FOLDER,
    multiple=True,
    help="Public key in PEM of who must have signed: Ed25519, or an elliptic curve for model.sig. Repeatable.",
)
@click.option("--no-run", is_flag=True, help="Do not run the golden vectors.")
@on_option
@json_option
def command(bundle: Path, keys: tuple[Path, ...], no_run: bool, on: str | None, as_json: bool) -> None:
    """Check BUNDLE (folder or .tar.zst): digests, schema, signature, the artifact's own tensors, golden vectors."""
    import json
    from dataclasses import asdict

    from edgec.pipeline.bundle.verify import verify

    verified = verify(bundle, keys, not no_run, on)
    if as_json:
        click.echo(json.dumps(asdict(verified), indent=2))
        return
    for line in verified.checked:
        click.echo(f"ok       {line}")
    for line in verified.skipped:
        click.echo(f"skipped  {line}")
    for line in verified.warnings:
        click.echo(f"warning  {line}")
    click.echo(f"{verified.bundle} {verified.version}")
