"""``edgec check``: bundles against budgets, one line for each limit."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgec.pipeline.bundle.float_network import float_artifact
from edgec.pipeline.bundle.read import Bundle, open_bundle
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.progress import remark, reporter
from edgec.pipeline.forms.measure import cpu_model
from edgec.pipeline.gate.accuracy import judge_accuracy, judge_stability
from edgec.pipeline.gate.baseline import Baseline, check_baselines, find_baseline, judge_drop_against, judge_recorded
from edgec.pipeline.gate.budgets import (
    ACCURACY_LIMITS,
    ANY_DEVICE,
    LATENCY_LIMITS,
    PROXY_LIMITS,
    SPEEDUP_LIMIT,
    STABILITY_LIMIT,
    Budget,
    Budgets,
    Waiver,
)
from edgec.pipeline.gate.finding import Finding, Verdict
from edgec.pipeline.gate.latency import Limits, judge
from edgec.pipeline.gate.opinions import holm
from edgec.pipeline.gate.proxies import Proxies
from edgec.pipeline.gate.record import Known, Measured, known_of, measured, read_accuracy
from edgec.pipeline.gate.sampling import Contestants, Sampler
from edgec.pipeline.gate.there import device_at_hand, measuring

WITHOUT = "--no-device judges all that needs none"
FAMILY_P = 0.025  # one-sided, over all lines together; of Student's p where each decided, beside its own rule


@dataclass(frozen=True)
class Line:
    """One limit of one budget, judged.

    Attributes:
        seconds: that the verdict took; limits judged from one measurement share its time.
    """

    model: str
    target: str
    device: str
    finding: Finding
    waiver: Waiver | None = None
    seconds: float = 0.0

    @property
    def verdict(self) -> Verdict:
        """A waived failure lets the build pass; it stays visible."""
        return Verdict.PASS if self.is_waived else self.finding.verdict

    @property
    def is_waived(self) -> bool:
        return self.waiver is not None and self.finding.verdict is Verdict.FAIL

    @property
    def reason(self) -> str:
        """The finding's, with the waiver's."""
        if self.waiver is None or not self.is_waived:
            return self.finding.reason
        return f"{self.finding.reason}; waived until {self.waiver.until} by {self.waiver.owner}: {self.waiver.reason}"


@dataclass(frozen=True)
class Report:
    """All lines, and what was measured for them.

    Attributes:
        measured: latency, of bundles whose limits ask for it.
        known: what needs no device, of every bundle.
    """

    lines: tuple[Line, ...]
    measured: tuple[Measured, ...] = ()
    known: tuple[Known, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """The worst line's: fail before inconclusive before pass; nobody knows where nothing was judged."""
        verdicts = {line.verdict for line in self.lines} or {Verdict.INCONCLUSIVE}
        return next((v for v in (Verdict.FAIL, Verdict.INCONCLUSIVE) if v in verdicts), Verdict.PASS)


@dataclass(frozen=True)
class Conditions:
    """How to check.

    Attributes:
        baselines: folders or recorded reports by name; ``""`` stands for every name.
        data: labelled images; accuracy is then evaluated anew, and ``max_drop_pp`` can be judged.
        device: whose budget counts; this machine, or that of ``on``, where None.
        on: a board that times are measured on.
        no_device: judge only what needs no device, for every budget of the model and target.
        budget_s: wall time of one bundle's latency.
    """

    baselines: Mapping[str, Path] = field(default_factory=dict)
    data: Path | None = None
    device: str | None = None
    no_device: bool = False
    budget_s: float = 120.0
    on: str | None = None


def check(folders: Sequence[Path], budgets: Budgets, conditions: Conditions) -> Report:
    """Judge every limit of every bundle.

    Raises:
        EdgecError: ``no-budget``, ``bad-baseline``; what opening bundles, data and runtimes raises.
    """
    check_baselines(conditions.baselines)
    lines: list[Line] = []
    records: list[Measured] = []
    known: list[Known] = []
    report = reporter("check")
    for done, bundle in enumerate([open_bundle(folder) for folder in folders]):
        proxies = Proxies(bundle)
        known.append(known_of(bundle, read_accuracy(bundle, None), proxies.here))
        for budget in _budgets_of(bundle, budgets, conditions):
            findings, record = _judge_bundle(proxies, budget, conditions)
            lines += [Line(*budget.key, found, budget.waiver_of(found.limit), seconds) for found, seconds in findings]
            records += [record] if record else []
        report(done + 1, len(folders))
    return Report(corrected(lines), tuple(records), tuple(known))


def corrected(lines: Sequence[Line]) -> tuple[Line, ...]:
    """Failures that do not survive Holm's correction over all lines with statistics become inconclusive."""
    tested = [i for i, line in enumerate(lines) if line.finding.p_value is not None]
    adjusted = dict(zip(tested, holm([lines[i].finding.p_value or 0.0 for i in tested]), strict=True))
    out = list(lines)
    for i, p_value in adjusted.items():
        finding = lines[i].finding
        if finding.verdict is Verdict.FAIL and p_value > FAMILY_P:
            reason = f"{finding.reason}, but not after Holm's correction for {len(tested)} lines (p = {p_value:.3f})"
            out[i] = replace(lines[i], finding=replace(finding, verdict=Verdict.INCONCLUSIVE, reason=reason))
    return tuple(out)


