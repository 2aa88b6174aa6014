"""What other packages bring: compilers, model families, tasks and metrics by Python entry points."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.foreign import foreign
from edgec.pipeline.core.stage import plain

GROUPS = ("edgec.compilers", "edgec.models", "edgec.tasks", "edgec.metrics")


@cache
def _points() -> Any:  # Python 3.10 calls it SelectableGroups
    """All of this environment: looking for them reads the metadata of every distribution."""
    return entry_points()


@cache
def _found(group: str) -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for point in _points().select(group=group):
        if found.setdefault(point.name, point).value != point.value:
            both = f"'{_package(found[point.name])}' and '{_package(point)}'"
            raise EdgecError("bad-extension", f"{both} both bring the {group} '{point.name}'", "remove one of them")
    return found


def extension_names(group: str) -> tuple[str, ...]:
    """Names under an entry point group such as ``edgec.compilers``, sorted; nothing is loaded.

    Raises:
        EdgecError: ``bad-extension`` where two packages bring the same name.
    """
    return tuple(sorted(_found(group)))


def bringing_packages() -> tuple[str, ...]:
    """Distributions that bring something for edgec, sorted."""
    found = {point.dist.name for group in GROUPS for point in _points().select(group=group) if point.dist is not None}
    return tuple(sorted(found))


def load_extension(group: str, name: str) -> Any:
    """The object behind an entry point, imported now: whatever its code raises is its package's fault.

    Raises:
        EdgecError: ``bad-extension`` where it cannot be imported.
    """
    with foreign(lambda said: bad_extension(group, name, f"cannot be loaded: {said}")):
        return _found(group)[name].load()


def refuse_taken(group: str, name: str) -> None:
    """``name`` is edgec's own: no other package may bring it, which would never be asked.

    Raises:
        EdgecError: ``bad-extension``.
    """
    if name in _points().select(group=group).names:
        raise bad_extension(group, name, "takes a name of edgec's own")


def refuse_keyless(group: str, name: str, found: object) -> None:
    """What stands in a stage must have a key.

    Raises:
        EdgecError: ``bad-extension`` names a field that no key can hold.
    """
    try:
        plain(found)
    except TypeError as error:
        raise bad_extension(group, name, f"cannot be part of a key: {error}") from error


def module_of(found: object) -> str:
    """Where the code of a module, a class or an object of a class is written."""
    if isinstance(found, ModuleType):
        return found.__name__
    return (found if isinstance(found, type) else type(found)).__module__


def check_extension(group: str, name: str, found: Any, wanted: type) -> None:
    """Every public member of the protocol ``wanted`` is there.

    Raises:
        EdgecError: ``bad-extension`` names the first one that is missing.
    """
    members = {*wanted.__annotations__, *vars(wanted)}
    for member in sorted(member for member in members if not member.startswith("_")):
        if not hasattr(found, member):
            hint = f"'{wanted.__module__}.{wanted.__name__}' lists what is wanted"
            raise EdgecError("bad-extension", f"{group} '{name}' has no '{member}'", hint)


def bad_extension(group: str, name: str, why: str) -> EdgecError:
    """For whoever finds that something does not keep to its group's contract."""
    point = _found(group)[name]
    return EdgecError(
        "bad-extension", f"'{point.value}' ({group} '{name}') {why}", f"mend or remove '{_package(point)}'"
    )


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else "the package that brings it"
