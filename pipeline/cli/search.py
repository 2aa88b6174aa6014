"""``edgec search``: which precision, effort, granularity, input size and weights pay."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgec.pipeline.cli._options import (
    FOLDER,
    NAME_OR_FILE,
    TARGET_HELP,
    Finite,
    data_options,
    json_option,
    on_option,
    threads_option,
)
from edgec.pipeline.cli.train import int_list, optional
from edgec.pipeline.forms.scheme import Level

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgec.pipeline.search.space import Found, Outcome

LEVELS: tuple[Level, ...] = ("fast", "accurate", "best")


@click.command()
@click.argument("model")
@click.option("--target", required=True, type=NAME_OR_FILE, help=TARGET_HELP)
@click.option(
    "--weights", multiple=True, type=NAME_OR_FILE, help="As for 'edgec build'; several compare widths, or trainings."
)
@data_options
@click.option("--px", callback=optional(int_list(32)), help="Sizes of the input to try, such as 160,192,224.")
@click.option(
    "--level",
    "levels",
    type=click.Choice(LEVELS),
    multiple=True,
    help="Levels of the quantizer to try.  [default: all]",
)
@click.option("--minutes", type=Finite(min=0), default=30.0, show_default=True, help="Begin no point after them.")
@click.option(
    "--max-loss-pp",
    type=Finite(min=0),
    default=1.0,
    show_default=True,
    help="Built is the cheapest point that loses no more against the best.",
)
@click.option("--output", type=FOLDER, help="Journal, results and bundle; ./edgec-out/MODEL-TARGET-search by default.")
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), help="The front, .svg or .png.")
@threads_option
@on_option
@json_option
def command(
    model: str,
    target: str,
    weights: tuple[str, ...],
    data: Path | None,
    calibration_data: Path | None,
    test_data: Path | None,
    calibration_samples: int,
    px: tuple[int, ...] | None,
    levels: tuple[Level, ...],
    minutes: float,
    max_loss_pp: float,
    task: str | None,
    output: Path | None,
    plot: Path | None,
    threads: int,
    on: str | None,
    as_json: bool,
) -> None:
    """Try builds of MODEL for a target, and build the one that pays.

    Accuracy stands against latency, against instructions on an emulated core, or against a microcontroller's arena.
    Half of the test images decide; the bundle is judged on the others. Run again, it continues.
    """
    from functools import lru_cache

    from edgec.pipeline.bundle.folder import check_replaceable
    from edgec.pipeline.cli._progress import progress_bar
    from edgec.pipeline.core.plots import check_plot
    from edgec.pipeline.core.progress import reporter
    from edgec.pipeline.core.root import default_root
    from edgec.pipeline.core.store import Store
    from edgec.pipeline.deliver import Judging, deliver
    from edgec.pipeline.recipe import Choices, DataFolders, Recipe, make_recipe
    from edgec.pipeline.search.judge import Judge, check_measurable, space_of
    from edgec.pipeline.search.plot import plot as draw
    from edgec.pipeline.search.space import Found, chosen
    from edgec.pipeline.search.study import require_optuna, search

    require_optuna()
    if plot is not None:
        check_plot(plot)
    folders = DataFolders(data, calibration_data, test_data)

    @lru_cache
    def make(given: str | None, side: int | None) -> Recipe:
        return make_recipe(model, target, folders, Choices(given, input_px=side), calibration_samples, task=task)

    with progress_bar():
        usual = make(weights[0] if weights else None, px[0] if px else None)
        check_measurable(usual, on)
        space = space_of(usual, px or (), weights, levels or LEVELS)
        folder = (output or Path("edgec-out") / f"{usual.name}-{usual.target.name}-search").absolute()
        bundle = folder / "bundle"
        check_replaceable(bundle)
        folder.mkdir(parents=True, exist_ok=True)
        judge = Judge(make, Store(default_root()), on, threads)
        journal, report = folder / "search.journal", reporter("search")
        outcomes = search(space, judge, journal, judge.name(space), minutes, report=report)
        shipped = chosen(outcomes, max_loss_pp)
        result = deliver(judge.recipe(shipped.point, decides=False), bundle, Judging(threads, on))
        record = record_of(outcomes, shipped, len(space.points()), result)
        write_record(folder / "search.json", record)
        if plot is not None:
            found = [one for one in outcomes if isinstance(one, Found)]
            draw(found, shipped, f"{usual.name} for {usual.target.name}", plot)
    if as_json:
        import json

        click.echo(json.dumps(record, indent=2))
    else:
        show(outcomes, shipped, len(space.points()), folder)


def record_of(outcomes: Sequence[Outcome], shipped: Found, num_points: int, result: dict[str, Any]) -> dict[str, Any]:
    """``search.json``: every point, front and choice by their places, and how the choice does on other images."""
    from dataclasses import asdict

    from edgec.pipeline.search.space import Found, front

    best = front([one for one in outcomes if isinstance(one, Found)])
    return {
        "num_points": num_points,
        "points": [asdict(one) for one in outcomes],
        "front": [outcomes.index(one) for one in best],
        "chosen": outcomes.index(shipped),
        "bundle": result["bundle"],
        "accuracy": result["accuracy"],
    }


def write_record(path: Path, record: dict[str, Any]) -> None:
    """The record as a file."""
    import json

    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def show(outcomes: Sequence[Outcome], shipped: Found, num_points: int, folder: Path) -> None:
    """The front as a table, what was refused, and what was built."""
    from rich.table import Table

    from edgec.pipeline.cli._tables import output_console
    from edgec.pipeline.core.words import size_words
    from edgec.pipeline.search.space import Found, Impossible, front

    console = output_console()
    best = front([one for one in outcomes if isinstance(one, Found)])
    unit = shipped.unit
    table = Table("point", "headline %", "SQNR dB", unit, "artifact", "", box=None, header_style="bold")
    for one in best:
        sqnr = "exact" if one.sqnr_db is None else f"{one.sqnr_db:.1f}"
        cost = f"{one.cost:,.3f}" if unit == "ms" else f"{one.cost:,.0f}"
        size = size_words(one.size_bytes)
        table.add_row(one.point.words(), f"{one.headline:.2f}", sqnr, cost, size, "built" if one is shipped else "")
    console.print(f"{len(outcomes)} of {num_points} points tried; nothing else of them beats these:")
    console.print(table)
    for outcome in outcomes:
        if isinstance(outcome, Impossible):
            console.print(f"{outcome.point.words()}: {outcome.refusal}", style="dim", markup=False)
    console.print(f"bundle: {folder / 'bundle'}; everything: {folder / 'search.json'}", markup=False)
