"""Files that somebody asked for by their path: only what edgec wrote itself is replaced."""

from __future__ import annotations

import os
from pathlib import Path

from edgec.pipeline.core.errors import EdgecError

MAX_HEAD = 4096  # bytes that say whose a file is


def check_replaceable(output: Path, mark: bytes, what: str) -> None:
    """Nothing lies there, or a file that edgec wrote, which has ``mark`` near its beginning.

    Raises:
        EdgecError: ``output-exists``.
    """
    if not os.path.lexists(output) or (output.is_file() and mark in _head(output)):
        return
    message = f"'{output}' exists and is no {what} that edgec wrote"
    raise EdgecError("output-exists", message, "choose another path, or remove it")


def prepare(output: Path) -> None:
    """Make the folder of a file that is to be written, before the work that it is the result of.

    Raises:
        EdgecError: ``output-not-writable``.
    """
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"cannot write '{output}': {error.strerror}"
        raise EdgecError("output-not-writable", message, "choose another path") from error


def write_text(output: Path, text: str) -> None:
    """Write a file, in the same bytes on every system.

    Raises:
        EdgecError: ``output-not-writable``.
    """
    try:
        output.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        message = f"cannot write '{output}': {error.strerror}"
        raise EdgecError("output-not-writable", message, "choose another path") from error


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_HEAD)
