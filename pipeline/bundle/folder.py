"""Replacing a bundle's folder as a whole: it is the old one or the new one, never half of each."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import ExitStack, contextmanager
from pathlib import Path

from edgec.pipeline.bundle.manifest import MANIFEST, MAX_MANIFEST_BYTES, SUMS, UNLISTED, sums
from edgec.pipeline.core.disk import ELSEWHERE, FORBIDDEN, FULL, full_disk_named
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.scratch import NEW, beside, replace_folder
from edgec.pipeline.core.stage import file_sha256

Foreign = Callable[[Path], str | None]
Changed = Callable[[Mapping[str, str]], str | None]


@contextmanager
def replacing(folder: Path, foreign: Foreign | None = None) -> Iterator[Path]:
    """Yield an empty folder beside ``folder`` that takes its place when the block ends well.

    Args:
        foreign: why a folder may not be replaced; None where it may. Bundles may where nothing else is given.

    Raises:
        EdgecError: ``output-exists`` where ``folder`` is foreign and not empty;
            ``output-not-writable``, ``disk-full``; what ``scratch`` raises.
    """
    folder = folder.absolute()
    check_replaceable(folder, foreign)
    with workplace(folder) as work:
        (work / NEW).mkdir()
        yield work / NEW
        check_replaceable(folder, foreign)  # it may have come meanwhile
        replace_folder(work, folder)


@contextmanager
def workplace(path: Path) -> Iterator[Path]:
    """``beside``, with the folders on the way to ``path``; nothing can be made in ``/proc``, whatever it calls this.

    Raises:
        EdgecError: ``output-not-writable``, ``disk-full``; what ``scratch`` raises.
    """
    with output_named(path), ExitStack() as last:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            work = last.enter_context(beside(path))
        except OSError as error:
            if error.errno in FULL:
                raise
            raise _not_writable(path, error) from error
        yield work


@contextmanager
def output_named(path: Path) -> Iterator[None]:
    """What the file system refuses inside the block is an error that names ``path``.

    Raises:
        EdgecError: ``output-not-writable``, ``disk-full``.
    """
    try:
        with full_disk_named(path, ELSEWHERE):
            yield
    except OSError as error:
        if error.errno in FORBIDDEN:
            raise _not_writable(path, error) from error
        raise


def check_replaceable(folder: Path, foreign: Foreign | None = None) -> None:
    """Refuse to overwrite what edgec did not write.

    Raises:
        EdgecError: ``output-exists``, ``output-not-writable``.
    """
    try:
        if not folder.exists() and not folder.is_symlink():
            return
        if folder.is_dir() and not folder.is_symlink():
            reason = (foreign or _foreign)(folder)
            if reason is None:
                return
        else:
            reason = "it is no folder"
    except OSError as error:
        raise _not_writable(folder, error) from error
    message = f"'{folder}' exists and edgec may not replace it: {reason}"
    raise EdgecError("output-exists", message, "choose another --output, or remove it")


def copy_folder(source: Path, target: Path, keep: Callable[[str], bool] = lambda name: True) -> None:
    """Copy files with their folders; a failure is the first file's own ``OSError``, as ``shutil.copytree`` has none."""
    for path in sorted(source.rglob("*")):
        name = path.relative_to(source)
        if path.is_file() and keep(name.as_posix()):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target / name)
    target.mkdir(exist_ok=True)


def unlisted_or_changed(
    folder: Path, what: str, records: tuple[str, ...], changed: Changed, besides: Set[str] = frozenset()
) -> str | None:
    """Why the folder is no ``what`` as edgec wrote it; None where it is one, or empty.

    Args:
        records: files that every ``what`` has; the first lists all others.
        changed: says of these, sha256 by path, what is not as it was; None where all is.
        besides: files that may be there and are not listed.
    """
    names = {
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir() or path.is_symlink()
    }
    if not names:
        return None if not any(folder.iterdir()) else "it has folders"
    record = folder / records[0]
    if not all((folder / name).is_file() for name in records) or record.stat().st_size > MAX_MANIFEST_BYTES:
        return f"it is no {what}, which has {' and '.join(records)}"
    try:
        listed = {entry["path"]: entry["sha256"] for entry in json.loads(record.read_bytes())["files"]}
        difference = changed(listed)
    except (ValueError, KeyError, TypeError, RecursionError):
        return f"its {record.name} is not of a {what}"
    added = sorted(names - listed.keys() - {*records, *besides})
    return difference or (f"'{added[0]}' in it is no file of the {what}" if added else None)


def _foreign(folder: Path) -> str | None:
    """Whether it is a bundle of edgec's, of this version or another.

    A bundle's manifest lists its files, ``SHA256SUMS`` is made of this list, and nothing else lies there. Content is
    not compared: a damaged bundle may be replaced.
    """

    def changed(listed: Mapping[str, str]) -> str | None:
        expected = sums((*listed.items(), (MANIFEST, file_sha256(folder / MANIFEST)))).encode()
        fits = (folder / SUMS).read_bytes() == expected
        return None if fits else f"its {SUMS} does not fit its {MANIFEST}"

    return unlisted_or_changed(folder, "bundle", (MANIFEST, SUMS), changed, UNLISTED)


def _not_writable(path: Path, error: OSError) -> EdgecError:
    return EdgecError(
        "output-not-writable", f"cannot write '{str(path)[:120]}': {error.strerror}", "choose another --output"
    )