def _budgets_of(bundle: Bundle, budgets: Budgets, conditions: Conditions) -> tuple[Budget, ...]:
    model, target = bundle.manifest.model.name, bundle.target.name
    if conditions.no_device:
        return budgets.for_any_device(model, target)
    return (budgets.find(model, target, conditions.device or device_at_hand(bundle, conditions.on)),)


def _judge_bundle(
    proxies: Proxies, budget: Budget, conditions: Conditions
) -> tuple[list[tuple[Finding, float]], Measured | None]:
    """Findings with the seconds that each took, and the record of the latency."""
    bundle, limits, clock = proxies.bundle, budget.limits.given(), _Clock()
    counted = {k: v for k, v in limits.items() if k in PROXY_LIMITS}
    findings = clock.timed(list(judge_proxies(proxies, counted)))
    accuracy = read_accuracy(bundle, conditions.data)
    findings += clock.timed([judge_accuracy(n, limits[n], accuracy) for n in ACCURACY_LIMITS if n in limits])
    if STABILITY_LIMIT in limits:
        findings += clock.timed([judge_stability(limits[STABILITY_LIMIT], bundle.manifest.stability)])
    baseline = find_baseline(bundle, budget, conditions.baselines)
    if budget.relative and budget.relative.max_drop_pp is not None:
        findings += clock.timed([judge_drop_against(baseline, bundle, budget.relative, conditions.data)])
    if conditions.no_device:
        if left := _of_a_device(budget):
            remark(f"not judged, since --no-device: {', '.join(left)} of {' for '.join(budget.key[:2])}")
        return findings, None
    of_latency, record = _judge_latency(proxies, budget, baseline, conditions)
    return findings + clock.timed(of_latency), record


def _of_a_device(budget: Budget) -> list[str]:
    """Names of the limits that only a device can tell."""
    relative = ["max_slowdown"] if budget.relative and budget.relative.max_slowdown is not None else []
    return [name for name in budget.limits.given() if name in (*LATENCY_LIMITS, SPEEDUP_LIMIT)] + relative


class _Clock:
    """Splits the time since it was last asked among the findings made in it."""

    def __init__(self) -> None:
        self.since = time.perf_counter()

    def timed(self, findings: list[Finding]) -> list[tuple[Finding, float]]:
        before, self.since = self.since, time.perf_counter()
        return [(finding, (self.since - before) / len(findings)) for finding in findings]


def judge_proxies(proxies: Proxies, limits: Mapping[str, float]) -> Iterator[Finding]:
    """Counts against their limits; a count that cannot be had here leaves its limit open, it does not skip it."""
    for name, bound in limits.items():
        try:
            value = proxies.count(name)
        except EdgecError as error:
            yield _left_open(name, bound, error)
            continue
        over = value > bound
        reason = f"{value - bound:,.0f} over the limit" if over else "exact"
        yield Finding(name, bound, Verdict.FAIL if over else Verdict.PASS, reason, value)


def _left_open(name: str, bound: float, error: EdgecError) -> Finding:
    return Finding(name, bound, Verdict.INCONCLUSIVE, f"{error.message}: {error.hint}" if error.hint else error.message)


def _not_here(bundle: Bundle, budget: Budget, conditions: Conditions) -> str:
    """Why times that can be measured say nothing about the budget's device; empty where they do."""
    if conditions.on is not None:
        board = device_at_hand(bundle, conditions.on) if conditions.device else budget.device
        return "" if budget.device in (ANY_DEVICE, board) else f"'{conditions.on}' is '{board}', not '{budget.device}'"
    if not bundle.target.device.is_this_machine and budget.device == ANY_DEVICE:
        return f"no device of the target '{bundle.target.name}' is at hand: --on names one, {WITHOUT}"
    if budget.device not in (ANY_DEVICE, cpu_model()):
        return f"this machine is '{cpu_model()}', not '{budget.device}': --on names a board, or {WITHOUT}"
    return ""


def _judge_latency(
    proxies: Proxies, budget: Budget, baseline: Baseline, conditions: Conditions
) -> tuple[list[Finding], Measured | None]:
    """All latency limits from one measurement."""
    bundle = proxies.bundle
    bounds = {k: v for k, v in budget.limits.given().items() if k in (*LATENCY_LIMITS, SPEEDUP_LIMIT)}
    slowdown = budget.relative.max_slowdown if budget.relative else None
    if not bounds and slowdown is None:
        return [], None
    if reason := _not_here(bundle, budget, conditions):
        names = {**bounds, **({"max_slowdown": slowdown} if slowdown else {})}
        return [Finding(n, bound, Verdict.INCONCLUSIVE, reason) for n, bound in names.items()], None
    folders, findings, in_float = [bundle.folder], list[Finding](), None
    if SPEEDUP_LIMIT in bounds:
        try:
            in_float = float_artifact(bundle)
        except EdgecError as error:
            findings.append(_left_open(SPEEDUP_LIMIT, bounds.pop(SPEEDUP_LIMIT), error))
    if slowdown is not None and baseline.bundle:
        bounds["max_slowdown"] = slowdown
        folders += [baseline.bundle.folder] * 2
    if not bounds and slowdown is None:
        return findings, None
    contestants = Contestants(tuple(folders), budget.threads, in_float)
    sampler = Sampler(measuring(contestants, conditions.on), conditions.budget_s)
    outcome = judge(Limits(tuple(bounds.items())), sampler)
    record = measured(budget, outcome, proxies.here)
    findings += outcome.findings
    if slowdown is not None and not baseline.bundle:
        findings.append(judge_recorded(slowdown, baseline, record))
    return findings, record
