"""The one line on top of a page: what a build is worth, of what was measured and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

from edgec.pipeline.bundle.manifest import Manifest
from edgec.pipeline.forms.measure import BesideFloat
from edgec.pipeline.report.findings import Findings

EQUAL = 0.005
"""Ratios this close to one are no difference that two digits show."""


@dataclass(frozen=True)
class Verdict:
    """What the budgets say.

    Attributes:
        mark: style of the words: ``pass``, ``fail``, ``inconclusive``, or ``none`` where nobody asked.
    """

    mark: str
    words: str
    why: str


def verdict(manifest: Manifest) -> Verdict:
    """Of the recorded check; a board that is too small fails without one."""
    lines = [line.verdict for line in manifest.budgets]
    if manifest.memory.over:
        return Verdict("fail", "fail", "does not fit the board")
    if not lines:
        return Verdict("none", "no budgets", "")
    worst = next(word for word in ("fail", "inconclusive", "pass") if word in lines)
    return Verdict(worst, worst, f"{lines.count('pass')} of {len(lines)} budgets hold")


def headline(found: Findings) -> str:
    """Agreement, speed and size against float: ``INT8 agrees with float on 99.1 % of 1,000 images, ...``."""
    manifest = found.manifest
    said = [_fidelity(manifest), _speed(manifest), _size(found)]
    poor = "; a poor result, see the notes" if manifest.poor is not None else ""
    return f"{', '.join(part for part in said if part)}{poor}"


def _fidelity(manifest: Manifest) -> str:
    found, many = manifest.accuracy, f"{manifest.accuracy.num_images:,} images"
    who = manifest.target.precision_words if found.shipped == "target" else "the QDQ reference"
    if found.agreement is None:
        if found.sqnr_db is None:
            return f"{who} answers exactly as float on {many}"
        return f"{who} stays within {found.sqnr_db:.1f} dB SQNR of float in its worst output on {many}"
    what = f"{found.agreement:.1f} % of {many if found.agreement_spread is None else f'all pixels of {many}'}"
    headlines = {"top1": "top-1", "miou": "mIoU"}
    shipped = found.shipped_headline
    rates = (
        f" ({headlines[found.metric]} {shipped:.1f} %, float {found.float:.1f} %)"
        if found.metric in headlines and shipped is not None and found.float is not None
        else ""
    )
    return f"{who} agrees with float on {what}{rates}"


def _speed(manifest: Manifest) -> str:
    own, beside = manifest.latency.p50_ms, manifest.latency.beside_float
    if own is None:
        return ""
    if beside is not None:
        return f"{_ms(own)}, {_against_float(beside)}"
    others = [row for row in manifest.weighed if row.p50_ms and row.precision != manifest.target.precision]
    if not others:
        return _ms(own)
    other = min(others, key=lambda row: (row.p50_ms or 0.0, row.precision))
    return f"{_ms(own)}, {times(other.p50_ms or own, own, 'faster', 'slower')} {other.precision.upper()}"


def _against_float(beside: BesideFloat) -> str:
    """Faster or slower only where the pairs of blocks leave no doubt."""
    if beside.pays or beside.high < 1.0:
        return f"{times(beside.speedup, 1.0, 'faster', 'slower')} float"
    return f"not clearly faster than float ({beside.speedup:.2f}x)"


def _ms(value: float) -> str:
    """Three digits."""
    digits = 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:.{digits}f} ms"


def _size(found: Findings) -> str:
    if not found.float_bytes:
        return ""
    return f"{times(found.float_bytes, found.manifest.size_bytes, 'smaller', 'larger')} its weights in float"


def times(before: float, after: float, better: str, worse: str) -> str:
    """``2.1x faster than``, ``1.08x slower than`` or ``as ... as``, whichever of the two is less."""
    ratio = before / after if after else 1.0
    if abs(ratio - 1) < EQUAL:
        return f"no {better} than"
    word, factor = (better, ratio) if ratio > 1 else (worse, 1 / ratio)
    return f"{factor:.1f}x {word} than" if factor >= 1.95 else f"{factor:.2f}x {word} than"
