"""Files read from outside: TOML text checked field by field against a frozen dataclass."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, TypeVar

from edgec.pipeline.core.errors import EdgecError

T = TypeVar("T")

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


def validate(kind: type[T], data: dict[str, Any], path: Path, code: str) -> T:
    """``data`` as a ``kind``; every wrong, missing or unknown field is named.

    Raises:
        EdgecError: ``code``.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(kind).validate_python(data)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors()[:10])
        raise EdgecError(code, f"'{path}': {wrong}", "mend the named fields") from error
