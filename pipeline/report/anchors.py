"""The anchor book: figures that others published of the networks that edgec builds. None of them is measured here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal

from edgec.pipeline.core.toml_file import STRICT, read_toml, validate
from edgec.pipeline.report.findings import Findings
from edgec.pipeline.report.headline import times
from edgec.pipeline.report.summary import signed
from edgec.pipeline.report.tables import Cell, Table

BOOK = Path(__file__).with_name("anchors.toml")
OF_METRIC = {"top1": "top-1 %", "miou": "mIoU %"}
LATENCY = "latency ms"


@dataclass(frozen=True)
class Anchor:
    """One published figure.

    Attributes:
        network: as edgec names it.
        float_value: of the float network; ``int8_value`` of the quantized one; None where the source states none.
        conditions: data, precision and device, as far as they are stated.
        source: who says so.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    network: str
    figure: Literal["top-1 %", "mIoU %", "latency ms"]
    conditions: str
    source: str
    float_value: float | None = None
    int8_value: float | None = None
    width_multiplier: float = 1.0
    input_px: int = 224

    def __post_init__(self) -> None:
        if not (self.source.strip() and self.conditions.strip()):
            raise ValueError(f"'{self.network}' has a figure without source or conditions")
        if self.float_value is None and self.int8_value is None:
            raise ValueError(f"'{self.network}' has an entry without a figure")


@dataclass(frozen=True)
class _Book:
    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    anchor: tuple[Anchor, ...]


@cache
def read_book(path: Path = BOOK) -> tuple[Anchor, ...]:
    """All entries, in order.

    Raises:
        EdgecError: ``bad-anchors`` names the field.
    """
    return validate(_Book, read_toml(path, "bad-anchors"), path, "bad-anchors").anchor


def anchors_of(network: dict[str, Any] | None, book: Sequence[Anchor]) -> tuple[Anchor, ...]:
    """Entries of just this network; none for a user's own file, which only its owner knows."""
    if network is None:
        return ()
    same = (network["model"], network["width_multiplier"], network["input_px"])
    return tuple(one for one in book if (one.network, one.width_multiplier, one.input_px) == same)


def published(found: Sequence[Findings], book: Sequence[Anchor]) -> tuple[Table, ...]:
    """A table for each network of the builds that others published figures of: ours first, theirs marked as such."""
    networks: dict[tuple[Anchor, ...], list[Findings]] = {}
    for one in found:
        theirs = anchors_of(one.manifest.origin.source.network, book)
        if theirs:
            networks.setdefault(theirs, []).append(one)
    return tuple(_table(theirs, ours) for theirs, ours in networks.items())


def _table(theirs: Sequence[Anchor], ours: Sequence[Findings]) -> Table:
    figures = {one.figure for one in theirs}
    rows = [row for one in ours for row in _measured(one) if row[1].text in figures]
    rows += [
        (
            Cell("published", mark="published"),
            Cell(one.figure),
            *_pair(one.figure, one.float_value, one.int8_value),
            Cell(one.conditions),
            Cell(one.source),
        )
        for one in theirs
    ]
    network = theirs[0].network
    heads = ("Whose", "Figure", "Float", "Quantized", "Change", "Conditions", "Source")
    caption = (
        f"{network}: what others published, beside what was measured here. Other images, classes and devices: "
        "changes can be held against each other, values cannot."
    )
    return Table(f"Published figures of {network}", heads, tuple(rows), caption, "published")


def _measured(one: Findings) -> list[tuple[Cell, ...]]:
    said, took, by = one.manifest.accuracy, one.manifest.latency, Cell("measured by edgec")
    rows: list[tuple[Cell, ...]] = []
    if said.metric in OF_METRIC and said.shipped == "target":
        figure, images = OF_METRIC[said.metric], Cell(f"{said.num_images:,} test images of this build")
        rows.append((Cell(one.name), Cell(figure), *_pair(figure, said.float, said.target), images, by))
    if took.p50_ms is not None:
        where = Cell(f"{took.device or 'unknown device'}, median")
        beside = took.beside_float
        pair = _pair(LATENCY, beside.float_p50_ms if beside else None, took.p50_ms)
        faster = Cell(_factor(beside.speedup, 1.0)) if beside else pair[2]
        rows.append((Cell(one.name), Cell(LATENCY), *pair[:2], faster, where, by))
    return rows


def _pair(figure: str, before: float | None, after: float | None) -> tuple[Cell, Cell, Cell]:
    """Float, quantized, and what became of it: points of a rate, a factor of a latency."""
    shown = [Cell("-") if value is None else Cell(f"{value:.4g}") for value in (before, after)]
    if before is None or after is None:
        return shown[0], shown[1], Cell("-")
    change = _factor(before, after) if figure == LATENCY else f"{signed(after - before)} pp"
    return shown[0], shown[1], Cell(change)


def _factor(before: float, after: float) -> str:
    return times(before, after, "faster", "slower").removesuffix(" than")
