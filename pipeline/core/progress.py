"""How far a long step has come. Stages report; whoever shows it (the command line) listens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Report = Callable[[int, int], None]
"""Called with (done, total)."""

Listener = Callable[[str, int, int], None]
"""Called with (step, done, total)."""

_listener: ContextVar[Listener | None] = ContextVar("progress_listener", default=None)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Send what the steps inside the block report to ``listener``."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def reporter(step: str) -> Report:
    """A report function for ``step``; silent where nobody listens."""
    listener = _listener.get()

    def report(done: int, total: int) -> None:
        if listener:
            listener(step, done, total)

    return report
