"""Templates of what a bundle contains, and the environment that fills them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from edgec.pipeline.core.templates import templates_of

if TYPE_CHECKING:
    from jinja2 import Environment


def environment() -> Environment:
    """Jinja with C literals as filters."""
    from edgec.pipeline.bundle.c_sources import c_float

    made = templates_of("edgec.pipeline.bundle", escape_html=False)  # what goes in is escaped by the filters below
    made.filters |= {"c_float": c_float, "c_string": c_string, "c_number": c_number, "comment": comment, "md": markdown}
    return made


def c_string(text: str) -> str:
    """A C string literal in UTF-8; everything but letters, digits, space, comma and hyphen as octal escapes."""
    plain = re.compile(rb"[A-Za-z0-9 ,-]")
    body = "".join(chr(byte) if plain.fullmatch(bytes([byte])) else f"\\{byte:03o}" for byte in text.encode("utf-8"))
    return f'"{body}"'


def c_number(value: float | int | None, dtype: str) -> str:
    """An element of an input tensor; None stands for a value that is not read."""
    from edgec.pipeline.bundle.c_sources import c_float

    return c_float(float(value or 0)) if dtype == "float32" else str(int(value or 0))


def comment(text: str) -> str:
    """A name that cannot end a C comment."""
    return re.sub(r"[^\w .:/+-]", "_", text, flags=re.ASCII)


def markdown(text: str) -> str:
    """Text that stays text in a Markdown table."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", " ".join(text.split()))
