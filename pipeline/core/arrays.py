"""``.npy`` and ``.npz`` files from outside: the array that was expected, mapped or copied, or a refusal."""

from __future__ import annotations

import shutil
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.scratch import scratch

HINT = "build it again, or get a fresh copy"
MAX_HEADER_BYTES = 64 << 10
BROKEN_HEADER = (ValueError, TypeError, OverflowError, SyntaxError, RecursionError, tokenize.TokenError)
"""What numpy's parser of a header raises; it evaluates Python literals."""
BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, KeyError, ValueError)
"""What ``zipfile`` raises: no archive, damaged data, a foreign method, a password, other members."""


@dataclass(frozen=True)
class Expected:
    """Type and shape that an array must have."""

    dtype: str
    shape: tuple[int, ...]


def read_array(path: Path, expected: Expected | None, code: str) -> npt.NDArray[Any]:
    """Map a ``.npy`` file into memory: nothing is unpickled, and nothing is larger than the file.

    Args:
        expected: None for any.

    Raises:
        EdgecError: ``code``.
    """
    try:
        array: npt.NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
    except (OSError, EOFError, MemoryError, *BROKEN_HEADER) as error:
        raise EdgecError(code, f"'{path}' cannot be read: {error or 'it is empty'}", HINT) from error
    if expected is not None and (array.dtype != np.dtype(expected.dtype) or array.shape != expected.shape):
        wanted, got = f"{expected.dtype} {expected.shape}", f"{array.dtype} {array.shape}"
        raise EdgecError(code, f"'{path}': expected {wanted}, got {got}", HINT)
    return array


def read_arrays(path: Path, expected: Sequence[Expected], code: str) -> tuple[npt.NDArray[Any], ...]:
    """The arrays of a ``.npz`` file that ``numpy.savez`` wrote without names, copied into memory.

    Raises:
        EdgecError: ``code``.
    """
    with scratch("arrays") as folder:
        members = [folder / f"arr_{i}.npy" for i in range(len(expected))]
        try:
            with zipfile.ZipFile(path) as archive:
                if sorted(archive.namelist()) != sorted(member.name for member in members):
                    raise ValueError(f"expected {len(members)} arrays, got {archive.namelist()[:8]}")
                for member, one in zip(members, expected, strict=True):
                    _unpack(archive, member, np.dtype(one.dtype).itemsize * int(np.prod(one.shape, dtype=object)))
        except (OSError, EOFError, *BROKEN_ZIP) as error:
            raise EdgecError(code, f"'{path}' cannot be read: {error}", HINT) from error
        return tuple(np.array(read_array(member, one, code)) for member, one in zip(members, expected, strict=True))


def _unpack(archive: zipfile.ZipFile, member: Path, num_bytes: int) -> None:
    stated = archive.getinfo(member.name).file_size
    if not num_bytes < stated <= num_bytes + MAX_HEADER_BYTES:
        raise ValueError(f"'{member.name}' has {stated:,} bytes, expected {num_bytes:,} and a header")
    with archive.open(member.name) as packed, member.open("wb") as unpacked:
        shutil.copyfileobj(packed, unpacked)
