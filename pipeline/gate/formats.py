"""A report as text, JSON, JUnit XML, GitHub annotations and Markdown."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import groupby
from xml.etree import ElementTree

from edgec.pipeline.gate.budgets import LOWER_LIMITS
from edgec.pipeline.gate.check import Line, Report
from edgec.pipeline.gate.finding import Finding, Verdict
from edgec.pipeline.gate.record import Measured

SCHEMA_VERSION = 1
AS_PERCENT = ("max_slowdown",)
DECIMALS = {
    "p50_ms": 3,
    "p99_ms": 3,
    "min_speedup": 2,
    "max_slowdown": 2,
    "drop_pp": 2,
    "max_drop_pp": 2,
    "agreement": 2,
    "miou_drop_pp": 2,
    "pixel_agreement": 2,
    "sqnr_db": 1,
    "kl_divergence": 4,
    "calibration_rise": 2,
    "top5_agreement": 2,
    "unstable_answers": 2,
}
"""Digits behind the point; counts have none."""

UNITS = {
    "p50_ms": " ms",
    "p99_ms": " ms",
    "min_speedup": "x",
    "max_slowdown": " %",
    "drop_pp": " pp",
    "max_drop_pp": " pp",
    "agreement": " %",
    "miou_drop_pp": " pp",
    "pixel_agreement": " %",
    "sqnr_db": " dB",
    "kl_divergence": " nats",
    "calibration_rise": " pp",
    "top5_agreement": " %",
    "unstable_answers": " %",
    "size_bytes": " bytes",
    "arena_bytes": " bytes",
}
NOTHING = "nothing was judged: no budget of these bundles has a limit that needs no device"
SIGNS = {Verdict.PASS: "✅", Verdict.FAIL: "❌", Verdict.INCONCLUSIVE: "❔"}


def as_json(report: Report) -> str:
    """Everything, for programs: verdict, lines, what was measured (a later ``--baseline``) and is known (history)."""
    lines = [
        {
            "model": line.model,
            "target": line.target,
            "device": line.device,
            **asdict(line.finding),
            "verdict": line.verdict.value,
            "reason": line.reason,
            "waived": line.is_waived,
        }
        for line in report.lines
    ]
    content = {
        "schema": SCHEMA_VERSION,
        "verdict": report.verdict.value,
        "lines": lines,
        "measured": [record.plain() for record in report.measured],
        "known": [record.plain() for record in report.known],
    }
    return json.dumps(content, indent=2, ensure_ascii=False)


def as_text(report: Report) -> str:
    """A table for people, the measurement's facts, and the verdict last."""
    rows = [("verdict", "model", "target", "limit", "bound", "found", "95 % interval")]
    rows += [
        (_word(line), line.model, line.target, line.finding.limit, _bound(line.finding), *_found(line.finding))
        for line in report.lines
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    texts = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    notes = [f"{'':{widths[0]}}  {line.reason}{_least(line.finding)}" for line in report.lines]
    body = [texts[0]]
    for text, note, line in zip(texts[1:], notes, report.lines, strict=True):
        body += [text] if line.finding.verdict is Verdict.PASS and line.finding.low is None else [text, note]
    nothing = [] if report.lines else [NOTHING]
    return "\n".join([*body, *nothing, *map(_measured_text, report.measured), f"verdict: {report.verdict.value}"])


def as_junit(report: Report) -> str:
    """One suite for each model, target and device; a failed limit is a failure, an inconclusive one an error."""
    root = ElementTree.Element("testsuites", {"name": "edgec check", **_counts(report.lines)})
    for key, group in groupby(report.lines, key=lambda line: (line.model, line.target, line.device)):
        lines = list(group)
        suite = ElementTree.SubElement(root, "testsuite", {"name": " / ".join(key), **_counts(lines)})
        for line in lines:
            told = {"classname": f"{line.model}.{line.target}", "name": line.finding.limit, "time": _seconds([line])}
            case = ElementTree.SubElement(suite, "testcase", told)
            tag = {Verdict.FAIL: "failure", Verdict.INCONCLUSIVE: "error"}.get(line.verdict)
            if tag:
                ElementTree.SubElement(case, tag, message=_sentence(line), type=line.verdict.value)
            else:
                ElementTree.SubElement(case, "system-out").text = _sentence(line)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode")


def as_github(report: Report) -> str:
    """Workflow commands: errors for failed lines, warnings for inconclusive and waived ones, a notice last."""
    levels = {Verdict.FAIL: "error", Verdict.INCONCLUSIVE: "warning"}
    commands = [
        f"::{levels.get(line.verdict, 'warning')} title={_property(f'{line.model} {line.target} {line.finding.limit}')}"
        f"::{_message(_sentence(line))}"
        for line in report.lines
        if line.verdict is not Verdict.PASS or line.is_waived
    ]
    count = sum(line.verdict is Verdict.PASS for line in report.lines)
    summary = f"{report.verdict.value}: {count} of {len(report.lines)} limits kept"
    if not report.lines:
        commands.append(f"::warning title=edgec check::{_message(NOTHING)}")
    return "\n".join([*commands, f"::notice title=edgec check::{_message(summary)}"])


def as_markdown(report: Report) -> str:
    """A summary for a pull request or a job's page."""
    rows = ["| | model | target | device | limit | bound | found | 95 % interval | why |", "|" + "---|" * 9]
    for line in report.lines:
        cells = [
            f"{SIGNS[line.verdict]} {_word(line)}",
            line.model,
            line.target,
            line.device,
            f"`{line.finding.limit}`",
            _bound(line.finding),
            *_found(line.finding),
            line.reason + _least(line.finding),
        ]
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    measured = [f"- {_measured_text(record)}" for record in report.measured]
    head = f"### {SIGNS[report.verdict]} edgec check: {report.verdict.value}"
    return "\n".join([head, "", *(rows if report.lines else [NOTHING]), *(["", *measured] if measured else []), ""])


FORMATS: dict[str, Callable[[Report], str]] = {
    "text": as_text,
    "json": as_json,
    "junit": as_junit,
    "github": as_github,
    "markdown": as_markdown,
}


def _word(line: Line) -> str:
    return "waived" if line.is_waived else line.verdict.value


def _number(name: str, value: float) -> str:
    return f"{100 * value if name in AS_PERCENT else value:,.{DECIMALS.get(name, 0)}f}"


def _bound(finding: Finding) -> str:
    sign = "≥" if finding.limit in LOWER_LIMITS else "≤"
    return f"{sign} {_number(finding.limit, finding.bound)}{UNITS.get(finding.limit, '')}"


def _found(finding: Finding) -> tuple[str, str]:
    if finding.value is None:
        return "-", "-"
    value = _number(finding.limit, finding.value)
    if finding.low is None or finding.high is None:
        return value, "exact"
    return value, f"{_number(finding.limit, finding.low)} to {_number(finding.limit, finding.high)}"


def _least(finding: Finding) -> str:
    if finding.least_effect is None:
        return ""
    return f"; least detectable slowdown {100 * finding.least_effect:.1f} %, {finding.num_processes} processes"


def _sentence(line: Line) -> str:
    value, interval = _found(line.finding)
    found = f"found {value} ({interval})" if value != "-" else "nothing found"
    return f"{line.finding.limit} {_bound(line.finding)}: {found}; {line.reason}{_least(line.finding)}"


def _measured_text(record: Measured) -> str:
    found = record.latency
    floor = "" if found.noise_floor is None else f", A/A floor {100 * found.noise_floor:.2f} %"
    p99 = "" if found.p99_ms is None else f", p99 {found.p99_ms:.3f} ms"
    return (
        f"{record.model} on {record.target}: p50 {found.p50_ms:.3f} ms{p99}, {found.num_processes} processes, "
        f"{found.num_blocks} blocks, {found.num_samples:,} samples, {record.num_spikes} spikes kept{floor}; "
        f"{record.fingerprint.device}, {record.fingerprint.threads} threads, fingerprint {record.fingerprint.digest}"
    )


def _counts(lines: Sequence[Line]) -> dict[str, str]:
    verdicts = [line.verdict for line in lines]
    return {
        "tests": str(len(verdicts)),
        "failures": str(verdicts.count(Verdict.FAIL)),
        "errors": str(verdicts.count(Verdict.INCONCLUSIVE)),
        "time": _seconds(lines),
    }


def _seconds(lines: Sequence[Line]) -> str:
    return f"{sum(line.seconds for line in lines):.3f}"


def _message(text: str) -> str:
    """Escapes of GitHub's workflow commands (actions/toolkit, ``command.ts``)."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")
