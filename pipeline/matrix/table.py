"""One row for each cell, as JSON, Markdown and words for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from edgec.pipeline.bundle.integrity import read_checked_manifest
from edgec.pipeline.matrix.plan import Cell
from edgec.pipeline.matrix.run import Outcome

SCHEMA = "edgec-matrix-1"
COLUMNS = (
    *("model", "target", "precision", "data", "float %", "artifact %", "SQNR dB"),
    *("p50 ms", "size MB", "arena kB", "verdict"),
)
Figure: TypeAlias = float  # a field of this name stands in its way
BUILT, OVER, POOR, WAITING = "built", "over the board's limit", "poor", "not built"


@dataclass(frozen=True)
class Row:
    """A cell and its figures; None where there is none.

    Attributes:
        precision: that shipped, or was asked for.
        float: headline of the float network in percent, ``artifact``: of the artifact, or of its reference where
            nothing here could run it. Without labels ``artifact`` is its agreement with float.
        p50_ms: measured; else ``latency_note`` says why not.
        estimated_ms: low and high end of what the board's rates give; never a measurement.
        arena_bytes: with its margin.
        verdict: ``built``, ``poor``, ``over the board's limit``, ``refused: CODE``, or ``not built``.
        is_kept: the bundle was there already.
    """

    cell: str
    model: str
    target: str
    precision: str | None
    data: str | None
    options: dict[str, Any]
    verdict: str
    bundle: str | None = None
    is_kept: bool = False
    tries: int = 0
    seconds: Figure = 0.0
    float: Figure | None = None
    artifact: Figure | None = None
    sqnr_db: Figure | None = None
    p50_ms: Figure | None = None
    latency_note: str = ""
    estimated_ms: tuple[Figure, Figure] | None = None
    size_bytes: int | None = None
    arena_bytes: int | None = None
    notes: tuple[str, ...] = ()
    error: dict[str, str] | None = None

    @property
    def cells(self) -> tuple[str, ...]:
        """As ``COLUMNS``."""
        size = "" if self.size_bytes is None else f"{self.size_bytes / 1e6:.{2 if self.size_bytes >= 100_000 else 4}f}"
        arena = "" if self.arena_bytes is None else f"{self.arena_bytes / 1e3:.0f}"
        latency = self.latency_note if self.p50_ms is None else f"{self.p50_ms:.3f}"
        places = (self.model, self.target, self.precision or "", Path(self.data).name if self.data else "")
        figures = (_digits(self.float), _digits(self.artifact), _sqnr(self))
        return (*places, *figures, latency, size, arena, self.verdict)


def waiting_row(cell: Cell) -> Row:
    """Of a cell that was not run."""
    return Row(cell.name, cell.model, cell.target, cell.precision, cell.data, asdict(cell.options), WAITING)


def row_of(outcome: Outcome) -> Row:
    """Of one that was.

    Raises:
        EdgecError: as ``read_checked_manifest``.
    """
    cell, error = outcome.cell, outcome.error
    place = (cell.name, cell.model, cell.target)
    if error is not None:
        stated = {"code": error.code, "message": error.message, "hint": error.hint}
        return Row(
            *(*place, cell.precision, cell.data, asdict(cell.options), f"refused: {error.code}"),
            tries=outcome.tries,
            seconds=outcome.seconds,
            error=stated,
        )
    manifest = read_checked_manifest(outcome.folder)
    accuracy, latency = manifest.accuracy, manifest.latency
    shipped = accuracy.shipped_headline
    return Row(
        *(*place, manifest.target.precision, cell.data, asdict(cell.options)),
        verdict=verdict(bool(manifest.memory.over), manifest.poor is not None),
        bundle=str(outcome.folder),
        is_kept=outcome.how == "kept",
        tries=outcome.tries,
        seconds=outcome.seconds,
        float=accuracy.float,
        artifact=shipped if shipped is not None else accuracy.agreement,
        sqnr_db=accuracy.sqnr_db,
        p50_ms=latency.p50_ms,
        latency_note="" if latency.p50_ms is not None else latency.note or latency.status,
        estimated_ms=latency.estimated_ms,
        size_bytes=manifest.size_bytes,
        arena_bytes=manifest.memory.arena_with_margin_bytes,
        notes=manifest.notes,
    )


def as_json(name: str, rows: Sequence[Row]) -> dict[str, Any]:
    """``matrix.json``.

    Args:
        name: of the matrix file.
    """
    return {"schema": SCHEMA, "matrix": name, "cells": [asdict(row) for row in rows]}


def as_markdown(name: str, rows: Sequence[Row]) -> str:
    """``matrix.md``: the table, and below it what was refused."""
    return "\n".join(_markdown(name, rows)) + "\n"


def _markdown(name: str, rows: Sequence[Row]) -> Iterator[str]:
    yield f"# {name}"
    yield ""
    yield _line(COLUMNS)
    yield _line(["---"] * len(COLUMNS))
    yield from (_line(row.cells) for row in rows)
    refused = [row for row in rows if row.error]
    if refused:
        yield ""
    for row in refused:
        error = row.error or {}
        yield f"- {_plain(row.cell)}: {_plain(error['message'])} ({_plain(error['hint'])})"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_plain, cells))} |"


def _plain(text: str) -> str:
    """Without what would end a cell or begin markup."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def verdict(is_over: bool, is_poor: bool) -> str:
    """Of what was built, the worst first."""
    return OVER if is_over else POOR if is_poor else BUILT


def _sqnr(row: Row) -> str:
    if row.size_bytes is None:
        return ""
    return "exact" if row.sqnr_db is None else f"{row.sqnr_db:.1f}"


def _digits(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
