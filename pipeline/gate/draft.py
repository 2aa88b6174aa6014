"""Writes ``budgets.toml`` from the present state, and shows what an update would change before it is made."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from edgec.pipeline.bundle.read import Bundle, open_bundle
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.toml_file import validate
from edgec.pipeline.forms.measure import cpu_model
from edgec.pipeline.gate.accuracy import judge_accuracy
from edgec.pipeline.gate.budgets import ANY_DEVICE, LATENCY_LIMITS, Absolute, Budget, Budgets, Relative
from edgec.pipeline.gate.latency import Limits, judge
from edgec.pipeline.gate.proxies import Proxies
from edgec.pipeline.gate.record import read_accuracy
from edgec.pipeline.gate.sampling import Sampler

HEAD = """\
# Budgets of 'edgec check'. Review changes like code.
# Written by 'edgec budget init' from the present state with these margins: {margins}
"""
OPEN_BOUND_MS = 1e9  # nothing is judged while a draft is measured


@dataclass(frozen=True)
class Margins:
    """Room beyond the far end of what was found: of the 95 % interval, or of the count.

    Attributes:
        latency: share of p50 and p99.
        count: share of every exact count; counts have no noise, so none is needed.
        accuracy_pp: points of drop and of agreement.
        slowdown: for ``max_slowdown``.
    """

    latency: float = 0.25
    count: float = 0.0
    accuracy_pp: float = 1.0
    slowdown: float = 0.02

    def __str__(self) -> str:
        return (
            f"latency +{100 * self.latency:g} %, counts +{100 * self.count:g} %, accuracy {self.accuracy_pp:g} pp, "
            f"slowdown {100 * self.slowdown:g} %"
        )


def draft_budget(folder: Path, owner: str, reason: str, margins: Margins, budget_s: float, baseline: str) -> Budget:
    """A budget that the bundle keeps now with room to spare.

    Raises:
        EdgecError: ``cannot-measure``; what opening the bundle raises.
    """
    bundle = open_bundle(folder)
    here = bundle.target.device.is_this_machine
    limits = {name: round(value * (1 + margins.count)) for name, value in Proxies(bundle).known().items()}
    times = _times(bundle, margins, budget_s) if here else {}
    return Budget(
        model=bundle.manifest.model.name,
        target=bundle.target.name,
        device=cpu_model() if here else ANY_DEVICE,
        owner=owner,
        reason=reason,
        limits=validate(Absolute, {**times, **_accuracy(bundle, margins), **limits}, folder, "bad-budgets"),
        relative=Relative(baseline, margins.slowdown) if here else None,
    )


def updated(budgets: Budgets, drafts: Sequence[Budget]) -> Budgets:
    """Limits that a budget has take the drafts' values; none is added, owners, reasons and waivers stay.

    Raises:
        EdgecError: ``no-budget``.
    """
    by_key = {draft.key: draft for draft in drafts}
    for draft in drafts:
        budgets.find(*draft.key)
    return Budgets(tuple(_refreshed(b, by_key[b.key]) if b.key in by_key else b for b in budgets.budget))


def to_toml(budgets: Budgets, head: str = "") -> str:
    """The file's text, always in the same order."""
    return head + "\n".join(_budget_toml(budget) for budget in budgets.budget)


def diff(path: Path, before: str, after: str) -> str:
    """A unified diff, as a reviewer reads it."""
    lines = difflib.unified_diff(before.splitlines(True), after.splitlines(True), f"a/{path.name}", f"b/{path.name}")
    return "".join(lines)


def comments(text: str) -> str:
    """The comment lines that a file starts with: an update keeps them."""
    lines = text.splitlines(keepends=True)
    count = next((i for i, line in enumerate(lines) if line.strip() and not line.startswith("#")), len(lines))
    return "".join(line for line in lines[:count] if line.startswith("#"))


def _times(bundle: Bundle, margins: Margins, budget_s: float) -> dict[str, float]:
    limits = Limits(tuple((name, OPEN_BOUND_MS) for name in LATENCY_LIMITS))
    outcome = judge(limits, Sampler([bundle.folder], budget_s=budget_s))
    values = {finding.limit: finding.high for finding in outcome.findings}
    if values["p50_ms"] is None:
        hint = "free the machine, or allow more time with --budget-s"
        raise EdgecError("cannot-measure", f"'{bundle.folder}': {outcome.findings[0].reason}", hint)
    return {name: _rounded(value * (1 + margins.latency)) for name, value in values.items() if value is not None}


def _accuracy(bundle: Bundle, margins: Margins) -> dict[str, float]:
    """Limits that the recorded answers keep: as many images as there are must be able to show it."""
    recorded = read_accuracy(bundle, None)
    if recorded.agreement is None:
        return {}
    found = judge_accuracy("agreement", 0.0, recorded)
    limits = {"agreement": max(0.0, round((found.low or 0.0) - margins.accuracy_pp, 2))}
    if recorded.only_float_right is not None:
        drop = judge_accuracy("drop_pp", 0.0, recorded)
        limits["drop_pp"] = round((drop.high or 0.0) + margins.accuracy_pp, 2)
    return limits


def _rounded(value: float) -> float:
    """Three significant digits: more would pretend."""
    return float(f"{value:.3g}")


def _refreshed(budget: Budget, draft: Budget) -> Budget:
    fresh = {name: value for name, value in draft.limits.given().items() if name in budget.limits.given()}
    limits = validate(Absolute, {**budget.limits.given(), **fresh}, Path("budgets.toml"), "bad-budgets")
    return replace(budget, limits=limits)


def _budget_toml(budget: Budget) -> str:
    scalars = [(f.name, getattr(budget, f.name)) for f in fields(Budget)][: len(fields(Budget)) - 3]
    text = "\n[[budget]]\n" + "".join(f"{name} = {_value(value)}\n" for name, value in scalars)
    tables: list[tuple[str, dict[str, object]]] = [("budget.limits", dict(budget.limits.given()))]
    if budget.relative:
        tables.append(("budget.relative", {"baseline": budget.relative.baseline, **budget.relative.given()}))
    for name, table in tables:
        text += f"\n[{name}]\n" + "".join(f"{key} = {_value(value)}\n" for key, value in table.items())
    for waiver in budget.waiver:
        rows = "".join(f"{f.name} = {_value(getattr(waiver, f.name))}\n" for f in fields(waiver))
        text += f"\n[[budget.waiver]]\n{rows}"
    return text


def _value(value: object) -> str:
    """Strings as JSON writes them, which TOML reads alike; numbers and dates as they are."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else str(value)
