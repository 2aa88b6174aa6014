"""``.tar.zst``: the bundle as one file. Writing depends on the content alone; reading accepts only what it writes."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from edgec.pipeline.bundle.folder import output_named, replacing, workplace
from edgec.pipeline.bundle.integrity import read_checked_manifest
from edgec.pipeline.bundle.manifest import (
    MANIFEST,
    MAX_MANIFEST_BYTES,
    RESULT,
    RESULT_SUM,
    SIGNED,
    SUMS,
)
from edgec.pipeline.bundle.manifest_json import parse_manifest
from edgec.pipeline.bundle.paths import check_path
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.scratch import NEW
from edgec.pipeline.core.stage import file_sha256

SUFFIX = ".tar.zst"
LEVEL = 6
BLOCK = 512
PIECE_BYTES = 1 << 20
MAX_BUNDLE_BYTES = 4 << 30
MAX_SMALL_FILE_BYTES = 4 << 20  # SHA256SUMS, signature and key: the manifest does not state their size


def pack(folder: Path, archive: Path) -> str:
    """Write the bundle ``folder`` as ``archive`` and return its sha256.

    Order is the manifest first, then by name; owner, time and mode are fixed, one thread compresses: equal releases
    give equal bytes with equal versions of zstandard. The build's log (``result.json``) stays behind.

    Raises:
        EdgecError: ``output-not-writable``, ``disk-full``, ``output-is-input`` inside the bundle, ``output-exists``
            where another file lies there.
    """
    import zstandard

    if archive.resolve().is_relative_to(folder.resolve()):
        message = f"'{archive}' lies in the bundle, which would no longer be what its manifest lists"
        raise EdgecError("output-is-input", message, "choose another --output")
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    names = [MANIFEST, *(name for name in names if name not in (MANIFEST, RESULT, RESULT_SUM))]
    with output_named(archive):
        _check_replaceable(archive)
        with workplace(archive) as work:
            with (
                (work / NEW).open("wb") as raw,
                zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).stream_writer(raw) as out,
            ):
                for name in names:
                    _write_entry(out, name, folder / name)
                out.write(bytes(2 * BLOCK))
            (work / NEW).replace(archive)
    return file_sha256(archive)


def unpack(archive: Path, folder: Path, check: Callable[[Path], object] = read_checked_manifest) -> None:
    """Unpack into the new or replaceable ``folder``, whole or not at all; nothing outside it is touched.

    The first entry must be the manifest; after it only files that it lists, with exactly the bytes that it states.

    Args:
        check: told the unpacked folder before it takes its place; what it refuses is never there.

    Raises:
        EdgecError: ``no-such-file``, ``corrupt-archive``, ``corrupt-bundle``, ``unsafe-path``, ``output-exists``,
            ``output-not-writable``, ``disk-full``, and what ``check`` raises.
    """
    if not archive.is_file():
        raise EdgecError("no-such-file", f"no archive '{archive}'", "check the path")
    with replacing(folder) as work, archive.open("rb") as raw:
        _unpack(raw, archive.name, work)
        with called(work, archive):
            check(work)


@contextmanager
def called(work: Path, archive: Path) -> Iterator[None]:
    """Refusals in this block name the archive: the folder ``work`` that it was unpacked to is nobody's concern."""
    try:
        yield
    except EdgecError as error:
        raise EdgecError(error.code, error.message.replace(str(work), str(archive)), error.hint) from error


def _check_replaceable(archive: Path) -> None:
    """Only what begins as an archive does is replaced, and no folder is made for it."""
    if not archive.absolute().parent.is_dir():
        message = f"cannot write '{archive}': its folder is not there"
        raise EdgecError("output-not-writable", message, "choose another --output")
    if archive.is_dir() or (archive.is_file() and not _begins_as_archive(archive)):
        message = f"'{archive}' exists and is no archive of a bundle"
        raise EdgecError("output-exists", message, "choose another --output, or remove it")


