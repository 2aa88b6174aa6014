"""What other packages bring: compilers, model families, tasks and metrics by Python entry points."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from edgec.pipeline.core.errors import EdgecError


@cache
def _found(group: str) -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=group):
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


def load_extension(group: str, name: str) -> Any:
    """The object behind an entry point, imported now.

    Raises:
        EdgecError: ``bad-extension`` where it cannot be imported.
    """
    try:
        return _found(group)[name].load()
    except (ImportError, AttributeError, SyntaxError) as error:
        raise bad_extension(group, name, f"cannot be loaded: {error}") from error


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
