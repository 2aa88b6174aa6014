"""Files read from outside: TOML text checked field by field against a frozen dataclass."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from edgec.pipeline.core.errors import EdgecError, nearest_hint

T = TypeVar("T")

UNKNOWN = ("unexpected_keyword_argument", "extra_forbidden")  # pydantic's names for a field that does not exist
STRICT = {"extra": "forbid"}  # a dataclass read from outside carries this as ``__pydantic_config__``


def read_toml(path: Path, code: str) -> dict[str, Any]:
    """A TOML file as data.

    Raises:
        EdgecError: ``no-such-file``; ``code`` with the line that does not parse.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise EdgecError("no-such-file", f"no file '{path}'", "check the path") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise EdgecError(code, f"'{path}' is not TOML: {error}", "mend the file") from error


def validate(kind: type[T], data: Mapping[str, Any], path: Path, code: str, within: str = "") -> T:
    """``data`` as a ``kind``; every wrong, missing or unknown field is named, with the nearest name for an unknown one.

    Args:
        within: the table of the file that ``data`` is.

    Raises:
        EdgecError: ``code``.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(kind).validate_python(data)
    except ValidationError as error:
        found = error.errors()
        named = [".".join(map(str, (*([within] if within else []), *e["loc"]))) or "file" for e in found]
        wrong = "; ".join(f"{name}: {e['msg']}" for name, e in list(zip(named, found, strict=True))[:10])
        unknown = next((e["loc"] for e in found if e["type"] in UNKNOWN), ("",))
        known = field_names(kind, unknown[:-1]) if unknown[-1] else ()
        hint = nearest_hint(str(unknown[-1]), known) if known else "mend the named fields"
        raise EdgecError(code, f"'{path}': {wrong}", hint) from error


def field_names(kind: Any, place: tuple[int | str, ...] = ()) -> tuple[str, ...]:
    """Fields of the dataclass or model that stands at ``place`` inside ``kind``; none where there is no such thing."""
    inner = get_args(kind)
    if inner:  # X | None, tuple[X, ...], dict[str, X]
        rest = place[1:] if get_origin(kind) in (tuple, list, dict) else place
        return next((names for names in (field_names(member, rest) for member in inner) if names), ())
    fields = getattr(kind, "__dataclass_fields__", None) or getattr(kind, "model_fields", {})
    if not place or not fields:
        return tuple(fields)
    return field_names(get_type_hints(kind).get(str(place[0])), place[1:])
