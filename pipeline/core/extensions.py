"""What other packages bring: compilers, model families, tasks and metrics by Python entry points."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from edgec.pipeline.core.errors import EdgecError


@cache
def _found(group: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=group)}


def extension_names(group: str) -> tuple[str, ...]:
    """Names under an entry point group such as ``edgec.compilers``, sorted; nothing is loaded."""
    return tuple(sorted(_found(group)))


def load_extension(group: str, name: str) -> Any:
    """The object behind an entry point, imported now.

    Raises:
        EdgecError: ``bad-extension`` where it cannot be imported.
    """
    point = _found(group)[name]
    try:
        return point.load()
    except (ImportError, AttributeError, SyntaxError) as error:
        hint = "update or remove the package that brings it"
        raise EdgecError(
            "bad-extension", f"'{point.value}' ({group} '{name}') cannot be loaded: {error}", hint
        ) from error


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
