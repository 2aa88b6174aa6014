"""Writes ``budgets.toml`` from the present state, and shows what an update would change before it is made."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgec.pipeline.bundle.read import Bundle, open_bundle
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.toml_file import validate
from edgec.pipeline.forms.measure import cpu_model
from edgec.pipeline.gate.accuracy import judge_accuracy
from edgec.pipeline.gate.budgets import ANY_DEVICE, LATENCY_LIMITS, Absolute, Budget, Budgets, Relative
from edgec.pipeline.gate.finding import Finding
from edgec.pipeline.gate.latency import Limits, judge
from edgec.pipeline.gate.proxies import Proxies
from edgec.pipeline.gate.record import read_accuracy
from edgec.pipeline.gate.sampling import Sampler

HEAD = """\
# Budgets of 'edgec check'. Review changes like code.
# Written by 'edgec budget init' from the present state with these margins: {margins}
"""
MOST_SPREAD = 3.0  # an interval's far end over the value: beyond it a limit would hold anything
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


def draft_budget(
    folder: Path,
    owner: str,
    reason: str,
    margins: Margins,
    budget_s: float,
    baseline: str | None = None,
    device: str | None = None,
) -> Budget:
    """A budget that the bundle keeps now with room to spare.

    Args:
        baseline: name of a build that later ones are compared with; None limits nothing against another build.
        device: whose limits these are; None for this machine where it is the target, else ``any``. Milliseconds are
            measured for this machine alone.

    Raises:
        EdgecError: ``cannot-measure``; what opening the bundle raises.
    """
    bundle = open_bundle(folder)
    here = bundle.target.device.is_this_machine and device in (None, cpu_model())
    usual = cpu_model() if here else ANY_DEVICE
    limits = {name: round(value * (1 + margins.count)) for name, value in Proxies(bundle).known().items()}
    times = _times(bundle, margins, budget_s) if here else {}
    return Budget(
        model=bundle.manifest.model.name,
        target=bundle.target.name,
        device=device or usual,
        owner=owner,
        reason=reason,
        limits=validate(Absolute, {**times, **_accuracy(bundle, margins), **limits}, folder, "bad-budgets"),
        relative=Relative(baseline, margins.slowdown) if baseline and bundle.target.device.is_this_machine else None,
    )


def updated(text: str, budgets: Budgets, drafts: Sequence[Budget]) -> str:
    """The file's text with the drafts' values for limits that a budget has.

    None is added. Everything else stays as it is written: owners, reasons, waivers, comments, order and blank lines.

    Args:
        text: that ``budgets`` were read from.

    Raises:
        EdgecError: ``no-budget``.
    """
    import tomlkit

    document: dict[str, Any] = tomlkit.parse(text)
    for draft in drafts:
        found = budgets.find(*draft.key)
        written = document["budget"][budgets.budget.index(found)].get("limits", {})
        for name, value in draft.limits.given().items():
            if name in written and written[name] != value:
                written[name] = value
    return tomlkit.dumps(document)


def to_toml(budgets: Budgets, head: str = "") -> str:
    """The file's text, always in the same order."""
    import tomlkit

    return head + "\n" + tomlkit.dumps({"budget": [_table(budget) for budget in budgets.budget]})


def diff(path: Path, before: str, after: str) -> str:
    """A unified diff, as a reviewer reads it."""
    lines = difflib.unified_diff(before.splitlines(True), after.splitlines(True), f"a/{path.name}", f"b/{path.name}")
    return "".join(lines)


def _times(bundle: Bundle, margins: Margins, budget_s: float) -> dict[str, float]:
    limits = Limits(tuple((name, OPEN_BOUND_MS) for name in LATENCY_LIMITS))
    outcome = judge(limits, Sampler([bundle.folder], budget_s=budget_s))
    found = {finding.limit: finding for finding in outcome.findings}
    reason = _unknown(found["p50_ms"])
    if reason:
        hint = "free the machine, or allow more time with --budget-s"
        raise EdgecError("cannot-measure", f"'{bundle.folder}': {reason}", hint)
    ends = {name: finding.high for name, finding in found.items() if not _unknown(finding)}
    return {name: _rounded(end * (1 + margins.latency)) for name, end in ends.items() if end is not None}


def _unknown(finding: Finding) -> str:
    """Why no limit can start from it; empty where one can."""
    if finding.value is None or finding.high is None:
        return finding.reason
    if finding.high <= MOST_SPREAD * finding.value:
        return ""
    return f"{finding.value:.3g} ms may be up to {finding.high:.3g} ms: the processes agree too little"


def _accuracy(bundle: Bundle, margins: Margins) -> dict[str, float]:
    """Limits that the recorded answers keep: as many images as there are must be able to show it."""
    recorded = read_accuracy(bundle, None)
    if recorded.agreement is None:
        return {}
    agreement, lost = ("pixel_agreement", "miou_drop_pp") if recorded.agreement_spread else ("agreement", "drop_pp")
    found = judge_accuracy(agreement, 0.0, recorded)
    limits = {agreement: max(0.0, round((found.low or 0.0) - margins.accuracy_pp, 2))}
    if recorded.drop_pp is not None:
        drop = judge_accuracy(lost, 0.0, recorded)
        limits[lost] = round((drop.high or 0.0) + margins.accuracy_pp, 2)
    return limits


def _rounded(value: float) -> float:
    """Three significant digits: more would pretend."""
    return float(f"{value:.3g}")


def _table(budget: Budget) -> dict[str, Any]:
    """What is given, as the file says it."""
    table = {key: value for key, value in asdict(budget).items() if value}
    table["limits"] = budget.limits.given()
    if budget.relative is not None:
        table["relative"] = {"baseline": budget.relative.baseline, **budget.relative.given()}
    return table
