"""Reads a matrix file: which cells there are, and what each of them asks for. ``docs/matrix.md`` is for users."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

from edgec.pipeline.bundle.extras import Extra
from edgec.pipeline.core.errors import EdgecError, nearest_hint
from edgec.pipeline.core.toml_file import STRICT, field_names, is_file_name, read_toml, validate
from edgec.pipeline.forms.scheme import Level
from edgec.pipeline.network.models.spec import Padding
from edgec.pipeline.recipe import Asked

LEAST = {
    "calibration_samples": 1,
    "threads": 1,
    "num_classes": 1,
    "input_px": 32,
    "max_drop_pp": 0,
    "learn_minutes": 0,
}
STRIDES = (8, 16)
"""What ``edgec build``'s options take."""


@dataclass(frozen=True)
class Options:
    """What a cell asks for beside its place; None, as of ``edgec build``, leaves it to network and board.

    Attributes:
        measure: latency, where the artifact runs here or ``on`` a device.
        sensitivity: rank the layers.
        stability: quantize by each half of the calibration images too.
        extras: what ``--with`` takes.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    calibration_data: str | None = None
    test_data: str | None = None
    calibration_samples: int = 256
    task: str | None = None
    weights: str | None = None
    width_multiplier: float | None = None
    input_px: int | None = None
    num_classes: int | None = None
    output_stride: int | None = None
    argmax: bool | None = None
    padding: Padding | None = None
    quantizer: Level | None = None
    learn_minutes: float | None = None
    max_drop_pp: float | None = None
    model_version: str = "1.0.0"
    measure: bool = True
    sensitivity: bool = False
    stability: bool = False
    threads: int | None = None
    on: str | None = None
    extras: tuple[Extra, ...] = ()

    def __post_init__(self) -> None:
        for name, least in LEAST.items():
            value = getattr(self, name)
            if value is not None and not least <= value < math.inf:  # nan is neither
                raise ValueError(f"{name} is {value}, expected {least} or more")
        if self.width_multiplier is not None and not 0 < self.width_multiplier < math.inf:
            raise ValueError(f"width_multiplier is {self.width_multiplier}, expected more than 0")
        if self.output_stride not in (None, *STRIDES):
            raise ValueError(f"output_stride is {self.output_stride}, expected one of {STRIDES}")


@dataclass(frozen=True)
class Cell:
    """One build.

    Attributes:
        name: of its bundle's folder.
        precision: the board's own where None.
        data: folder of images; the bundled ones, or those of ``options``, where None.
    """

    name: str
    model: str
    target: str
    precision: Asked | None
    data: str | None
    options: Options


@dataclass(frozen=True)
class _File:
    """The file field by field; ``options`` and what an entry of ``include`` says of a build are checked by the cell."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    models: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    precisions: tuple[Asked, ...] = ()
    data: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    include: tuple[dict[str, Any], ...] = ()
    exclude: tuple[dict[str, Any], ...] = ()


AXES = ("model", "target", "precision", "data")
PATHS = ("data", "calibration_data", "test_data")
NAMES_OR_PATHS = ("model", "target", "weights")

Row = dict[str, Any]
"""A cell that is not checked yet: axes and options side by side."""


@dataclass(frozen=True)
class _Place:
    model: str
    target: str
    precision: Asked | None = None
    data: str | None = None
    name: str | None = None


def read_matrix(path: Path, base: Mapping[str, Any] | None = None) -> tuple[Cell, ...]:
    """The cells of a matrix file, in its order: data inside precisions inside targets inside models.

    Args:
        base: options that hold where the file says nothing, ``data`` and ``precision`` among them.

    Raises:
        EdgecError: ``bad-matrix`` names the entry; ``no-such-file``.
    """
    file = validate(_File, read_toml(path, "bad-matrix"), path, "bad-matrix")
    options = {**_without_rivals(base or {}, file), **_anchored(path, file.options)}
    lone = {axis: (options.pop(axis, None),) for axis in ("precision", "data")}
    axes = (
        _axis(path, "model", file.models),
        _axis(path, "target", file.targets),
        _axis(path, "precision", file.precisions) or lone["precision"],
        _axis(path, "data", file.data) or lone["data"],
    )
    rows = [{**options, **dict(zip(AXES, place, strict=True))} for place in product(*axes)]
    for entry in file.exclude:
        rows = _excluded(path, rows, _anchored(path, entry))
    for entry in file.include:
        default = {**options, "precision": lone["precision"][0], "data": lone["data"][0]}
        rows = _included(path, rows, _anchored(path, entry), default)
    if not rows:
        raise EdgecError("bad-matrix", f"'{path}' has no cell", "name at least one model and one target")
    several = len({row["data"] for row in rows}) > 1
    return _distinct(path, [_cell(path, row, several) for row in rows])


