"""Networks written from the papers. One file per family; the registry is the file names of this folder."""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module

from edgec.pipeline.errors import EdgecError, nearest_hint
from edgec.pipeline.models.spec import ModelSpec

_NOT_FAMILIES = frozenset(
    {"blocks", "cards", "complexity", "download", "initialise", "padding", "shapes", "spec", "state_dict", "weights"}
)


@cache
def _registry() -> dict[str, ModelSpec]:
    families = sorted(file.name for file in pkgutil.iter_modules(__path__) if file.name not in _NOT_FAMILIES)
    specs = (spec for family in families for spec in import_module(f"{__name__}.{family}").SPECS)
    return {spec.name: spec for spec in specs}


def names() -> tuple[str, ...]:
    """Names that ``get`` accepts. Imports the family files, which load no torch."""
    return tuple(_registry())


def get(name: str) -> ModelSpec:
    """The specification of one model.

    Raises:
        EdgecError: ``unknown-model``, with the nearest name as hint.
    """
    spec = _registry().get(name)
    if spec is None:
        raise EdgecError("unknown-model", f"no model named '{name}'", nearest_hint(name, names()))
    return spec
