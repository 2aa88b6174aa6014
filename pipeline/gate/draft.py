"""Writes ``budgets.toml`` from the present state, and shows what an update would change before it is made."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from edgec.pipeline.bundle.float_network import float_artifact
from edgec.pipeline.bundle.read import Bundle, open_bundle
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.toml_file import validate
from edgec.pipeline.forms.measure import SAMPLES_FOR_P99
from edgec.pipeline.gate.accuracy import judge_accuracy
from edgec.pipeline.gate.budgets import (
    ANY_DEVICE,
    LATENCY_LIMITS,
    LOWER_LIMITS,
    SPEEDUP_LIMIT,
    Absolute,
    Budget,
    Budgets,
    Relative,
)
from edgec.pipeline.gate.finding import Finding
from edgec.pipeline.gate.latency import CANDIDATE, Limits, judge
from edgec.pipeline.gate.proxies import Proxies
from edgec.pipeline.gate.record import read_accuracy
from edgec.pipeline.gate.sampling import Contestants, Sampler
from edgec.pipeline.gate.there import device_at_hand, measuring
from edgec.pipeline.tasks.accuracy import short

HEAD = """\
# Budgets of 'edgec check'. Review changes like code.
# Written by 'edgec budget init' from the present state with these margins: {margins}
"""
MOST_SPREAD = 3.0  # an interval's far end over the value: beyond it a limit would hold anything
OPEN_BOUND_MS, OPEN_SPEEDUP = 1e9, 1e-9  # nothing is judged while a draft is measured
SURE_P99 = 3 * SAMPLES_FOR_P99 // 2  # samples of a measurement after which another one surely has enough
MOST_SPEEDUP = 99.0  # that a budget's file takes


@dataclass(frozen=True)
class Margins:
    """Room beyond the far end of what was found: of the 95 % interval, or of the count.

    Attributes:
        latency: share of p50 and p99; the artifact may gain on float as much less.
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


@dataclass(frozen=True)
class Draft:
    """A budget, and why a limit that a reader may miss is not in it, in words by its name."""

    budget: Budget
    left_out: Mapping[str, str] = field(default_factory=dict)


def draft_budget(
    folder: Path,
    owner: str,
    reason: str,
    margins: Margins,
    budget_s: float,
    baseline: str | None = None,
    device: str | None = None,
    on: str | None = None,
) -> Draft:
    """A budget that the bundle keeps now with room to spare.

    Args:
        baseline: name of a build that later ones are compared with; None limits nothing against another build.
        device: whose limits these are; None for the board ``on``, for this machine where it is the target, else
            ``any``. Milliseconds are measured for that board, or this machine, alone.
        on: a board that times are measured on.

    Raises:
        EdgecError: ``cannot-measure``; what opening the bundle raises.
    """
    bundle = open_bundle(folder)
    at_hand = device_at_hand(bundle, on)
    timed = at_hand != ANY_DEVICE and device in (None, at_hand)
    budget = Budget(
        model=bundle.manifest.model.name,
        target=bundle.target.name,
        device=device or at_hand,
        owner=owner,
        reason=reason,
        relative=Relative(baseline, margins.slowdown) if baseline and at_hand != ANY_DEVICE else None,
    )
    return _drafted(bundle, budget, (*LATENCY_LIMITS, SPEEDUP_LIMIT) if timed else (), margins, budget_s, on)


def check_apart(folders: Sequence[Path]) -> None:
    """Each bundle has a budget of its own.

    Raises:
        EdgecError: ``same-bundle``; what opening the bundles raises.
    """
    seen: dict[tuple[str, str], Path] = {}
    for folder in folders:
        manifest = open_bundle(folder).manifest
        other = seen.setdefault((manifest.model.name, manifest.target.name), folder)
        if other is not folder:
            message = f"'{other}' and '{folder}' are both '{manifest.model.name}' for '{manifest.target.name}'"
            raise EdgecError("same-bundle", message, "one budget holds for both: give one of them")


def redraft(folder: Path, budgets: Budgets, margins: Margins, budget_s: float, on: str | None = None) -> Draft:
    """The bundle's own budget with present limits; of times, only those that it limits and this machine can tell.

    Args:
        on: a board that tells them instead.

    Raises:
        EdgecError: as ``draft_budget``; ``no-budget``.
    """
    bundle = open_bundle(folder)
    budget = budgets.find(bundle.manifest.model.name, bundle.target.name, device_at_hand(bundle, on))
    names = (*LATENCY_LIMITS, SPEEDUP_LIMIT) if budget.device != ANY_DEVICE else ()
    return _drafted(bundle, budget, tuple(set(names) & budget.limits.given().keys()), margins, budget_s, on)


