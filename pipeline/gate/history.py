"""A model's figures over commits: JSON lines that are only ever appended to."""

from __future__ import annotations

import datetime
import json
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.toml_file import validate
from edgec.pipeline.gate.record import Known, Measured

FILE = "history.jsonl"
DEVICE_MEASURES = ("p50_ms", "p99_ms", "noise_floor", "num_spikes")
"""What depends on the machine; the rest is one series, wherever it was found."""


@dataclass(frozen=True)
class Entry:
    """One bundle at one commit.

    Attributes:
        time: UTC, ISO 8601, of the moment it was added.
        device, fingerprint: empty where nothing was timed; latencies of unequal fingerprints are never joined.
        values: latencies, accuracy and counts by name.
    """

    commit: str
    time: str
    model: str
    target: str
    device: str
    fingerprint: str
    values: dict[str, float]

    def series(self, measure: str) -> tuple[str, str, str]:
        """What must be equal for two entries to be comparable in ``measure``."""
        return self.model, self.target, self.fingerprint if measure in DEVICE_MEASURES else ""

    def where(self, measure: str) -> str:
        """The machine, in words, where ``measure`` depends on it."""
        return f", measured on {self.device}, fingerprint {self.fingerprint}" if measure in DEVICE_MEASURES else ""


def shown(value: float) -> str:
    """A count to the last unit, ``2,894,664``; of anything else six digits."""
    return f"{value:,.0f}" if value.is_integer() else f"{value:.6g}"


def history_file(path: Path) -> Path:
    """``path`` itself, or the file in a folder."""
    return path / FILE if path.is_dir() else path


def read_history(path: Path) -> list[Entry]:
    """All entries in the order they were added.

    Raises:
        EdgecError: ``no-such-file``, ``bad-history`` names the line.
    """
    file = history_file(path)
    if not file.is_file():
        raise EdgecError("no-such-file", f"no history '{file}'", "start one with 'edgec history add'")
    entries, number = [], 0
    try:
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            entries.append(validate(Entry, json.loads(line), file, "bad-history", f"line {number}"))
    except (OSError, ValueError) as error:
        hint = "restore the file from version control; it is only ever appended to"
        raise EdgecError("bad-history", f"'{file}' line {number}: {error}", hint) from error
    return entries


def append_history(path: Path, entries: Sequence[Entry]) -> Path:
    """Add lines at the end in one write; return the file.

    Raises:
        EdgecError: ``bad-history`` (an earlier write was cut off), ``output-not-writable``.
    """
    file = history_file(path)
    if file.is_file():
        read_history(file)
    text = "".join(json.dumps(asdict(entry), sort_keys=True) + "\n" for entry in entries)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        raise EdgecError("output-not-writable", f"cannot write '{file}': {error.strerror}", "see --history") from error
    return file


def entries_of(report: Path, commit: str) -> list[Entry]:
    """What a report of ``edgec check --format json`` measured and knows: a bundle that was not timed has its entry too.

    Raises:
        EdgecError: ``no-such-file``, ``bad-report``.
    """
    hint = "write it with 'edgec check ... --format json=report.json'"
    try:
        content = json.loads(report.read_text(encoding="utf-8"))
        records = [Measured.of(record) for record in content["measured"]]
        known = {(found.model, found.target): found for found in map(Known.of, content.get("known", []))}
    except FileNotFoundError:
        raise EdgecError("no-such-file", f"no report '{report}'", hint) from None
    except (ValueError, KeyError, TypeError) as error:
        raise EdgecError("bad-report", f"'{report}' is no report of edgec check: {error}", hint) from error
    if not records and not known:
        raise EdgecError("bad-report", f"'{report}' knows nothing of any bundle", hint)
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    timed = [_entry(record, known.get((record.model, record.target)), commit, now) for record in records]
    rest = known.keys() - {(record.model, record.target) for record in records}
    return timed + [Entry(commit, now, *name, "", "", dict(known[name].values)) for name in sorted(rest)]


def current_commit() -> str:
    """Of the repository that the shell is in.

    Raises:
        EdgecError: ``no-commit``.
    """
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        raise EdgecError("no-commit", "this folder is in no git repository with a commit", "give --commit") from None
    return done.stdout.strip()


def series_of(entries: Sequence[Entry], measure: str) -> dict[tuple[str, str, str], list[Entry]]:
    """Entries that have ``measure``, by model, target and, where it depends on the machine, fingerprint."""
    series: dict[tuple[str, str, str], list[Entry]] = {}
    for entry in entries:
        if measure in entry.values:
            series.setdefault(entry.series(measure), []).append(entry)
    return series


def _entry(record: Measured, known: Known | None, commit: str, now: str) -> Entry:
    values = {name: value for name, value in record.figures.items() if value is not None}
    digest = record.fingerprint.digest
    values |= {**record.counts, **(known.values if known else {})}
    return Entry(commit, now, record.model, record.target, record.device, digest, values)
