"""A stage of a build, what it takes and makes, and the key under which its result is kept.

The key covers everything that decides the result: the stage's fields, the source of all code that computes it, the
versions of its toolchain, and its inputs by content.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib import metadata
from pathlib import Path
from types import FunctionType
from typing import Any, Protocol

from edgec.pipeline.core.code import code_digests
from edgec.pipeline.core.kept import digest_of

NOT_INSTALLED = "not installed"


@dataclass(frozen=True)
class Artifact:
    """One immutable file or folder and the sha256 of its content (of its sorted tree, for a folder)."""

    path: Path
    sha256: str


class Stage(Protocol):
    """One step. A frozen dataclass: its fields are its whole configuration and thereby its cache key.

    Attributes:
        output: name of the file or folder that the step makes.
        toolchain: distributions whose versions decide the result.
    """

    @property
    def output(self) -> str: ...

    @property
    def toolchain(self) -> tuple[str, ...]: ...

    def run(self, output: Path, *inputs: Artifact) -> None:
        """Make ``output`` from ``inputs``; nothing else may be written."""


def stage_name(stage: Stage) -> str:
    """Its verb, and its ``label`` where one stage runs several times in a build: ``answer float``."""
    return " ".join(filter(None, (type(stage).__name__.lower(), getattr(stage, "label", ""))))


def stage_key(stage: Stage, inputs: tuple[Artifact, ...]) -> str:
    """Full sha256 of canonical JSON (RFC 8785) of {stage, code, output, parameters, toolchain, inputs}."""
    return digest_of(described(stage, inputs))


def stage_modules(stage: Stage) -> frozenset[str]:
    """Modules that decide what a stage computes: of its class, and of every class and function among its fields.

    A task thereby brings in its own package. What a stage or a field of it loads by a name, a compiler say, it states
    in ``loads``.
    """
    return frozenset(module for part in parts_of(stage) for module in _modules_of(part))


def parts_of(value: object) -> Iterator[object]:
    """A stage's field, and all that lies in it: ``value`` first. Fields that are not compared decide nothing."""
    yield value
    inner: Iterable[object] = ()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        inner = (getattr(value, field.name) for field in dataclasses.fields(value) if field.compare)
    elif isinstance(value, Mapping):
        inner = value.values()
    elif isinstance(value, tuple | list):
        inner = value
    elif isinstance(value, partial):
        inner = (value.func, value.args, value.keywords)
    for one in inner:
        yield from parts_of(one)


def _modules_of(part: object) -> Iterator[str]:
    if isinstance(part, FunctionType | type):
        yield part.__module__
    elif dataclasses.is_dataclass(part):
        yield type(part).__module__
        yield from getattr(part, "loads", ())


def tree_sha256(path: Path) -> str:
    """sha256 of a file, or of a folder's sorted ``(name, sha256)`` lines. Links are not followed out of it."""
    if path.is_file():
        return file_sha256(path)
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()}\0{file_sha256(file)}\n".encode())
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """sha256 of one file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(file)


def source(path: Path) -> Artifact:
    """A file or folder of the user's, as an input of a stage."""
    return Artifact(path, tree_sha256(path))


def _digest(file: Any) -> str:
    """``hashlib.file_digest`` for Python 3.10."""
    digest = hashlib.sha256()
    while piece := file.read(1 << 20):
        digest.update(piece)
    return digest.hexdigest()


def described(stage: Stage, inputs: tuple[Artifact, ...]) -> dict[str, Any]:
    """All that a key is made of, as a record keeps it."""
    return {
        "stage": type(stage).__name__,
        "code": code_digests(stage_modules(stage)),
        "output": stage.output,
        "parameters": plain(stage),
        "toolchain": {name: installed_version(name) for name in stage.toolchain},
        "inputs": [artifact.sha256 for artifact in inputs],
    }


def plain(value: object) -> Any:
    """A value of frozen dataclasses, tuples and scalars as JSON data; dataclasses carry their class name.

    Raises:
        TypeError: a field has no canonical form (our bug, never the user's).
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        named = {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value) if f.compare}
        return {"class": type(value).__name__, **named}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, FunctionType | type):
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, partial):
        return [plain(value.func), plain(value.args), plain(value.keywords)]
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    raise TypeError(f"a stage's field cannot be {type(value).__name__}: {value!r}")


@lru_cache
def installed_version(distribution: str) -> str:
    """As its own metadata has it, or ``NOT_INSTALLED``."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return NOT_INSTALLED
