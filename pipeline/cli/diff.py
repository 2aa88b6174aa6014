"""``edgec diff``: what changed between two releases."""

from __future__ import annotations

from pathlib import Path

import click

from edgec.pipeline.cli._options import FOLDER, json_option

WRONG_VERSION = 3


@click.command()
@click.argument("old", type=FOLDER)
@click.argument("new", type=FOLDER)
@json_option
def command(old: Path, new: Path, as_json: bool) -> int:
    """Say what changed from bundle OLD to bundle NEW and which version NEW should have.

    Exit status 0 where NEW's version says enough about its changes, 3 where it says too little.
    """
    import json
    from dataclasses import asdict

    from edgec.pipeline.bundle.diff import diff
    from edgec.pipeline.bundle.verify import opened

    with opened(old) as before, opened(new) as after:
        found = diff(before.manifest, after.manifest)
    if as_json:
        click.echo(json.dumps(asdict(found), indent=2))
    else:
        for change in found.changes:
            click.echo(f"{change.step:<6} {change.words}")
        enough = "which it is" if found.is_version_right else f"but it is {found.new_version}"
        step = f"a {found.step} step" if found.step != "none" else "no step"
        click.echo(f"{found.old_version} -> {found.expected_version} at least ({step}), {enough}")
    return 0 if found.is_version_right else WRONG_VERSION
