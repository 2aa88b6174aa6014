"""Content-addressed store: a stage runs at most once for equal inputs.

Layout of the store's folder::

    results/<key[:2]>/<key>/record.json      what ran, on what, how long, sha256 of the result
    results/<key[:2]>/<key>/<stage.output>   the result, one file or one folder
    tmp/                                     all temporary folders (``scratch.py``), half-made results among them
    locks/                                   one lock per key, so that two builds share the work
    imports.json                             what each source of edgec imports (``code.py``)
    edgec-store.json                         whose folder this is (``root.py``); a build locks it, shared, and
                                             ``edgec cache clear`` alone

A result is made in ``tmp`` and renamed into ``results``: it is there whole or not at all. Where machines share a store
(``shared.py``), a result that is not here is looked for there, and one that is made here goes there too.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from edgec.pipeline.core.code import NOTES, keep_imports, recall_imports
from edgec.pipeline.core.disk import FORBIDDEN, full_disk_named
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.kept import (
    FOUND,
    RECORD,
    Damaged,
    discard,
    read_kept,
    sweep_discarded,
    write_kept,
)
from edgec.pipeline.core.packed import Broken
from edgec.pipeline.core.progress import begins, remark
from edgec.pipeline.core.root import MARKER, claimed, is_store, kept_folders, lock_alone, lock_shared, not_writable
from edgec.pipeline.core.scratch import scratch, sweep
from edgec.pipeline.core.shared import Shared, default_shared
from edgec.pipeline.core.stage import Artifact, Stage, described, stage_key, stage_name, tree_sha256
from edgec.pipeline.core.unfinished import forget_unfinished


@dataclass(frozen=True)
class Run:
    """How one stage of a build came by its result."""

    stage: str
    key: str
    cached: bool
    seconds: float


@dataclass(frozen=True)
class Plan:
    """Why a stage would run, or that it would not (``edgec explain``)."""

    stage: str
    key: str
    cached: bool
    reason: str


@dataclass
class Store:
    """Runs stages and keeps what they make under ``root``.

    Attributes:
        root: the store's folder; made on first use.
        runs: what happened so far, in order.
        shared: where other machines' results are; None where nothing is shared, or since it could not be reached.
    """

    root: Path
    runs: list[Run] = field(default_factory=list)
    shared: Shared | None = field(default_factory=default_shared)
    _in_use: IO[bytes] | None = field(default=None, init=False, repr=False, compare=False)
    _only_reads: bool = field(default=False, init=False, repr=False, compare=False)

    def run(self, stage: Stage, *inputs: Artifact) -> Artifact:
        """Return the stage's result, made now or found.

        Raises:
            EdgecError: ``corrupt-artifact`` (a kept or shared result no longer has its sha256), ``disk-full``,
                ``store-not-writable``, ``bad-shared-cache``, ``missing-fsspec``, or whatever the stage raises. A
                shared store that cannot be reached, or not be written, is remarked upon and left out from then on.
        """
        started = time.perf_counter()
        self._use()
        name, key = stage_name(stage), stage_key(stage, inputs)
        keep_imports(self.root)
        with self._writable():  # where it may not be read, it is not to be written either
            found = self._find(key, stage.output)
        if found is None:
            with self._writable(), self._lock(key):
                found = self._here_or_shared(key, stage.output)  # another process may have been faster
                if found is None:
                    begins(name)
                    found = self._make(stage, key, inputs)
                    self._offer(key)
                    self.runs.append(Run(name, key, False, time.perf_counter() - started))
                    return found
        begins(name, is_found=True)
        self.runs.append(Run(name, key, True, time.perf_counter() - started))
        return found

    def obtain(self, key: str, output: str) -> Artifact | None:
        """The result ``output`` of a key, kept here or shared; None where it is in neither place.

        Raises:
            EdgecError: as ``run``.
        """
        self._use()
        with self._writable(), self._lock(key):
            return self._here_or_shared(key, output)

    def explain(self, stage: Stage, *inputs: Artifact) -> Plan:
        """Say whether ``stage`` would run on ``inputs`` and which part of its key is new."""
        name, key = stage_name(stage), stage_key(stage, inputs)
        if self._folder(key).exists():
            try:
                read_kept(self._folder(key))
            except Damaged as error:
                return Plan(name, key, False, f"its kept result is damaged: {error}")
            return Plan(name, key, True, "result is in the store")
        if self._sharing(lambda shared: shared.has(key)):
            return Plan(name, key, True, "result is in the shared cache")
        return Plan(name, key, False, self._nearest_difference(stage, inputs))

    def entries(self) -> Iterator[tuple[dict[str, Any], Path]]:
        """Every kept result whose record can be believed: the record and the result's folder."""
        for folder in self._kept():
            with contextlib.suppress(Damaged):
                yield read_kept(folder), folder

    def damaged(self) -> Iterator[tuple[Path, str]]:
        """Every kept result that is not what was recorded, with what is wrong: all of it is read."""
        for folder in self._kept():
            try:
                proven(folder)
            except Damaged as error:
                yield folder, str(error)

    def drop(self, folders: Iterable[Path], waiting: Callable[[], None] = lambda: None) -> int:
        """Delete these results, and what killed processes left, while no build uses the store.

        Args:
            waiting: called once if there is one to wait for.

        Returns:
            How many were deleted.

        Raises:
            EdgecError: ``store-not-writable`` says how many were deleted before one could not be.
        """
        if not is_store(self.root):
            return 0
        with self._alone(waiting):
            sweep(self.root)
            sweep_discarded(self.root)
            deleted = 0
            for folder in folders:
                try:
                    discard(folder)
                except OSError as error:
                    hint = f"{deleted} results were deleted; check who may write '{self.root}'"
                    message = f"cannot delete '{folder}': {error.strerror}"
                    raise EdgecError("store-not-writable", message, hint) from error
                deleted += 1
        return deleted

    def clear(self, waiting: Callable[[], None] = lambda: None) -> int:
        """Delete every kept result, damaged or not, what is unfinished, and every leftover; see ``drop``."""
        if is_store(self.root):
            with self._alone(waiting):
                forget_unfinished(self.root)
                with contextlib.suppress(OSError):  # of a disk that takes nothing, the results tell
                    (self.root / NOTES).unlink()
        return self.drop(self._kept(), waiting)

    def _kept(self) -> Iterator[Path]:
        return kept_folders(self.root) if is_store(self.root) else iter(())

    def _use(self) -> None:
        """Keep ``clear`` away for as long as this object lives: results are read after they were made."""
        if self._in_use is None:
            self._in_use = lock_shared(claimed(self.root) / MARKER)
            recall_imports(self.root)

    @contextlib.contextmanager
    def _alone(self, waiting: Callable[[], None]) -> Iterator[None]:
        self._in_use = None
        with lock_alone(self.root / MARKER, waiting):
            yield

    def _folder(self, key: str) -> Path:
        return self.root / "results" / key[:2] / key

    def _here_or_shared(self, key: str, output: str) -> Artifact | None:
        return self._find(key, output) or self._fetched(key, output)

    def _find(self, key: str, output: str) -> Artifact | None:
        folder = self._folder(key)
        if not folder.exists():
            return None
        try:
            record = proven(folder)
        except Damaged as error:
            raise _corrupt(str(folder), error, "edgec cache verify --repair") from error
        with contextlib.suppress(OSError):  # a store may be readable alone: the order of use is for ``trim``
            os.utime(folder / RECORD)
        return Artifact(folder / output, record["sha256"])

    def _fetched(self, key: str, output: str) -> Artifact | None:
        """The shared result, kept here from now on; it is proven before it gets its place."""
        if self.shared is None:
            return None
        with scratch("fetch", self.root) as work:
            try:
                if not self._sharing(lambda shared: shared.fetch(key, work / key)):
                    return None
                record = proven(work / key)
            except (Broken, Damaged) as error:
                raise _corrupt(f"{self.shared.url}: {key}", error, "edgec cache verify --shared --repair") from error
            folder = self._folder(key)
            folder.parent.mkdir(parents=True, exist_ok=True)
            (work / key).rename(folder)
        return Artifact(folder / output, record["sha256"])

    def _offer(self, key: str) -> None:
        """Where nothing can be written, with a key that only reads say, the build goes on reading."""
        if self.shared is None or self._only_reads:
            return
        with scratch("offer", self.root) as work:
            try:
                self.shared.offer(key, self._folder(key), work)
            except EdgecError as error:
                _pass_unreachable(error, "going on without writing there")
                self._only_reads = True

    def _sharing(self, use: Callable[[Shared], bool]) -> bool:
        """What ``use`` answers; where the shared store cannot be reached the build goes on without it, and says so."""
        if self.shared is None:
            return False
        try:
            return use(self.shared)
        except EdgecError as error:
            _pass_unreachable(error, "going on without it")
            self.shared = None
            return False

    def _make(self, stage: Stage, key: str, inputs: tuple[Artifact, ...]) -> Artifact:
        with scratch(type(stage).__name__.lower(), self.root) as work:
            started = time.perf_counter()
            stage.run(work / stage.output, *inputs)
            sha256 = tree_sha256(work / stage.output)
            write_kept(work, described(stage, inputs), sha256, round(time.perf_counter() - started, 3))
            folder = self._folder(key)
            folder.parent.mkdir(parents=True, exist_ok=True)
            work.rename(folder)
        return Artifact(folder / stage.output, sha256)

    def _lock(self, key: str) -> contextlib.AbstractContextManager[object]:
        from filelock import FileLock

        (self.root / "locks").mkdir(parents=True, exist_ok=True)
        return FileLock(self.root / "locks" / f"{key}.lock")

    @contextlib.contextmanager
    def _writable(self) -> Iterator[None]:
        try:
            with full_disk_named(self.root):
                yield
        except OSError as error:
            if error.errno in FORBIDDEN:
                raise not_writable(self.root, error) from error
            raise

    def _nearest_difference(self, stage: Stage, inputs: tuple[Artifact, ...]) -> str:
        """Compare with the kept result of the same stage that differs least, of equals the latest, and name what does.

        Another target's result says nothing of why this one's would run again.
        """
        wanted = _flat(described(stage, inputs))
        same = [
            (_flat({k: v for k, v in record.items() if k not in FOUND}), folder.stat().st_mtime)
            for record, folder in self.entries()
            if record["stage"] == wanted["stage"]
        ]
        if not same:
            return "never ran"
        kept, _ = min(same, key=lambda pair: (len(_changed(pair[0], wanted)), -pair[1]))
        changed = [
            f"{name}: {_short(kept.get(name, 'nothing'))} -> {_short(wanted.get(name, 'nothing'))}"
            for name in _changed(kept, wanted)
        ]
        return "; ".join(changed) or "its result was deleted"


