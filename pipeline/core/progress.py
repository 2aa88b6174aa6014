"""Which stage runs and how far a long step has come. They report; whoever shows it (the command line) listens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Report = Callable[[int, int], None]
"""Called with (done, total)."""

Listener = Callable[[str, int, int], None]
"""Called with (step, done, total)."""

StageListener = Callable[[str, bool], None]
"""Called with a stage's name as it begins, and with whether its result was found instead."""

_listener: ContextVar[Listener | None] = ContextVar("progress_listener", default=None)
_stage_listener: ContextVar[StageListener | None] = ContextVar("stage_listener", default=None)


@contextmanager
def listening(listener: Listener, on_stage: StageListener | None = None) -> Iterator[None]:
    """Send what the steps inside the block report to ``listener``, and their stages to ``on_stage``."""
    steps, stages = _listener.set(listener), _stage_listener.set(on_stage)
    try:
        yield
    finally:
        _listener.reset(steps)
        _stage_listener.reset(stages)


def begins(stage: str, is_found: bool = False) -> None:
    """Tell of a stage that begins, or whose result was found; silent where nobody listens."""
    listener = _stage_listener.get()
    if listener:
        listener(stage, is_found)


def reporter(step: str) -> Report:
    """A report function for ``step``; silent where nobody listens."""
    listener = _listener.get()

    def report(done: int, total: int) -> None:
        if listener:
            listener(step, done, total)

    return report
