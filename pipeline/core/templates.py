"""The one way to fill a template: a name that it uses and nobody gives is an error."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup


@cache
def templates_of(package: str, escape_html: bool) -> Environment:
    """Jinja over the folder ``templates`` of ``package``; one for the whole process, which compiles a template once.

    Args:
        escape_html: for HTML; other texts need filters of their own for what goes into them.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(package, "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=escape_html,
    )
    environment.filters["breakable"] = breakable
    return environment


def breakable(name: str) -> Markup:
    """HTML of a name: it may break behind ``/ . _ : -`` before it breaks within a word; words break between them."""
    from markupsafe import Markup, escape

    if " " in name:
        return escape(name)
    return Markup("<wbr>").join(escape(part) for part in re.split(r"(?<=[/._:-])(?=\w)", name))
