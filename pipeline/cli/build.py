"""``edgec build``: the whole job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgec.pipeline.cli._options import FOLDER, json_option, on_option, recipe_options, threads_option

OVER_A_LIMIT = 3  # exit status: built, but the board has too little memory for it


@click.command()
@recipe_options
@click.option("--output", type=FOLDER, help="Bundle folder; ./edgec-out/MODEL-TARGET by default.")
@click.option("--model-version", default="1.0.0", show_default=True, help="Semver of the bundle; see 'edgec diff'.")
@click.option("--no-measure", is_flag=True, help="Leave latency unmeasured; equal requests then give equal bundles.")
@click.option("--sensitivity", is_flag=True, help="Also rank the layers for the report; long for large networks.")
@click.option("--stability", is_flag=True, help="Also quantize by each half of the calibration images, and compare.")
@threads_option
@on_option
@json_option
def command(
    output: Path | None,
    model_version: str,
    no_measure: bool,
    sensitivity: bool,
    stability: bool,
    threads: int,
    on: str | None,
    as_json: bool,
    **request: Any,
) -> int:
    """Compile MODEL for a target: INT8, checked for accuracy and latency, handed over as a bundle.

    MODEL is a name ('edgec models'), a float ONNX file, or a model.toml (ONNX and its preprocessing).
    """
    import json

    from edgec.pipeline.bundle.folder import check_replaceable
    from edgec.pipeline.cli._options import recipe_of
    from edgec.pipeline.cli._progress import progress_bar
    from edgec.pipeline.cli._tables import print_result
    from edgec.pipeline.deliver import Judging, deliver

    with progress_bar():
        recipe = recipe_of(**request)
        folder = (output or Path("edgec-out") / f"{recipe.name}-{recipe.target.name}").absolute()
        check_replaceable(folder)
        judging = Judging(
            threads=threads,
            on=on,
            timed=not no_measure,
            ranked=sensitivity,
            halved=stability,
            weigh_precisions=request["precision"] == "auto",
        )
        result = deliver(recipe, folder, judging, model_version)
    if as_json:
        click.echo(json.dumps(result, indent=2))
    else:
        print_result(result, recipe.labels)
    return OVER_A_LIMIT if result["memory"]["over"] else 0
