"""``edgec export``: the float network as ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgec.pipeline.cli._options import choices_of, json_option, network_options


@click.command()
@network_options
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="File; ./edgec-out/MODEL.onnx by default."
)
@json_option
def command(model: str, output: Path | None, as_json: bool, **request: Any) -> None:
    """Write MODEL (a name, an ONNX file or a model.toml) as float ONNX: simplified, its outputs proven equal.

    A model.toml beside it says what the network needs, so that 'edgec build' takes it from there.
    """
    import json
    from dataclasses import asdict

    from edgec.pipeline.cli._progress import progress_bar
    from edgec.pipeline.core.root import default_root
    from edgec.pipeline.core.store import Store
    from edgec.pipeline.core.words import size_words
    from edgec.pipeline.export_network import export_network, usual_file
    from edgec.pipeline.recipe import network_recipe

    with progress_bar():
        recipe = network_recipe(model, choices_of(**request))
        exported = export_network(recipe, output or usual_file(recipe), Store(default_root()))
    if as_json:
        click.echo(json.dumps(asdict(exported), indent=2))
    else:
        click.echo(f"{exported.output}: {size_words(exported.size_bytes)}; edgec build {exported.description}")
