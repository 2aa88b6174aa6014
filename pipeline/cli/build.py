"""``edgec build``: the whole job, for one board or for several."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgec.pipeline.bundle.extras import EXTRAS
from edgec.pipeline.cli._options import (
    FOLDER,
    json_option,
    on_option,
    recipe_of,
    recipe_options,
    threads_option,
)

if TYPE_CHECKING:
    from edgec.pipeline.bundle.extras import Extra
    from edgec.pipeline.deliver import Judging

REFUSED = 1
OVER_A_LIMIT = 3  # exit status: built, but the board has too little memory for it


@click.command()
@recipe_options
@click.option(
    "--output", type=FOLDER, help="Bundle folder, or of several boards the folder of theirs; ./edgec-out by default."
)
@click.option("--model-version", default="1.0.0", show_default=True, help="Semver of the bundle; see 'edgec diff'.")
@click.option(
    "--no-measure/--measure", is_flag=True, help="Leave latency unmeasured; equal requests then give equal bundles."
)
@click.option(
    "--sensitivity/--no-sensitivity", is_flag=True, help="Also rank the layers for the report; long for large networks."
)
@click.option(
    "--stability/--no-stability",
    is_flag=True,
    help="Also quantize by each half of the calibration images, and compare.",
)
@click.option(
    "--with",
    "extras",
    type=click.Choice(EXTRAS),
    multiple=True,
    help="Also put this into the bundle: C sources, the float network, golden inputs as files. Repeatable.",
)
@threads_option
@on_option
@json_option
def command(
    targets: tuple[str, ...],
    output: Path | None,
    model_version: str,
    no_measure: bool,
    sensitivity: bool,
    stability: bool,
    extras: tuple[Extra, ...],
    threads: int,
    on: str | None,
    as_json: bool,
    **request: Any,
) -> int:
    """Compile MODEL for a target: INT8, checked for accuracy and latency, handed over as a bundle.

    MODEL is a name ('edgec models'), a float ONNX file, or a model.toml (ONNX and its preprocessing). Of several
    targets each gets a bundle of its own; one that is refused does not stop the others.
    """
    import json

    from edgec.pipeline.cli._tables import print_result
    from edgec.pipeline.deliver import Judging

    judging = Judging(
        threads=threads,
        on=on,
        timed=not no_measure,
        ranked=sensitivity,
        halved=stability,
        weigh_precisions=request["precision"] == "auto",
        extras=tuple(dict.fromkeys(extras)),
    )
    if len(targets) > 1:
        if on is not None:
            raise click.UsageError(f"--on is one device, and there are {len(targets)} targets: build them one by one")
        return _several(targets, output, judging, model_version, as_json, request)
    result, labels = _build({**request, "target": targets[0]}, judging, model_version, lambda own: output or own)
    if as_json:
        click.echo(json.dumps(result, indent=2))
    else:
        print_result(result, labels)
    return _status(result)


def _build(
    request: dict[str, Any], judging: Judging, version: str, place: Callable[[Path], Path]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """``result.json`` of one board, and the class names.

    Args:
        place: where the bundle goes, given its usual place.
    """
    from edgec.pipeline.bundle.folder import check_replaceable
    from edgec.pipeline.cli._progress import progress_bar
    from edgec.pipeline.deliver import deliver, usual_folder

    with progress_bar():
        recipe = recipe_of(**request)
        folder = place(usual_folder(recipe)).absolute()
        check_replaceable(folder)
        return deliver(recipe, folder, judging, version), recipe.labels


def _several(
    targets: tuple[str, ...],
    output: Path | None,
    judging: Judging,
    version: str,
    as_json: bool,
    request: dict[str, Any],
) -> int:
    """One after the other, a table of all at the end; the exit status is that of the worst."""
    import json

    from edgec.pipeline.cli._progress import tell
    from edgec.pipeline.cli._tables import print_builds, print_result
    from edgec.pipeline.core.errors import EdgecError, printable

    done: list[dict[str, Any]] = []
    for number, target in enumerate(targets, 1):
        tell(f"[{number}/{len(targets)}] {target}")
        try:
            result, labels = _build(
                {**request, "target": target}, judging, version, lambda own: output / own.name if output else own
            )
        except EdgecError as error:
            done.append({"target": target, "error": {"code": error.code, "message": error.message, "hint": error.hint}})
            click.echo(printable(f"{target}: {error}"), err=True)
            continue
        done.append(result)
        if not as_json:
            print_result(result, labels)
            click.echo()
    if as_json:
        click.echo(json.dumps({"builds": done}, indent=2))
    else:
        print_builds(done)
    return worst(_status(result) for result in done)


def worst(statuses: Iterable[int]) -> int:
    """Of many builds: a refusal, then a board's limit that is passed."""
    found = set(statuses)
    return next((status for status in (REFUSED, OVER_A_LIMIT) if status in found), 0)


def _status(result: dict[str, Any]) -> int:
    if "error" in result:
        return REFUSED
    return OVER_A_LIMIT if result["memory"]["over"] else 0
