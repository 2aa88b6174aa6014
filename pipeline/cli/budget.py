"""``edgec budget``: write and update ``budgets.toml``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgec.pipeline.cli._options import FOLDER, WORDS, Finite, on_option

if TYPE_CHECKING:
    from edgec.pipeline.gate.draft import Draft

MARGIN = Finite(min=0, max=100)
DEFAULT = Path("budgets.toml")


@click.group()
def command() -> None:
    """Limits that 'edgec check' holds bundles against."""


@command.command()
@click.argument("bundles", type=FOLDER, nargs=-1, required=True, metavar="BUNDLE...")
@click.option("--output", type=FOLDER, default=DEFAULT, show_default=True, help="File to write; never overwritten.")
@click.option("--owner", type=WORDS, required=True, help="Who answers for these limits.")
@click.option("--reason", type=WORDS, default="present state", show_default=True, help="Why they are what they are.")
@click.option("--baseline", type=WORDS, help="Name of a build to compare with; without it no limit is relative to one.")
@click.option(
    "--device", type=WORDS, help="'any' for limits that hold everywhere: no milliseconds.  [default: this machine]"
)
@on_option
@click.option("--latency-margin", type=MARGIN, default=0.25, show_default=True, help="Share.")
@click.option("--count-margin", type=MARGIN, default=0.0, show_default=True, help="Share.")
@click.option("--accuracy-margin-pp", type=MARGIN, default=1.0, show_default=True, help="Points.")
@click.option("--max-slowdown", type=Finite(min=0, min_open=True), default=0.02, show_default=True)
@click.option("--budget-s", type=Finite(min=1), default=120.0, show_default=True, help="Time per bundle.")
def init(
    bundles: tuple[Path, ...],
    output: Path,
    owner: str,
    reason: str,
    baseline: str | None,
    device: str | None,
    on: str | None,
    latency_margin: float,
    count_margin: float,
    accuracy_margin_pp: float,
    max_slowdown: float,
    budget_s: float,
) -> None:
    """Write budgets that BUNDLEs keep now, with stated margins."""
    from edgec.pipeline.core.errors import EdgecError
    from edgec.pipeline.gate.budgets import Budgets
    from edgec.pipeline.gate.draft import HEAD, Margins, check_apart, draft_budget, to_toml
    from edgec.pipeline.report.output import prepare, write_text

    if output.exists():
        raise EdgecError("output-exists", f"'{output}' exists", "see 'edgec budget update'")
    prepare(output)
    check_apart(bundles)
    margins = Margins(latency_margin, count_margin, accuracy_margin_pp, max_slowdown)
    drafts = [draft_budget(folder, owner, reason, margins, budget_s, baseline, device, on) for folder in bundles]
    budgets = Budgets(tuple(draft.budget for draft in drafts))
    write_text(output, to_toml(budgets, HEAD.format(margins=margins)))
    _say_left_out(drafts)
    one = len(drafts) == 1
    click.echo(
        f"{output}: {'1 budget; read it' if one else f'{len(drafts)} budgets; read them'} before you commit the file"
    )


@command.command()
@click.argument("bundles", type=FOLDER, nargs=-1, required=True, metavar="BUNDLE...")
@click.option("--budgets", type=FOLDER, default=DEFAULT, show_default=True, help="File to update.")
@on_option
@click.option("--latency-margin", type=MARGIN, default=0.25, show_default=True, help="Share.")
@click.option("--count-margin", type=MARGIN, default=0.0, show_default=True, help="Share.")
@click.option("--accuracy-margin-pp", type=MARGIN, default=1.0, show_default=True, help="Points.")
@click.option("--budget-s", type=Finite(min=1), default=120.0, show_default=True, help="Time per bundle.")
@click.option("--write", is_flag=True, help="Make the change; without it, only the diff is shown.")
def update(
    bundles: tuple[Path, ...],
    budgets: Path,
    on: str | None,
    latency_margin: float,
    count_margin: float,
    accuracy_margin_pp: float,
    budget_s: float,
    write: bool,
) -> None:
    """Show, as a diff, what present limits would be for BUNDLEs; --write makes the change."""
    from edgec.pipeline.gate.budgets import load_budgets
    from edgec.pipeline.gate.draft import Margins, check_apart, diff, redraft, updated

    before, old = load_budgets(budgets), budgets.read_bytes().decode()
    check_apart(bundles)
    margins = Margins(latency_margin, count_margin, accuracy_margin_pp)
    drafts = [redraft(folder, before, margins, budget_s, on) for folder in bundles]
    new = updated(old, before, [draft.budget for draft in drafts])
    _say_left_out(drafts)
    click.echo(diff(budgets, old, new) or "nothing would change\n", nl=False)
    if write:
        budgets.write_bytes(new.encode())  # line ends stay as well


def _say_left_out(drafts: Sequence[Draft]) -> None:
    """On standard error: limits that no measurement here can give."""
    for draft in drafts:
        for name, why in draft.left_out.items():
            click.echo(f"no {name} for '{draft.budget.model}' on '{draft.budget.target}': {why}", err=True)
