"""Networks written from the papers. One file per family; the registry is the file names of this folder."""

from __future__ import annotations

import hashlib
import pkgutil
from functools import cache
from importlib import import_module
from pathlib import Path

from edgec.pipeline.core.errors import EdgecError, nearest_hint
from edgec.pipeline.network.models.spec import ModelSpec

_NOT_FAMILIES = frozenset(
    {"blocks", "cards", "complexity", "download", "initialise", "padding", "shapes", "spec", "state_dict", "weights"}
)


@cache
def _families() -> dict[str, tuple[ModelSpec, ...]]:
    files = sorted(file.name for file in pkgutil.iter_modules(__path__) if file.name not in _NOT_FAMILIES)
    return {file: import_module(f"{__name__}.{file}").SPECS for file in files}


def names() -> tuple[str, ...]:
    """Names that ``get`` accepts. Imports the family files, which load no torch."""
    return tuple(spec.name for specs in _families().values() for spec in specs)


def get(name: str) -> ModelSpec:
    """The specification of one model.

    Raises:
        EdgecError: ``unknown-model``, with the nearest name as hint.
    """
    return _find(name)[1]


def definition_sha256(name: str) -> str:
    """Digest of the source that decides what a network computes: its family's file and those that all share.

    Raises:
        EdgecError: ``unknown-model``.
    """
    family, _ = _find(name)
    digest = hashlib.sha256()
    for file in sorted({*_NOT_FAMILIES, family}):
        digest.update((Path(__path__[0]) / f"{file}.py").read_bytes())
    return digest.hexdigest()


def _find(name: str) -> tuple[str, ModelSpec]:
    for family, specs in _families().items():
        for spec in specs:
            if spec.name == name:
                return family, spec
    raise EdgecError("unknown-model", f"no model named '{name}'", nearest_hint(name, names()))
