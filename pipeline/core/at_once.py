"""The same work on several things at once, in threads: for calls into libraries that let go of Python's lock."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from queue import SimpleQueue
from threading import Lock
from typing import Generic, TypeVar

Thing = TypeVar("Thing")
Made = TypeVar("Made")

MOST_AT_ONCE = 8
"""Images that are answered side by side: each takes the memory of all its maps."""


def num_cores() -> int:
    """That this process may use: a container, or ``taskset``, may leave it fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def side_by_side(threads: int) -> tuple[int, int]:
    """(images at once, threads of each): as many images as are allowed, on nearly all threads."""
    each = -(-max(threads, 1) // MOST_AT_ONCE)
    return max(threads, 1) // each, each


def each_at_once(work: Callable[[Thing], Made], things: Sequence[Thing], at_once: int) -> list[Made]:
    """``[work(thing) for thing in things]``, ``at_once`` of them side by side; the first exception is raised."""
    if at_once < 2 or len(things) < 2:
        return [work(thing) for thing in things]
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(work, things))


class Crew(Generic[Thing]):
    """Things that serve one caller at a time, made when they are first needed.

    Args:
        make: all of them.
    """

    def __init__(self, make: Callable[[], Iterable[Thing]]) -> None:
        self._make, self._making = make, Lock()
        self._free: SimpleQueue[Thing] | None = None

    @contextmanager
    def one(self) -> Iterator[Thing]:
        """One that is free, given back whatever happens."""
        free = self._ready()
        thing = free.get()
        try:
            yield thing
        finally:
            free.put(thing)

    def _ready(self) -> SimpleQueue[Thing]:
        with self._making:
            if self._free is None:
                free: SimpleQueue[Thing] = SimpleQueue()
                for thing in self._make():
                    free.put(thing)
                self._free = free
            return self._free
