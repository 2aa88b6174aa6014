"""Networks written from the papers. One file per family in ``families``, found by being there.

Another package brings a family through an entry point of the group ``edgec.models``: a module with ``SPECS``.
"""

from __future__ import annotations

import pkgutil
from functools import cache, partial
from importlib import import_module
from types import FunctionType, ModuleType

from edgec.pipeline.core.errors import EdgecError, nearest_hint
from edgec.pipeline.core.extensions import bad_extension, extension_names, load_extension
from edgec.pipeline.network.models import families
from edgec.pipeline.network.models.spec import ModelSpec

GROUP = "edgec.models"


@cache
def _own() -> dict[str, ModuleType]:
    """edgec's models and the modules that define them."""
    files = sorted(file.name for file in pkgutil.iter_modules(families.__path__))
    modules = [import_module(f"{families.__name__}.{file}") for file in files]
    return {spec.name: module for module in modules for spec in module.SPECS}


@cache
def _brought() -> dict[str, ModuleType]:
    """The models of other packages. They cannot take the place of edgec's own, or of each other's."""
    found: dict[str, ModuleType] = {}
    for entry in extension_names(GROUP):
        module = load_extension(GROUP, entry)
        specs = getattr(module, "SPECS", None)
        if not isinstance(specs, tuple) or not all(isinstance(spec, ModelSpec) for spec in specs):
            raise bad_extension(GROUP, entry, "has no SPECS, a tuple of ModelSpec")
        for spec in specs:
            if not isinstance(spec.builder, FunctionType | type | partial):
                raise bad_extension(GROUP, entry, f"builds '{spec.name}' by something that is no function and no class")
            if spec.name in _own() or spec.name in found:
                raise bad_extension(GROUP, entry, f"defines '{spec.name}', a name that is taken")
            found[spec.name] = module
    return found


def names() -> tuple[str, ...]:
    """Names that ``get`` accepts. Imports the family files, which load no torch.

    Raises:
        EdgecError: ``bad-extension``.
    """
    return (*_own(), *_brought())


def get(name: str) -> ModelSpec:
    """The specification of one model. edgec's own are there whatever other packages bring.

    Raises:
        EdgecError: ``unknown-model``, with the nearest name as hint; ``bad-extension``.
    """
    specs: tuple[ModelSpec, ...] = _module(name).SPECS
    return next(spec for spec in specs if spec.name == name)


def _module(name: str) -> ModuleType:
    module = _own().get(name) or _brought().get(name)
    if module is None:
        raise EdgecError("unknown-model", f"no model named '{name}'", nearest_hint(name, names()))
    return module
