"""Templates of firmware projects, one folder for each ecosystem, and the environment that fills them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgec.pipeline.bundle.templates import c_string, comment, markdown
from edgec.pipeline.core.templates import templates_of

if TYPE_CHECKING:
    from jinja2 import Environment


def environment() -> Environment:
    """Jinja with the bundle's filters for C and Markdown."""
    made = templates_of("edgec.pipeline.firmware", escape_html=False)
    made.filters |= {"c_string": c_string, "comment": comment, "md": markdown}
    return made
