"""``edgec explain``: why a stage would run."""

from __future__ import annotations

from typing import Any

import click

from edgec.pipeline.cli._options import json_option, recipe_options


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
    for plan in plans:
        click.echo(f"{'kept' if plan.cached else 'run':<5} {plan.stage:<12} {plan.reason}")
    click.echo("run   measure      latency is measured anew each time")
