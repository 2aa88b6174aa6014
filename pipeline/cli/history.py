"""``edgec history``: figures over commits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgec.pipeline.cli._options import FOLDER, json_option

if TYPE_CHECKING:
    from edgec.pipeline.gate.history import Entry

HISTORY = click.option(
    "--history", type=FOLDER, default=Path("history.jsonl"), show_default=True, help="File, or a folder that has one."
)
MEASURE = click.option(
    "--measure", default="p50_ms", show_default=True, help="'accuracy', or a latency or count by its limit's name."
)


@click.group()
def command() -> None:
    """Keep what 'edgec check' measured, commit by commit, and find where it changed."""


@command.command()
@click.argument("report", type=FOLDER)
@HISTORY
@click.option("--commit", help="Name of the state; git's HEAD by default.")
def add(report: Path, history: Path, commit: str | None) -> None:
    """Append what REPORT ('edgec check --format json=REPORT') measured."""
    from edgec.pipeline.bundle.model_card import counted
    from edgec.pipeline.gate.history import append_history, current_commit, entries_of

    entries = entries_of(report, commit or current_commit())
    file = append_history(history, entries)
    click.echo(f"{file}: {counted(len(entries), 'entry', 'entries')} added for {entries[0].commit}")


@command.command()
@HISTORY
@MEASURE
@json_option
def show(history: Path, measure: str, as_json: bool) -> None:
    """List a measure by series, with its change points."""
    import json
    from dataclasses import asdict

    from edgec.pipeline.bundle.model_card import counted
    from edgec.pipeline.gate.change_points import change_points
    from edgec.pipeline.gate.history import shown

    rows = []
    for (model, target, fingerprint), entries in _series(history, measure).items():
        points = change_points([entry.values[measure] for entry in entries])
        values = [{"commit": entry.commit, "time": entry.time, measure: entry.values[measure]} for entry in entries]
        found = [{"commit": entries[point.index].commit, **asdict(point)} for point in points]
        device = entries[0].device if fingerprint else ""
        series = {"model": model, "target": target, "device": device, "fingerprint": fingerprint}
        rows.append({**series, "values": values, "change_points": found})
        if not as_json:
            many = counted(len(entries), "entry", "entries")
            click.echo(f"{model} for {target}{entries[0].where(measure)}: {measure} over {many}")
            for entry in entries:
                click.echo(f"  {entry.commit[:12]:12}  {entry.time}  {shown(entry.values[measure])}")
            for point in points:
                strength = "strong" if point.strong else "weak"
                click.echo(
                    f"  {strength} change at {entries[point.index].commit[:12]}: "
                    f"{shown(point.before)} -> {shown(point.after)} "
                    f"({100 * (point.ratio - 1):+.1f} %, p = {point.p_value:.3f})"
                )
    if as_json:
        click.echo(json.dumps(rows, indent=2))


@command.command()
@HISTORY
@MEASURE
@click.option("--output", type=FOLDER, help=".svg or .png; the terminal by default.")
def plot(history: Path, measure: str, output: Path | None) -> None:
    """Draw a measure over commits, with its change points."""
    from edgec.pipeline.core.plots import check_plot
    from edgec.pipeline.gate.change_points import change_points
    from edgec.pipeline.gate.plot import in_terminal, to_file

    if output:
        check_plot(output)
    series = _series(history, measure)
    if output:
        to_file(output, measure, series)
        click.echo(f"{output}: {len(series)} series")
        return
    for (model, target, _), entries in series.items():
        values = [entry.values[measure] for entry in entries]
        click.echo(f"{model} for {target}{entries[0].where(measure)}: {measure}")
        click.echo(in_terminal(values, change_points(values)))


def _series(history: Path, measure: str) -> dict[tuple[str, str, str], list[Entry]]:
    from edgec.pipeline.core.errors import EdgecError, nearest_hint
    from edgec.pipeline.gate.history import DEVICE_MEASURES, read_history, series_of

    entries = read_history(history)
    series = series_of(entries, measure)
    if series:
        return series
    known = {name for entry in entries for name in entry.values}
    hint = nearest_hint(measure, known)
    if not entries:
        hint = "the history is empty: add a report with 'edgec history add'"
    elif measure in DEVICE_MEASURES:
        hint = f"it enters from a check without --no-device; known: {', '.join(sorted(known))}"
    raise EdgecError("unknown-measure", f"no entry has '{measure}'", hint)
