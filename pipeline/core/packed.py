"""A kept result as one file: a compressed archive of plain files, without owner, mode and time."""

from __future__ import annotations

import errno
import shutil
import tarfile
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from edgec.pipeline.core.disk import UNUSABLE_PATH

LEVEL = 3


class Broken(Exception):
    """It is no archive of a result."""


def pack(folder: Path, packed: Path) -> None:
    """All files of ``folder`` by their names."""
    import zstandard

    with (
        packed.open("wb") as raw,
        zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).stream_writer(raw) as stream,
        tarfile.open(fileobj=cast(BinaryIO, stream), mode="w|", format=tarfile.PAX_FORMAT) as archive,
    ):
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = tarfile.TarInfo(path.relative_to(folder).as_posix())
            entry.size = path.stat().st_size
            with path.open("rb") as file:
                archive.addfile(entry, file)


def unpack(packed: Path, folder: Path) -> None:
    """Put plain files into ``folder``, and nothing else anywhere.

    Raises:
        Broken: anything else is in it, or it ends early.
    """
    import zstandard

    try:
        with (
            packed.open("rb") as raw,
            zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True) as stream,
            tarfile.open(fileobj=cast(BinaryIO, stream), mode="r|") as archive,
        ):
            for entry in archive:
                name = PurePosixPath(entry.name)
                file = archive.extractfile(entry) if entry.isreg() else None
                if file is None or name.is_absolute() or ".." in name.parts or not name.parts:
                    raise Broken(f"'{entry.name[:80]}' is no plain file inside it")
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("xb") as out:
                    shutil.copyfileobj(file, out)
    except (tarfile.TarError, zstandard.ZstdError, EOFError, RecursionError, ValueError) as error:
        raise Broken(f"it is no archive of a result: {error}") from error
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTDIR, *UNUSABLE_PATH):
            raise
        raise Broken(f"its names are none of a result: {error.strerror}") from error
