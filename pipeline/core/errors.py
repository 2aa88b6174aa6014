"""The one exception that edgec raises for a user's mistake or a broken input. Imports nothing of edgec."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class EdgecError(Exception):
    """A refusal: what is wrong, where, and the next command to type.

    Attributes:
        code: kebab-case, stable, listed in ``docs/errors.md``.
        message: what is wrong, with the value in quotes and ``expected ... got ...``.
        hint: one sentence that says what to do next.
    """

    def __init__(self, code: str, message: str, hint: str) -> None:
        super().__init__(code, message, hint)
        self.code = code
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"error[{self.code}]: {self.message}\nhint: {self.hint}"


def nearest_hint(name: str, known: Iterable[str]) -> str:
    """``did you mean 'x'?`` where a known name is close, else the list of known names."""
    known = sorted(known)
    close = get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else "known: " + ", ".join(known)


def printable(text: str) -> str:
    """``text`` without what a terminal would obey: control characters become U+FFFD, line ends and tabs stay."""
    return "".join(c if c in "\n\t" or (c >= " " and not "\x7f" <= c < "\xa0") else "\ufffd" for c in text)