def _without_rivals(base: Mapping[str, Any], file: _File) -> dict[str, Any]:
    """One folder for both purposes, or one for each: what the file says puts out what is said elsewhere."""
    pair = ("calibration_data", "test_data")
    out = pair if file.data or "data" in file.options else ("data",) if file.options.keys() & set(pair) else ()
    return {name: value for name, value in base.items() if name not in out}


def _axis(path: Path, axis: str, values: tuple[Any, ...]) -> tuple[Any, ...]:
    twice = [value for index, value in enumerate(values) if value in values[:index]]
    if twice:
        raise EdgecError("bad-matrix", f"'{path}': '{twice[0]}' is named twice as {axis}", "delete one of them")
    return tuple(_anchored(path, {axis: value})[axis] for value in values)


def _anchored(path: Path, stated: Mapping[str, Any]) -> Row:
    """Paths are relative to the file."""

    def is_path(name: str, value: str) -> bool:
        return name in PATHS or (name in NAMES_OR_PATHS and is_file_name(value))

    return {
        name: str(path.parent / value) if isinstance(value, str) and is_path(name, value) else value
        for name, value in stated.items()
    }


def _excluded(path: Path, rows: list[Row], entry: Row) -> list[Row]:
    unknown = next((key for key in entry if key not in AXES), None)
    if unknown is not None:
        raise EdgecError("bad-matrix", f"'{path}': exclude: no axis '{unknown}'", nearest_hint(unknown, AXES))
    kept = [row for row in rows if not _fits(row, entry)]
    if len(kept) == len(rows):
        raise EdgecError("bad-matrix", f"'{path}': exclude fits no cell: {_words(entry)}", "mend it, or delete it")
    return kept


def _included(path: Path, rows: list[Row], entry: Row, default: Row) -> list[Row]:
    """Cells that fit the entry's axes take its options; where none does it is a cell of its own."""
    place = {axis: entry[axis] for axis in AXES if axis in entry}
    own = {name: value for name, value in entry.items() if name not in place}
    fitting = [row for row in rows if place and _fits(row, place)]
    if fitting and not own:
        raise EdgecError(
            "bad-matrix", f"'{path}': include changes nothing: {_words(entry)}", "add options, or delete it"
        )
    if fitting:
        return [{**row, **own} if row in fitting else row for row in rows]
    if not place.keys() >= {"model", "target"}:
        message = f"'{path}': include fits no cell: {_words(entry)}"
        raise EdgecError("bad-matrix", message, "a cell of its own needs a model and a target")
    return [*rows, {**default, **entry}]


def _fits(row: Row, place: Row) -> bool:
    return all(row[axis] == value for axis, value in place.items())


def _words(entry: Row) -> str:
    return ", ".join(f"{name} = {value!r}" for name, value in entry.items()) or "it is empty"


def _cell(path: Path, row: Row, several: bool) -> Cell:
    names = field_names(_Place)
    place = validate(_Place, {name: row[name] for name in names if name in row}, path, "bad-matrix")
    options = validate(Options, {name: row[name] for name in row if name not in names}, path, "bad-matrix", "options")
    data = Path(place.data).name if place.data and several else None
    parts = (Path(place.model).stem if is_file_name(place.model) else place.model, Path(place.target).stem)
    name = place.name or "-".join(filter(None, (*parts, place.precision, data)))
    return Cell(name, place.model, place.target, place.precision, place.data, options)


def _distinct(path: Path, cells: list[Cell]) -> tuple[Cell, ...]:
    """No two in one folder, and none that leaves the output."""
    seen: dict[str, Cell] = {}
    for cell in cells:
        if cell.name in seen:
            same = replace(cell, name="") == replace(seen[cell.name], name="")
            hint = "delete one of them" if same else "name one of them: name = ... in an include of its own"
            raise EdgecError("bad-matrix", f"'{path}': two cells are called '{cell.name}'", hint)
        if Path(cell.name).name != cell.name or cell.name.startswith("."):
            raise EdgecError(
                "bad-matrix", f"'{path}': '{cell.name[:80]}' is no name of a folder", "choose a plain name"
            )
        seen[cell.name] = cell
    return tuple(cells)
