"""``edgec reproduce``: does the same recipe make the same bytes?"""

from __future__ import annotations

from pathlib import Path

import click

from edgec.pipeline.cli._options import FOLDER, NAME_OR_FILE, folder_options, json_option, on_option

NOT_THE_SAME = 3


@click.command()
@click.argument("bundle", type=FOLDER)
@click.option("--model", type=FOLDER, help="Your own ONNX file or model.toml, for a bundle made from one.")
@click.option("--weights", type=NAME_OR_FILE, help="As 'edgec build' takes them; by default what the bundle names.")
@folder_options
@on_option
@json_option
def command(
    bundle: Path,
    model: Path | None,
    weights: str | None,
    data: Path | None,
    calibration_data: Path | None,
    test_data: Path | None,
    on: str | None,
    as_json: bool,
) -> int:
    """Build BUNDLE again from its manifest, in an empty store, and name the first file that differs.

    Exit status 0 where every file is the same, 3 where one is not.
    """
    import json
    from dataclasses import asdict

    from edgec.pipeline.cli._progress import progress_bar
    from edgec.pipeline.recipe import DataFolders
    from edgec.pipeline.reproduce import Material, reproduce

    folders = DataFolders(data, calibration_data, test_data)
    with progress_bar():
        found = reproduce(bundle, Material(model, weights, folders), on)
    if as_json:
        click.echo(json.dumps(asdict(found), indent=2))
    elif not found.differences:
        click.echo(f"the same: {found.num_equal} files, byte by byte")
        for path in found.by_meaning:
            click.echo(f"built anew, same answers: {path}")
        if found.not_compared:
            click.echo(f"not compared, of a device: {', '.join(found.not_compared)}")
        if found.archive_sha256:
            click.echo(f"as .tar.zst: sha256 {found.archive_sha256}")
    else:
        click.echo(f"not the same: first '{found.differences[0]}', {len(found.differences)} files in all")
        for reason in found.reasons:
            click.echo(f"  {reason}")
    return NOT_THE_SAME if found.differences else 0
