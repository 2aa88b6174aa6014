"""What a relative limit is relative to: a bundle that runs beside the candidate, or a report recorded earlier."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgec.pipeline.bundle.read import Bundle, open_bundle
from edgec.pipeline.bundle.use import paired
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.gate.accuracy import judge_drop, judge_lost
from edgec.pipeline.gate.budgets import Budget, Relative
from edgec.pipeline.gate.finding import Finding, Verdict
from edgec.pipeline.gate.fingerprint import differences
from edgec.pipeline.gate.opinions import welch_interval
from edgec.pipeline.gate.record import Measured
from edgec.pipeline.tasks.accuracy import Drop


@dataclass(frozen=True)
class Baseline:
    """One of the two, or neither with the reason.

    Attributes:
        missing: why a relative limit cannot be judged; empty where it can.
    """

    name: str = ""
    bundle: Bundle | None = None
    record: Measured | None = None
    missing: str = ""


def check_baselines(given: Mapping[str, Path]) -> None:
    """What was given is there, whether or not a budget asks for it: a name mistyped is no baseline left out.

    Raises:
        EdgecError: ``bad-baseline``.
    """
    for path in given.values():
        if not path.exists():
            raise EdgecError("bad-baseline", f"no baseline '{path}'", "check the path")


def find_baseline(candidate: Bundle, budget: Budget, given: Mapping[str, Path]) -> Baseline:
    """What ``--baseline`` gave for the budget's name.

    Raises:
        EdgecError: ``bad-baseline``; what ``open_bundle`` raises.
    """
    if budget.relative is None:
        return Baseline()
    name = budget.relative.baseline
    path = given.get(name, given.get(""))
    if path is None:
        return Baseline(name, missing=f"no baseline '{name}' was given: --baseline {name}=FOLDER")
    if path.is_file():
        return _recorded(name, path, budget)
    folders = [path] if (path / "manifest.json").is_file() else sorted(m.parent for m in path.glob("*/manifest.json"))
    if not folders:
        hint = "give a bundle, a folder of bundles, or a report of 'edgec check --format json'"
        raise EdgecError("bad-baseline", f"'{path}' is no bundle and holds none", hint)
    for bundle in map(open_bundle, folders):
        if (bundle.manifest.model.name, bundle.target.name) == (candidate.manifest.model.name, candidate.target.name):
            return Baseline(name, bundle=bundle)
    return Baseline(name, missing=f"the baseline '{name}' has no bundle of this model and target")


def _recorded(name: str, path: Path, budget: Budget) -> Baseline:
    try:
        records = [Measured.of(record) for record in json.loads(path.read_text(encoding="utf-8"))["measured"]]
    except (ValueError, KeyError, TypeError) as error:
        hint = "give a report of 'edgec check --format json'"
        raise EdgecError("bad-baseline", f"'{path}' is no report of edgec: {error}", hint) from error
    for record in records:
        if (record.model, record.target, record.device) == budget.key:
            return Baseline(name, record=record)
    return Baseline(name, missing=f"the report '{path}' has no such model, target and device")


def judge_recorded(bound: float, baseline: Baseline, now: Measured | None) -> Finding:
    """``max_slowdown`` against a recorded latency: only on the same fingerprint, and by Welch's interval."""
    if baseline.record is None:
        return Finding("max_slowdown", bound, Verdict.INCONCLUSIVE, baseline.missing)
    if now is None:
        return Finding("max_slowdown", bound, Verdict.INCONCLUSIVE, "the candidate was not measured")
    if changed := differences(now.fingerprint, baseline.record.fingerprint):
        reason = f"the baseline was measured under other conditions: {'; '.join(changed)}"
        return Finding("max_slowdown", bound, Verdict.INCONCLUSIVE, reason)
    ratio, low, high = welch_interval(now.process_log_p50, baseline.record.process_log_p50)
    limit = float(np.log1p(bound))
    verdict = Verdict.FAIL if low > limit else Verdict.PASS if high < limit else Verdict.INCONCLUSIVE
    value, low, high = (float(np.expm1(x)) for x in (ratio, low, high))
    reason = f"against {baseline.record.latency.num_processes} recorded processes, not side by side"
    return Finding("max_slowdown", bound, verdict, reason, value, low, high, num_processes=now.latency.num_processes)


def judge_drop_against(baseline: Baseline, candidate: Bundle, limits: Relative, data: Path | None) -> Finding:
    """``max_drop_pp``: both artifacts on the same images.

    Raises:
        EdgecError: what opening data and runtimes raises.
    """
    bound = limits.max_drop_pp or 0.0
    if baseline.bundle is None or data is None:
        reason = baseline.missing or "a recorded report has no answers" if data else "needs labelled images: --data"
        return Finding("max_drop_pp", bound, Verdict.INCONCLUSIVE, reason)
    pairs = paired(baseline.bundle, candidate, data)
    if pairs is None:
        reason = "no labels, no right answers, or networks for different tasks"
        return Finding("max_drop_pp", bound, Verdict.INCONCLUSIVE, reason)
    if isinstance(pairs, Drop):
        return judge_lost("max_drop_pp", bound, pairs)
    return judge_drop("max_drop_pp", bound, pairs)