def _changed(kept: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    return [name for name in sorted(kept.keys() | wanted.keys()) if kept.get(name) != wanted.get(name)]


def _short(value: object) -> str:
    """A digest by its beginning."""
    text = str(value)
    return text[:12] if re.fullmatch("[0-9a-f]{64}", text) else text


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        return {k: v for key, item in value.items() for k, v in _flat(item, f"{name}.{key}" if name else key).items()}
    if isinstance(value, list):
        return {k: v for i, item in enumerate(value) for k, v in _flat(item, f"{name}[{i}]").items()}
    return {name: value}


def proven(folder: Path) -> dict[str, Any]:
    """The record of a kept result, which is what it says.

    Raises:
        Damaged: record or result are not.
    """
    record = read_kept(folder)
    path = folder / record["output"]
    try:
        found = tree_sha256(path) if path.exists() else None
    except OSError as error:
        raise Damaged(f"'{path.name}' cannot be read: {error.strerror}") from error
    if found != record["sha256"]:
        raise Damaged(f"'{path.name}' {'is missing' if found is None else 'has changed'}")
    return record


def _pass_unreachable(error: EdgecError, how: str) -> None:
    """Say once what a build has to do without; any other error ends it."""
    if error.code != "shared-cache-unreachable":
        raise error
    remark(f"{error.message}; {how}")


def _corrupt(place: str, why: Exception, repair: str) -> EdgecError:
    return EdgecError(
        "corrupt-artifact",
        f"the kept result '{place}' is not what was recorded: {why}",
        f"run '{repair}' and build again; if it returns, check the disk",
    )
