"""``edgec explain``: why a stage would run."""

from __future__ import annotations

from typing import Any

import click

from edgec.pipeline.cli._options import json_option, recipe_options

MOST = 4  # parts of a key that are named


@click.command()
@recipe_options
@json_option
def command(as_json: bool, **request: Any) -> None:
    """Say which stages 'edgec build' would run with these options, and why."""
    import json
    from dataclasses import asdict

    from edgec.pipeline.cli._options import recipe_of
    from edgec.pipeline.core.store import Store, default_root
    from edgec.pipeline.explain import explain

    plans = explain(recipe_of(**request), Store(default_root()))
    if as_json:
        click.echo(json.dumps([asdict(plan) for plan in plans], indent=2))
        return
    width = max(len(plan.stage) for plan in plans)
    for plan in plans:
        click.echo(f"{'kept' if plan.cached else 'run':<5} {plan.stage:<{width}} {_in_short(plan.reason)}")
    click.echo(f"run   {'measure':<{width}} latency is measured anew each time")


def _in_short(reason: str) -> str:
    """Its first parts; ``--json`` has all."""
    parts = reason.split("; ")
    return reason if len(parts) <= MOST else "; ".join([*parts[:MOST], f"and {len(parts) - MOST} more (--json)"])
