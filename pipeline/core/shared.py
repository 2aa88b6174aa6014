"""A store that machines share: kept results as objects, on whatever fsspec reads that can write an object once.

Layout under its address::

    results/<key[:2]>/<key>.tar.zst     a folder of ``store.py``'s ``results``: ``record.json`` and the result
    tmp/                                half-written objects, in a folder alone

Nobody locks. An object is there whole or not at all, and who comes second leaves what is there: a folder renames, an
object store refuses a second put (``If-None-Match``). Nothing is believed that is not what its record says. Who may
write there decides what everybody ships: a digest proves that a result is whole, not who made it.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from edgec.pipeline.core.disk import full_disk_named
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.foreign import foreign
from edgec.pipeline.core.packed import pack, unpack

VARIABLE = "EDGEC_SHARED_CACHE"
INSTALL = "pip install 'edgec[shared]'"
FOLDERS = ("file", "local")
WRITE_ONCE = (*FOLDERS, "memory", "s3", "s3a", "gs", "gcs", "abfs", "az")
"""Protocols that rename, or whose put can be made to fail where an object lies already."""
OBJECT = re.compile(r".*/results/([0-9a-f]{2})/(\1[0-9a-f]{62})\.tar\.zst", re.ASCII)
PART = re.compile(r"[0-9a-f]{16}\.part", re.ASCII)
CHANGED = ("mtime", "LastModified", "last_modified", "updated", "created")
ABANDONED_S = 86_400.0


@dataclass(frozen=True)
class Object:
    """One shared result.

    Attributes:
        changed_s: when it was written, or in a folder last used; seconds since 1970.
    """

    key: str
    size_bytes: int
    changed_s: float


@dataclass(frozen=True)
class Shared:
    """A shared store.

    Attributes:
        url: a folder, or an address such as ``s3://bucket/edgec``. Never with credentials, which the protocol's own
            environment has (``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL``...).
    """

    url: str

    def has(self, key: str) -> bool:
        """The object is there; whether it is whole shows when it is read."""
        with self._reached():
            return bool(self._files.exists(self._path(key)))

    def fetch(self, key: str, folder: Path) -> bool:
        """Unpack the result into the new ``folder``; False where there is none.

        Raises:
            EdgecError: ``shared-cache-unreachable``, ``disk-full`` on this machine.
            Broken: it is no archive of a result.
        """
        packed = folder.with_name(f"{folder.name}.tar.zst")
        with self._reached(), full_disk_named(packed.parent):
            try:
                self._files.get_file(self._path(key), str(packed))
            except FileNotFoundError:
                return False
            if packed.is_dir():  # somebody's folder has the object's name
                return False
            if self._is_folder:
                with suppress(OSError):  # of somebody else: the order of use is a service, not a promise
                    os.utime(self._path(key))
        folder.mkdir()
        unpack(packed, folder)
        packed.unlink()
        return True

    def offer(self, key: str, folder: Path, work: Path) -> None:
        """Put the result there unless it is there already.

        Args:
            work: an empty folder on this machine.

        Raises:
            EdgecError: ``shared-cache-unreachable``.
        """
        packed = work / "packed"
        pack(folder, packed)
        with self._reached():
            if self._is_folder:
                self._rename_into_place(packed, Path(self._path(key)))
            else:
                with suppress(FileExistsError):
                    self._files.put_file(str(packed), self._path(key), mode="create")

    def objects(self) -> list[Object]:
        """Every shared result, the one longest unused first; what is named otherwise is somebody else's."""
        with self._reached():
            strict = {"on_error": _unless_missing} if self._is_folder else {}
            found = self._files.find(f"{self._root}/results", detail=True, **strict)
            objects = [
                Object(named[2], int(about["size"]), _seconds(about))
                for path, about in found.items()
                if about["type"] == "file" and (named := OBJECT.fullmatch(path))
            ]
        return sorted(objects, key=lambda one: (one.changed_s, one.key))

    def delete(self, keys: Iterable[str]) -> None:
        """Delete these results, and what killed writers left in a folder a day ago or longer."""
        with self._reached():
            for key in keys:
                with suppress(FileNotFoundError):  # somebody else deletes too
                    self._files.rm_file(self._path(key))
            for path in Path(self._root, "tmp").glob("*.part") if self._is_folder else ():
                with suppress(FileNotFoundError):
                    if PART.fullmatch(path.name) and time.time() - path.stat().st_mtime > ABANDONED_S:
                        path.unlink()

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        """fsspec's file system, and the address as it names paths.

        Raises:
            EdgecError: ``bad-shared-cache``, ``missing-fsspec``.
        """
        _check(self.url)
        try:
            from fsspec.core import url_to_fs
            from fsspec.implementations.local import LocalFileSystem
        except ImportError:
            raise EdgecError("missing-fsspec", "a shared cache needs fsspec", INSTALL) from None
        if self._is_folder:  # not by its address: '::' in a folder's name would chain two
            return LocalFileSystem(), str(LocalFileSystem._strip_protocol(self.url)).rstrip("/")
        try:
            with self._reached():
                files, root = url_to_fs(self.url, use_listings_cache=False)
        except EdgecError as error:
            if isinstance(error.__cause__, ImportError):  # fsspec names the package that this protocol needs
                raise EdgecError("missing-fsspec", f"'{self.url}': {error.__cause__}", INSTALL) from error
            raise
        return files, str(root).rstrip("/")

    @property
    def _files(self) -> Any:
        return self._opened[0]

    @property
    def _root(self) -> str:
        return self._opened[1]

    @property
    def _is_folder(self) -> bool:
        return _protocol(self.url) in FOLDERS

    def _path(self, key: str) -> str:
        return f"{self._root}/results/{key[:2]}/{key}.tar.zst"

    def _rename_into_place(self, packed: Path, path: Path) -> None:
        if path.exists():
            return
        part = Path(self._root, "tmp", f"{secrets.token_hex(8)}.part")
        for folder in (part.parent, path.parent):
            folder.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(packed, part)
            part.rename(path)
        finally:
            part.unlink(missing_ok=True)

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """Whatever the protocol's package raises is told of the address."""
        hint = "check the address, the network and what credentials the environment has"
        where = f"cannot use the shared cache '{self.url}'"
        with foreign(lambda said: EdgecError("shared-cache-unreachable", f"{where}: {said}", hint)):
            yield


