"""One row for each build: what it costs, how well it answers, and how it differs from the first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from edgec.pipeline.core.words import size_words
from edgec.pipeline.report.findings import Findings
from edgec.pipeline.report.headline import verdict
from edgec.pipeline.report.kinship import same_images, same_machine
from edgec.pipeline.report.tables import NOTHING, Cell, Table, without_empty_columns
from edgec.pipeline.tasks.paired import Share, drop_interval

HEADLINES = {"top1": "Top-1", "miou": "Mean IoU"}
MEASURED = "Measured on the building machine, unless a note says otherwise."
MOST_COLUMNS = 12
"""That stand side by side on a page of 72 rem."""
Column = Callable[[Findings, Findings], Cell]


def summary(found: Sequence[Findings]) -> Table:
    """All builds, each against the first; what no build has is no column."""
    first = found[0]
    columns: tuple[tuple[str, Column], ...] = (
        ("Verdict", _verdict),
        ("Float", _float),
        (HEADLINES.get(first.manifest.accuracy.metric, "Headline"), _headline),
        ("Drop", _drop),
        ("Agreement", _agreement),
        ("SQNR", _sqnr),
        ("Latency", _latency),
        ("Speedup", _speedup),
        ("First answer", _first_answer),
        ("Memory", _memory),
        ("Instructions", _instructions),
        ("Size", _size),
        ("Arena", _arena),
        ("RAM", _ram),
        ("Flash", _flash),
    )
    rows = tuple((_build(one), *(cell(one, first) for _, cell in columns)) for one in found)
    against = f" Signed points and factors are against {first.name}." if len(found) > 1 else ""
    sure = "" if all(one.manifest.accuracy.agreement_spread for one in found) else "Rates with 95 % intervals. "
    caption = f"{sure}{MEASURED}{against}"
    table = without_empty_columns(
        Table("Summary of all builds", ("Build", *(name for name, _ in columns)), rows, caption, "wide")
    )
    return replace(table, kind="wide many") if len(table.heads) > MOST_COLUMNS else table


def gain(one: Findings, first: Findings) -> Share | None:
    """Points of top-1 that ``one`` has more than ``first`` on the same images, with the paired 95 % interval."""
    mine, others = one.predictions, first.predictions
    if one is first or mine is None or others is None or not same_images(one, first):
        return None
    known = mine.labels >= 0
    if not known.any() or (mine.labels != others.labels).any():
        return None
    right, before = (p.shipped[known] == p.labels[known] for p in (mine, others))
    return drop_interval(int((right & ~before).sum()), int((before & ~right).sum()), int(known.sum()))


def signed(value: float, digits: int = 2) -> str:
    """``+0.30``, ``-0.30`` or ``0.00``: no zero has a sign."""
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text


def _build(one: Findings) -> Cell:
    version = one.manifest.model.version
    return Cell(one.name, "" if f" {version}" in one.name else version)


def _verdict(one: Findings, first: Findings) -> Cell:
    said = verdict(one.manifest)
    return Cell(said.words, said.why, said.mark)


def _rate(one: Findings, percent: float | None) -> Cell:
    if percent is None:
        return NOTHING
    sure = one.manifest.accuracy.interval(percent)
    return Cell(f"{percent:.2f} %", f"{sure[0]:.1f} to {sure[1]:.1f}" if sure else "")


def _float(one: Findings, first: Findings) -> Cell:
    return _rate(one, one.manifest.accuracy.float)


def _headline(one: Findings, first: Findings) -> Cell:
    """The artifact's, or the reference's where no artifact could answer."""
    own, known = one.manifest.accuracy.shipped_headline, first.manifest.accuracy.shipped_headline
    if own is None:
        return NOTHING
    cell = _rate(one, own)
    if one.manifest.accuracy.shipped != "target":
        cell = replace(cell, text=f"{cell.text} of the QDQ reference")
    more = gain(one, first)
    if more is not None:
        return replace(cell, below=f"{signed(more.estimate)} pp ({signed(more.low, 1)} to {signed(more.high, 1)})")
    if one is first or known is None:
        return cell
    return replace(cell, below=f"{signed(own - known)} pp" if same_images(one, first) else "other images")


def _drop(one: Findings, first: Findings) -> Cell:
    drop = one.manifest.accuracy.drop_pp
    return NOTHING if drop is None else Cell(f"{signed(drop)} pp")


def _agreement(one: Findings, first: Findings) -> Cell:
    return _rate(one, one.manifest.accuracy.agreement)


def _sqnr(one: Findings, first: Findings) -> Cell:
    found = one.manifest.accuracy
    if found.sqnr_db is None:
        return Cell("exact") if found.outputs else NOTHING
    return Cell(f"{found.sqnr_db:.1f} dB")


def _latency(one: Findings, first: Findings) -> Cell:
    own, before = one.manifest.latency.p50_ms, first.manifest.latency.p50_ms
    if own is None:
        return NOTHING
    if one is first or before is None:
        return Cell(f"{own:.3f} ms")
    return Cell(f"{own:.3f} ms", _ratio(own, before) if same_machine(one, first) else "another machine")


def _speedup(one: Findings, first: Findings) -> Cell:
    """Over the float network in the same runtime, in the same process."""
    beside = one.manifest.latency.beside_float
    if beside is None:
        return NOTHING
    return Cell(f"{beside.speedup:.2f}x", f"{beside.low:.2f} to {beside.high:.2f}")


def _first_answer(one: Findings, first: Findings) -> Cell:
    load_ms, beside = one.manifest.latency.load_ms, one.manifest.latency.beside_float
    if load_ms is None:
        return NOTHING
    in_float = beside.float_load_ms if beside else None
    return Cell(f"{load_ms:.0f} ms", "" if in_float is None else f"float {in_float:.0f} ms")


def _memory(one: Findings, first: Findings) -> Cell:
    peak, beside = one.manifest.latency.peak_rss_bytes, one.manifest.latency.beside_float
    if peak is None:
        return NOTHING
    in_float = beside.float_peak_rss_bytes if beside else None
    return Cell(size_words(peak), "" if in_float is None else f"float {size_words(in_float)}")


def _instructions(one: Findings, first: Findings) -> Cell:
    return _count(one, first, lambda found: found.instructions, lambda count: f"{count / 1e6:.2f} M")


def _size(one: Findings, first: Findings) -> Cell:
    return _count(one, first, lambda found: found.manifest.size_bytes, size_words)


def _arena(one: Findings, first: Findings) -> Cell:
    return _count(one, first, lambda found: found.manifest.memory.arena_bytes, size_words)


def _ram(one: Findings, first: Findings) -> Cell:
    memory = one.manifest.memory
    return _of_board(memory.arena_with_margin_bytes, memory.ram_limit_bytes)


def _flash(one: Findings, first: Findings) -> Cell:
    memory = one.manifest.memory
    told = memory.arena_bytes is not None or memory.flash_limit_bytes is not None
    return _of_board(memory.flash_bytes if told else None, memory.flash_limit_bytes)


def _of_board(used: int | None, limit: int | None) -> Cell:
    if used is None:
        return NOTHING if limit is None else Cell("not measured", f"of {size_words(limit)}")
    return Cell(size_words(used), f"of {size_words(limit)}" if limit is not None else "")


def _count(
    one: Findings, first: Findings, figure: Callable[[Findings], int | None], words: Callable[[int], str]
) -> Cell:
    own, before = figure(one), figure(first)
    if own is None:
        return NOTHING
    return Cell(words(own), _ratio(own, before) if before and one is not first else "")


def _ratio(own: float, before: float) -> str:
    return f"{own / before:.2f}x"
