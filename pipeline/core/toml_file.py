"""Files read from outside: TOML text checked field by field against a frozen dataclass."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast, get_args, get_origin, get_type_hints

from edgec.pipeline.core.errors import EdgecError, nearest_hint

if TYPE_CHECKING:
    from pydantic import TypeAdapter

T = TypeVar("T")

UNKNOWN = ("unexpected_keyword_argument", "extra_forbidden")  # pydantic's names for a field that does not exist
STRICT = {"extra": "forbid"}  # a dataclass read from outside carries this as ``__pydantic_config__``

MAX_BYTES = 1 << 20
MAX_NAME = 200  # characters of a key that a message repeats
MAX_DEPTH = 32
"""Brackets within brackets, and parts of a dotted key. A parser takes square the memory of what it is nested."""

_TOKEN = re.compile(
    r"""
    \"{3}(?:\\.|[^\\])*?(?:\"{3}|\Z) | '{3}.*?(?:'{3}|\Z)     # strings of many lines; one left open runs to the end
    | "(?:\\.|[^"\\\n])*"? | '[^'\n]*'? | \#[^\n]*            # strings of one line, comments
    | (?P<opens>[\[{]) | (?P<closes>[\]}]) | (?P<dot>\.) | (?P<separates>[,=\n])
    """,
    re.DOTALL | re.VERBOSE,
)

_HEADER = re.compile(r"\s*\[+(?P<name>[^\[\]]+)\]+\s*(#.*)?$")
_KEY = re.compile(r"""\s*(?P<name>[\w."'-]+(\s*\.\s*[\w"'-]+)*)\s*=""")


def read_toml(path: Path, code: str) -> dict[str, Any]:
    """A TOML file as data; a byte order mark is skipped.

    Raises:
        EdgecError: ``no-such-file``; ``code`` for a file that cannot be read, with the line that does not parse, and
            for a number that is not finite or needs more than 64 bits.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    text = _text(path, code)
    depth = _depth(text)
    if depth > MAX_DEPTH:
        message = f"'{path}' is nested deeper than {MAX_DEPTH} levels"
        raise EdgecError(code, message, "edgec reads no such file: mend it")
    try:
        data = tomllib.loads(text)
    except (
        ValueError
    ) as error:  # TOMLDecodeError is one; Python's own for a number of more than 4,300 digits is another
        raise EdgecError(code, f"'{path}' is not TOML: {error}", "mend the file") from error
    for name, value in _values("", data):
        if isinstance(value, float) and not math.isfinite(value):
            message = f"'{path}': {name[:MAX_NAME]} is {value}, expected a finite number"
            raise EdgecError(code, message, "mend the named field")
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            message = f"'{path}': {name[:MAX_NAME]} needs more than 64 bits"
            raise EdgecError(code, message, "mend the named field")
    return data


FILE_ENDS = (".toml", ".onnx", ".safetensors", ".pth", ".pt", ".ckpt", ".tar", ".bin")
"""Of models, boards, schemes and weights that are files; a name of edgec's own has none of them."""


def is_file_name(value: str) -> bool:
    """Where a name or a file may stand: it is a file, with ``#ENTRY`` or without."""
    return "://" not in value and ("/" in value or value.partition("#")[0].endswith(FILE_ENDS))


def key_lines(path: Path) -> dict[str, int]:
    """The line of each dotted key of a TOML file that parses, for messages; ``_`` in keys as ``-``.

    Keys inside inline tables are not found, and in a string of many lines a line may be taken for a key.
    """
    found: dict[str, int] = {}
    table = ""
    for number, line in enumerate(path.read_text("utf-8-sig").splitlines(), 1):
        if header := _HEADER.match(line):
            table = header["name"]
        elif key := _KEY.match(line):
            found.setdefault(_dotted(table, key["name"]), number)
    return found


def _dotted(*parts: str) -> str:
    return ".".join(word.strip(" \t\"'") for part in parts if part for word in part.split(".")).replace("_", "-")


def _text(path: Path, code: str) -> str:
    if os.path.isdir(path):
        raise EdgecError(code, f"'{path}' is a folder, expected a TOML file", "give the file")
    if not os.path.isfile(path):
        raise EdgecError("no-such-file", f"no file '{path}'", "check the path")
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise EdgecError(code, f"'{path}' has more than {MAX_BYTES:,} bytes", "edgec reads no such file: mend it")
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise EdgecError(code, f"'{path}' is not UTF-8: {error}", "save it as UTF-8") from error
    except OSError as error:
        raise EdgecError(code, f"cannot read '{path}': {error.strerror}", "check its permissions") from error


def _depth(text: str) -> int:
    """The most brackets open at once, or parts of one dotted key, whichever is more; text in strings counts nothing."""
    deepest = opened = dots = 0
    for token in _TOKEN.finditer(text):
        kind = token.lastgroup
        if kind == "dot":
            dots += 1
        elif kind is not None:
            opened += (kind == "opens") - (kind == "closes")
            dots = 0
        deepest = max(deepest, opened, dots)
    return deepest


def _values(name: str, value: object) -> Iterator[tuple[str, object]]:
    """Every value that is no table and no array, with its dotted name."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _values(f"{name}.{key}" if name else key, inner)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _values(f"{name}.{index}", inner)
    else:
        yield name, value


@cache
def adapter(kind: Any) -> TypeAdapter[Any]:
    """pydantic's, made once of each type."""
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def validate(kind: type[T], data: Mapping[str, Any], path: Path, code: str, within: str = "") -> T:
    """``data`` as a ``kind``; every wrong, missing or unknown field is named, with the nearest name for an unknown one.

    Args:
        within: the table of the file that ``data`` is.

    Raises:
        EdgecError: ``code``.
    """
    from pydantic import ValidationError

    try:
        checked: T = adapter(cast(Any, kind)).validate_python(data)
        return checked
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False)
        named = [".".join(map(str, (*([within] if within else []), *e["loc"]))) or "file" for e in found]
        messages = [problem["msg"].removeprefix("Value error, ") for problem in found]
        wrong = "; ".join(f"{name[:MAX_NAME]}: {text}" for name, text in list(zip(named, messages, strict=True))[:10])
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
