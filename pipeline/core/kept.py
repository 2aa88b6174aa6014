"""One kept result on disk: its record, and whether the record can be believed."""

from __future__ import annotations

import hashlib
import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from edgec.pipeline.core.root import KEPT

RECORD = "record.json"
FOUND = ("sha256", "seconds", "check")  # of a record, beside what the key is made of
GONE = ".gone"


class Damaged(Exception):
    """A kept result is not what was recorded; the text says in what."""


def digest_of(value: dict[str, Any]) -> str:
    """Full sha256 of canonical JSON (RFC 8785)."""
    import rfc8785

    return hashlib.sha256(rfc8785.dumps(value)).hexdigest()


def write_kept(folder: Path, described: dict[str, Any], sha256: str, seconds: float) -> None:
    """Write the record: what the key is made of, what was found, and a digest of both."""
    record = {**described, "sha256": sha256, "seconds": seconds}
    text = json.dumps({**record, "check": digest_of(record)}, indent=1, sort_keys=True)
    (folder / RECORD).write_text(text, encoding="utf-8")


def read_kept(folder: Path) -> dict[str, Any]:
    """The record, if its folder has the key that it describes and it is the one that was written.

    Raises:
        Damaged: the record is missing, cannot be read, or differs in any field.
    """
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        key = digest_of({name: value for name, value in record.items() if name not in FOUND})
        check = digest_of({name: value for name, value in record.items() if name != "check"})
    except FileNotFoundError:
        raise Damaged(f"'{RECORD}' is missing") from None
    except OSError as error:
        raise Damaged(f"'{RECORD}' cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError, AttributeError, TypeError) as error:  # the last two: it is no object
        raise Damaged(f"'{RECORD}' is no record") from error
    if key != folder.name or record.get("check", check) != check or not {"stage", "output", *FOUND[:2]} <= set(record):
        raise Damaged(f"'{RECORD}' has changed")
    return dict(record)


def discard(folder: Path) -> None:
    """Delete a result; stopped at any point it is there whole or not at all."""
    gone = folder.with_name(folder.name + GONE)
    folder.rename(gone)
    shutil.rmtree(gone)


def sweep_discarded(root: Path) -> None:
    """Finish what a killed ``discard`` began, and delete locks: nobody else uses the store now."""
    for gone in root.glob(f"results/*/*{GONE}"):
        if KEPT.fullmatch(gone.stem):
            shutil.rmtree(gone, ignore_errors=True)
    for lock in root.glob("locks/*.lock"):
        if KEPT.fullmatch(lock.stem):
            with suppress(OSError):
                lock.unlink()