def _drafted(
    bundle: Bundle, budget: Budget, timed: Sequence[str], margins: Margins, budget_s: float, on: str | None
) -> Draft:
    limits = {name: round(value * (1 + margins.count)) for name, value in Proxies(bundle).known().items()}
    times, left_out = _times(bundle, budget, timed, margins, budget_s, on) if timed else ({}, {})
    found = {**times, **_accuracy(bundle, margins), **limits}
    return Draft(replace(budget, limits=validate(Absolute, found, bundle.folder, "bad-budgets")), left_out)


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


def _times(
    bundle: Bundle, budget: Budget, timed: Sequence[str], margins: Margins, budget_s: float, on: str | None
) -> tuple[dict[str, float], dict[str, str]]:
    """Limits of time, and why one is not there; measured among as many contestants as a check will have."""
    bounds = {name: OPEN_SPEEDUP if name == SPEEDUP_LIMIT else OPEN_BOUND_MS for name in timed}
    left_out, in_float = dict[str, str](), None
    if SPEEDUP_LIMIT in bounds:
        try:
            in_float = float_artifact(bundle)
        except EdgecError as error:
            left_out[SPEEDUP_LIMIT] = error.message
            del bounds[SPEEDUP_LIMIT]
    contestants = Contestants((bundle.folder,) * (3 if budget.relative else 1), budget.threads, in_float)
    outcome = judge(Limits(tuple(bounds.items())), Sampler(measuring(contestants, on), budget_s))
    found = {finding.limit: finding for finding in outcome.findings}
    left_out |= {name: reason for name, finding in found.items() if (reason := _unknown(finding))}
    count = sum(process.blocks[CANDIDATE].size for process in outcome.processes)
    if count < SURE_P99 and "p99_ms" in found:
        left_out.setdefault(
            "p99_ms", f"of {count} samples here; a check with fewer than {SAMPLES_FOR_P99} decides nothing"
        )
    if "p50_ms" in left_out:
        hint = "free the machine, or allow more time with --budget-s"
        raise EdgecError("cannot-measure", f"'{bundle.folder}': {left_out['p50_ms']}", hint)
    return {name: _with_room(finding, margins) for name, finding in found.items() if name not in left_out}, left_out


def _far_end(finding: Finding) -> float | None:
    """Of the interval: where the artifact costs most."""
    return finding.low if finding.limit in LOWER_LIMITS else finding.high


def _with_room(finding: Finding, margins: Margins) -> float:
    end = _far_end(finding) or 0.0
    if finding.limit in LOWER_LIMITS:
        return _rounded(min(end / (1 + margins.latency), MOST_SPEEDUP))
    return _rounded(end * (1 + margins.latency))


def _unknown(finding: Finding) -> str:
    """Why no limit can start from it; empty where one can."""
    end = _far_end(finding)
    if not finding.value or not end:
        return finding.reason
    if max(end, finding.value) <= MOST_SPREAD * min(end, finding.value):
        return ""
    unit = "x" if finding.limit in LOWER_LIMITS else " ms"
    return f"{short(finding.value)}{unit} may be {short(end)}{unit} as well: the processes agree too little"


def _accuracy(bundle: Bundle, margins: Margins) -> dict[str, float]:
    """Limits that the recorded answers keep; none where so few images keep any."""
    recorded = read_accuracy(bundle, None)
    if recorded.agreement is None:
        return {}
    agreement, lost = ("pixel_agreement", "miou_drop_pp") if recorded.agreement_spread else ("agreement", "drop_pp")
    limits = {}
    least = _beyond((judge_accuracy(agreement, 0.0, recorded).low or 0.0) - margins.accuracy_pp, -1)
    if least > 0:
        limits[agreement] = least
    if recorded.drop_pp is not None:
        most = _beyond((judge_accuracy(lost, 0.0, recorded).high or 0.0) + margins.accuracy_pp, 1)
        limits |= {lost: most} if most < 100 else {}
    return limits


def _beyond(percent: float, direction: int) -> float:
    """The next hundredth above (1) or below (-1): a limit on the interval's very end decides nothing."""
    return direction * math.floor(100 * direction * percent + 1) / 100


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
