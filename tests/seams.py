"""What a board asks of its compiler, for tests that call compilers themselves."""

from __future__ import annotations

from typing import Any

from edgec.pipeline.forms.compiler import load_compiler
from edgec.pipeline.forms.spec import TargetSpec, load_target


def settings_of(board: str | TargetSpec) -> Any:
    """By the board's name, or of a board at hand."""
    target = load_target(board) if isinstance(board, str) else board
    return load_compiler(target.compiler).settings(target)