def default_shared() -> Shared | None:
    """``$EDGEC_SHARED_CACHE``; None where nothing is shared."""
    url = os.environ.get(VARIABLE)
    return Shared(url) if url else None


def named_shared() -> Shared:
    """The shared store, for a command that is about it.

    Raises:
        EdgecError: ``no-shared-cache``, ``bad-shared-cache``.
    """
    shared = default_shared()
    if shared is None:
        hint = f"set {VARIABLE}, or shared-cache in edgec.toml, to a folder or an address like s3://bucket/edgec"
        raise EdgecError("no-shared-cache", "no shared cache is named", hint)
    _check(shared.url)
    return shared


def _protocol(url: str) -> str:
    return url.partition("://")[0] if "://" in url else "file"


def _check(url: str) -> None:
    """A place; no credentials, which would be shown in every message; and nothing that overwrites.

    Raises:
        EdgecError: ``bad-shared-cache``.
    """
    protocol = _protocol(url)
    if protocol not in WRITE_ONCE:
        hint = "known: a folder, " + ", ".join(f"{name}://" for name in WRITE_ONCE)
        raise EdgecError("bad-shared-cache", f"'{protocol}://' cannot be told to write an object once", hint)
    place = url.removeprefix(f"{protocol}://")
    if not place.strip("/ ") or (protocol not in FOLDERS and place.startswith("/")):
        hint = "name a folder, or an address like s3://bucket/edgec"
        raise EdgecError("bad-shared-cache", f"'{url}' names no folder and no bucket", hint)
    if protocol != "file" and "@" in urlsplit(url).netloc and protocol not in ("abfs", "az"):
        hint = "leave them to the environment: AWS_ACCESS_KEY_ID, a role, a profile"
        raise EdgecError("bad-shared-cache", f"an address of '{protocol}://' with credentials in it", hint)


def _unless_missing(error: OSError) -> None:
    """A folder that is not there has nothing in it; one that cannot be read may have."""
    if not isinstance(error, FileNotFoundError):
        raise error


def _seconds(about: dict[str, Any]) -> float:
    stated = next((about[name] for name in CHANGED if about.get(name) is not None), 0.0)
    return float(stated.timestamp() if hasattr(stated, "timestamp") else stated)
