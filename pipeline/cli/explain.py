"""``edgec explain``: why a stage would run, and where the values of a command's options come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from edgec.pipeline.cli._config import COMMANDS, META, Config, name_environment
from edgec.pipeline.cli._options import json_option, recipe_of, recipe_options
from edgec.pipeline.cli._progress import add_verbosity

if TYPE_CHECKING:
    from edgec.pipeline.core.store import Plan

MOST = 4  # parts of a key that are named


@click.command()
@recipe_options
@json_option
@click.pass_context
def stages(context: click.Context, /, targets: tuple[str, ...], as_json: bool, **request: Any) -> None:
    """Say which stages 'edgec build' would run with these options, and why."""
    import json
    from dataclasses import asdict

    from edgec.pipeline.core.root import default_root
    from edgec.pipeline.core.store import Store
    from edgec.pipeline.explain import explain

    found = {target: explain(recipe_of(**request, target=target), Store(default_root())) for target in targets}
    if as_json or _wants_json(context):
        rows = {target: [asdict(plan) for plan in plans] for target, plans in found.items()}
        click.echo(json.dumps(rows if len(targets) > 1 else rows[targets[0]], indent=2))
        return
    for target, plans in found.items():
        if len(targets) > 1:
            click.echo(f"{target}:")
        _print_plans(plans)


def _print_plans(plans: Sequence[Plan]) -> None:
    width = max(len(plan.stage) for plan in plans)
    for plan in plans:
        click.echo(f"{'kept' if plan.cached else 'run':<5} {plan.stage:<{width}} {_in_short(plan.reason)}")
    click.echo(f"run   {'measure':<{width}} latency is measured anew each time")


@click.command(
    add_help_option=False, context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}
)
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def values(context: click.Context, words: tuple[str, ...]) -> None:
    """Say what each option of a command is, and where that comes from."""
    import json
    from dataclasses import asdict

    from rich.markup import escape
    from rich.table import Table

    from edgec.pipeline.cli._sources import board_facts, explained, sources
    from edgec.pipeline.cli._tables import output_console

    given, names = explained(context.find_root(), words)
    found, facts = sources(given, names), board_facts(given)
    if _wants_json(context) or given.params.get("as_json"):
        command = " ".join(names)
        rows = {"options": [asdict(row) for row in found], "boards": [asdict(fact) for fact in facts]}
        click.echo(json.dumps({"command": command, **rows}, indent=2))
        return
    table = Table("option", "value", "from", box=None)
    for row in (*found, *facts):
        source = "" if row.source in ("file", "board") else row.source  # its name and line say so
        where = " ".join(filter(None, (source, row.where)))
        table.add_row(*(escape(text) for text in (row.name, _said(row.value), where)))
    output_console().print(table)


class _Explain(click.Group):
    """The first word tells: a command's name asks for its values, anything else is a MODEL."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return []

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        known = ctx.find_root().command
        return known.get_command(ctx.find_root(), cmd_name) if isinstance(known, click.Group) else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] in COMMANDS:
            return "", values, args
        config: Config = ctx.meta.get(META, Config())
        name_environment(add_verbosity(stages), "build")
        ctx.default_map = {"": config.defaults(stages, "build")}
        return "", stages, args


@click.command(
    cls=_Explain,
    context_settings={"ignore_unknown_options": True},
    subcommand_metavar="MODEL [OPTIONS] | COMMAND [ARGS]...",
)
@json_option
def command(as_json: bool) -> None:
    """Why a build's stages would run, or where the values of a command's options come from.

    With a MODEL and the options of 'edgec build': which stages would run, and why. With a COMMAND and what follows
    it: each option's value, and whether it comes from the command line, the environment, a file of options or the
    default. Nothing is built.
    """


def _wants_json(context: click.Context) -> bool:
    return context.parent is not None and bool(context.parent.params.get("as_json"))


def _said(value: Any) -> str:
    if value is None or value == []:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _in_short(reason: str) -> str:
    """Its first parts; ``--json`` has all."""
    parts = reason.split("; ")
    return reason if len(parts) <= MOST else "; ".join([*parts[:MOST], f"and {len(parts) - MOST} more (--json)"])
