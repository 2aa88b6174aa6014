"""``labels.csv`` and ``classes.txt`` as spreadsheets and editors write them; every fault is named with its line."""

from __future__ import annotations

import codecs
import csv
import io
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from edgec.pipeline.core.errors import EdgecError

LABELS, CLASSES = "labels.csv", "classes.txt"
MAX_CLASSES = 1_000_000
MAX_BYTES, MAX_LINES = 1 << 26, 2_000_000

SPLITS = {
    "calibration": "calibration",
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
"""What people call the parts of a data set, as folders and in the column ``split``."""

_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_DELIMITERS = ",;\t"
_SAVE = "save it as UTF-8 (in a spreadsheet: CSV UTF-8)"


@dataclass(frozen=True)
class Row:
    """One line of ``labels.csv``.

    Attributes:
        line: its number, from 1.
        file: as written, a safe relative path.
        class_index: None where there is no such column, or nothing in it.
        label: empty where there is no such column, or nothing in it.
        split: a value of ``SPLITS``; None where there is no such column.
    """

    line: int
    file: str
    class_index: int | None
    label: str
    split: str | None


def check_labels(names: Iterable[str]) -> None:
    """Refuse class names that cannot be one line of a text file.

    Raises:
        ValueError: with the name.
    """
    for name in names:
        if any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in name):
            raise ValueError(f"the class name {name[:40]!a} has line breaks, control characters or no UTF-8")


def read_classes(path: Path) -> tuple[str, ...]:
    """Names of ``classes.txt`` in their order, each a plain folder name.

    Raises:
        EdgecError: ``bad-labels``, ``unsafe-path``.
    """
    names = [name.strip() for name in read_text(path).split("\n")]
    names = [name for name in names if name]
    for name in names:
        if "/" in name or name in (".", "..") or "\0" in name:
            raise EdgecError("unsafe-path", f"'{path}' names {name[:80]!a}", "expected plain names of folders")
    if len(names) > MAX_CLASSES:
        message = f"'{path}' has {len(names):,} classes, expected at most {MAX_CLASSES:,}"
        raise EdgecError("bad-labels", message, "check that it is a table of classes")
    ((name, count),) = Counter(names).most_common(1) or [("", 1)]
    if count > 1:
        raise EdgecError("bad-labels", f"'{path}' names the class '{name}' {count} times", "leave one of them")
    return tuple(names)


def read_rows(path: Path) -> list[Row]:
    """Lines of ``labels.csv``: columns ``file`` and ``class_index`` or ``label``, perhaps ``split``, in any order.

    Commas, semicolons or tabs part the columns, as the header does. Blank lines, upper case in the header, spaces
    around values and empty cells behind the last column mean nothing.

    Raises:
        EdgecError: ``bad-labels`` with the line, ``unsafe-path``.
    """
    lines = _cells(path)
    _, header = next(lines, (1, []))
    columns = [name.strip().lower() for name in header]
    while columns and not columns[-1]:
        columns.pop()
    if "file" not in columns or not {"class_index", "label"} & set(columns) or len(set(columns)) < len(columns):
        found = ", ".join(columns)[:200] or "nothing"
        message = f"'{path}' has columns {found}, expected file and class_index or label, each once"
        raise EdgecError("bad-labels", message, "add a header line")
    return [_row(path, line, columns, cells) for line, cells in lines]


def safe_path(name: str) -> str | None:
    """``name`` as a plain relative path below its folder; None where it is none."""
    path = PurePosixPath(name)
    if not name or "\0" in name or path.is_absolute() or ".." in path.parts or not path.parts:
        return None
    return str(path)


def _row(path: Path, line: int, columns: list[str], cells: list[str]) -> Row:
    where = f"'{path}' line {line}"
    if len(cells) < len(columns) or any(cells[len(columns) :]):
        message = f"{where}: {len(cells)} values, expected {len(columns)}"
        raise EdgecError("bad-labels", message, 'put a value that holds a comma in quotes: "a,b.png"')
    values = dict(zip(columns, cells, strict=False))
    file = safe_path(values["file"])
    if file is None:
        message = f"{where} names {values['file'][:80]!a}"
        raise EdgecError("unsafe-path", message, "expected a file in this folder, as a relative path without '..'")
    index, label, split = (values.get(name, "").strip() for name in ("class_index", "label", "split"))
    if index and not (index.isascii() and index.isdigit() and len(index) <= 7 and int(index) < MAX_CLASSES):
        message = f"{where}: class_index '{index[:20]}', expected a number from 0 to {MAX_CLASSES - 1}"
        raise EdgecError("bad-labels", message, "number the classes from 0")
    if "split" in columns and split.lower() not in SPLITS:
        message = f"{where}: split '{split[:20]}', expected train, val, test or calibration"
        raise EdgecError("bad-labels", message, "mend the line")
    return Row(line, file, int(index) if index else None, label, SPLITS[split.lower()] if "split" in columns else None)


def _cells(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line, values) of every line that is not blank."""
    text = read_text(path)
    first = next((line for line in text.split("\n") if line.strip()), "")
    delimiter = max(_DELIMITERS, key=first.count)
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, cells
    except csv.Error as error:
        message = f"'{path}' line {reader.line_num}: {error}"
        raise EdgecError("bad-labels", message, "close every quote, and write one line per image") from error


def read_text(path: Path) -> str:
    """The file's text with ``\\n`` as line ends: UTF-8, or what its byte order mark says.

    Raises:
        EdgecError: ``unreadable-data``, ``bad-labels`` with the line.
    """
    if not os.path.isfile(path):
        raise EdgecError("unreadable-data", f"'{path}' is no file", "remove it, or put the table there")
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise EdgecError(
            "unreadable-data", f"cannot read '{path}': {error.strerror}", "check its permissions"
        ) from error
    if len(content) > MAX_BYTES or content.count(b"\n") > MAX_LINES:
        message = f"'{path}' has more than {MAX_BYTES:,} bytes or {MAX_LINES:,} lines"
        raise EdgecError("bad-labels", message, "split the data set")
    mark, encoding = next(((m, name) for m, name in _MARKS if content.startswith(m)), (b"", "utf-8"))
    body = content[len(mark) :]
    try:
        return body.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        line = body[: error.start].count(b"\n") + 1
        wrong = body[error.start : error.start + 1].hex()
        message = f"'{path}' line {line}: byte 0x{wrong} is not {encoding.upper()}"
        raise EdgecError("bad-labels", message, _SAVE) from error