def _begins_as_archive(archive: Path) -> bool:
    import zstandard

    with archive.open("rb") as raw, zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(raw) as stream:
        try:
            return stream.read(BLOCK)[:100].rstrip(b"\0") == MANIFEST.encode()
        except (zstandard.ZstdError, MemoryError):
            return False


def _unpack(raw: IO[bytes], name: str, work: Path) -> None:
    import zstandard

    try:
        with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(raw, read_across_frames=True) as stream:
            _unpack_entries(_EntryReader(stream, name), name, work)
    except (zstandard.ZstdError, MemoryError) as error:
        raise _refused(name, str(error) or "it asks for too much memory") from error


def _unpack_entries(reader: _EntryReader, name: str, work: Path) -> None:
    first = reader.header()
    if first is None or first[0] != MANIFEST or first[1] > MAX_MANIFEST_BYTES:
        raise _refused(name, f"its first file is not a {MANIFEST}")
    _extract(reader, work / MANIFEST, first[1])
    manifest = parse_manifest((work / MANIFEST).read_bytes(), name)
    expected = {entry.path: entry for entry in manifest.files}
    if sum(entry.bytes for entry in expected.values()) > MAX_BUNDLE_BYTES:
        raise _refused(name, f"it would take more than {MAX_BUNDLE_BYTES} bytes")
    unlisted = {SUMS, *SIGNED}
    while (found := reader.header()) is not None:
        path, size = found
        if path in unlisted and size <= MAX_SMALL_FILE_BYTES:
            unlisted.remove(path)
        elif path not in expected or expected.pop(path).bytes != size:
            raise _refused(name, f"'{path}' is not the file that the manifest lists")
        _extract(reader, work / path, size)
    if expected:
        raise _refused(name, f"'{next(iter(expected))}' is missing")


def _extract(reader: _EntryReader, path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        reader.copy(size, file)


class _EntryReader:
    """Entries of a tar stream one after the other; any header that ``pack`` would not write is refused.

    That leaves no links, devices, directories, long names, sparse files or owners to interpret.
    """

    def __init__(self, stream: IO[bytes], name: str) -> None:
        self._stream, self._name = stream, name

    def header(self) -> tuple[str, int] | None:
        """(path, size) of the next file; None at the proper end of the archive."""
        block = self._exactly(BLOCK)
        if block == bytes(BLOCK):
            if self._exactly(BLOCK) != bytes(BLOCK) or self._stream.read(1):
                raise _refused(self._name, "something follows its end")
            return None
        path, digits = block[:100].rstrip(b"\0"), block[124:135]
        if not path.isascii() or not digits.isdigit() or b"8" in digits or b"9" in digits:
            raise _refused(self._name, "it has a header that is not of a plain file")
        size = int(digits, 8)
        if block != _header(path.decode("ascii"), size):
            raise _refused(self._name, "it has a header that is not of a plain file")
        check_path(path.decode("ascii"), self._name)
        return path.decode("ascii"), size

    def copy(self, size: int, file: IO[bytes]) -> None:
        """The content of the file just read."""
        for start in range(0, size, PIECE_BYTES):
            file.write(self._exactly(min(PIECE_BYTES, size - start)))
        if any(self._exactly(-size % BLOCK)):
            raise _refused(self._name, "its padding is not empty")

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = self._stream.read(count - len(data))
            if not piece:
                raise _refused(self._name, "it ends in the middle")
            data += piece
        return data


def _write_entry(out: IO[bytes], name: str, path: Path) -> None:
    size = path.stat().st_size
    out.write(_header(name, size))
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            out.write(piece)
    out.write(bytes(-size % BLOCK))


def _header(name: str, size: int) -> bytes:
    """The one ustar header that a bundle has for a file."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = size, 0o644, 0
    return entry.tobuf(tarfile.USTAR_FORMAT)


def _refused(name: str, why: str) -> EdgecError:
    return EdgecError("corrupt-archive", f"'{name}' is no bundle archive: {why}", "get a fresh copy")
