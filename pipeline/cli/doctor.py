"""``edgec doctor``: what can be built and run here, found by trying."""

from __future__ import annotations

from typing import Any

import click

from edgec.pipeline.cli._options import json_option


@click.command()
@json_option
def command(as_json: bool) -> None:
    """Say which targets can be built and run on this machine, and what is missing for the others."""
    import json

    from rich.markup import escape
    from rich.table import Table

    from edgec.pipeline.cli._tables import output_console
    from edgec.pipeline.diagnosis import diagnose

    diagnosis = diagnose()
    if as_json:
        click.echo(json.dumps(diagnosis, indent=2))
        return
    console = output_console()
    for name, value in diagnosis["machine"].items():
        console.print(f"{name:<14} {value}")
    table = Table(box=None, header_style="bold")
    for column in ("target", "build", "run"):
        table.add_column(column, no_wrap=True)
    for column in ("found", "missing"):
        table.add_column(column)
    for names, entry in _alike(diagnosis["targets"]):
        marks = ["[green]yes[/]" if entry[key] else "[red]no[/]" for key in ("can_build", "can_run")]
        every = ("\n".join([mark] * len(names)) for mark in marks)
        table.add_row(escape("\n".join(names)), *every, escape(entry["facts"]), escape(entry["missing"]))
    console.print(table)


def _alike(targets: list[dict[str, Any]]) -> list[tuple[list[str], dict[str, Any]]]:
    """Targets of which the same is to be said, together: a cause that they share is said once."""
    found: dict[tuple[Any, ...], list[str]] = {}
    for entry in targets:
        found.setdefault(tuple(sorted((key, entry[key]) for key in entry if key != "target")), []).append(
            entry["target"]
        )
    return [(names, dict(said)) for said, names in found.items()]
