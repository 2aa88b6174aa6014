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

RemarkListener = Callable[[str], None]
"""Called with a sentence that whoever waits should read."""

_listener: ContextVar[Listener | None] = ContextVar("progress_listener", default=None)
_stage_listener: ContextVar[StageListener | None] = ContextVar("stage_listener", default=None)
_remark_listener: ContextVar[RemarkListener | None] = ContextVar("remark_listener", default=None)


@contextmanager
def listening(
    listener: Listener, on_stage: StageListener | None = None, on_remark: RemarkListener | None = None
) -> Iterator[None]:
    """Send what the steps inside the block report to ``listener``, their stages and their remarks to the others."""
    steps, stages, remarks = _listener.set(listener), _stage_listener.set(on_stage), _remark_listener.set(on_remark)
    try:
        yield
    finally:
        _listener.reset(steps)
        _stage_listener.reset(stages)
        _remark_listener.reset(remarks)


def begins(stage: str, is_found: bool = False) -> None:
    """Tell of a stage that begins, or whose result was found; silent where nobody listens."""
    listener = _stage_listener.get()
    if listener:
        listener(stage, is_found)


def remark(words: str) -> None:
    """Say something that stops nothing; silent where nobody listens."""
    listener = _remark_listener.get()
    if listener:
        listener(words)


def reporter(step: str) -> Report:
    """A report function for ``step``; silent where nobody listens."""
    listener = _listener.get()

    def report(done: int, total: int) -> None:
        if listener:
            listener(step, done, total)

    return report
