"""Signals: Ctrl-C, SIGTERM and SIGHUP end edgec with one line and nothing left behind, in native code too.

No exception is raised for a signal: one that surfaces in a callback of a C++ library aborts the process. Instead the
process tidies up and ends where it is. A thread does it where native code keeps Python's handler from running.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType

from edgec.pipeline.core.scratch import abandon  # here: a signal may come while a module is half imported

SIGNALS = {name: getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)}
KEPT = "finished stages are kept, the next run continues there"
SHOW_CURSOR = "\r\x1b[2K\x1b[?25h"  # where a progress bar was drawn

INTERRUPTED, TERMINATED = 130, 143  # as a shell says of SIGINT and SIGTERM; a hung-up terminal terminates as well
GRACE_S = 0.5  # for the main thread to come out of a call that makes a file

_ending = threading.Lock()  # never released: the process is gone
_ender: list[int] = []
_stderr: list[int] = []  # the one that the process began with, wherever a library points 2 meanwhile; none if closed


def end_cleanly() -> None:
    """Take over the signals that end a process, except those that the caller's shell ignores (``nohup``)."""
    with suppress(OSError):
        _stderr[:] = [os.dup(2)]
    for number in SIGNALS.values():
        if signal.getsignal(number) not in (signal.SIG_IGN, None):
            signal.signal(number, _end)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reader,), daemon=True).start()


def _watch(reader: int) -> None:
    """Whatever the main thread does: the interpreter writes a signal's number into the pipe at once."""
    while True:
        for number in os.read(reader, 16):
            if signal.getsignal(number) is _end:
                time.sleep(GRACE_S)
                _end(number, None)


def _end(number: int, _frame: FrameType | None) -> None:
    if _ender == [threading.get_ident()]:
        return  # a second signal while we tidy up
    _ending.acquire()
    _ender.append(threading.get_ident())
    _kill(_descendants(os.getpid()))
    abandon()
    words = "interrupted" if number == signal.SIGINT else f"ended by {signal.Signals(number).name}"
    for stream in _stderr:
        bar = SHOW_CURSOR if os.isatty(stream) else ""
        with suppress(OSError):
            os.write(stream, f"{bar}{words}; {KEPT}\n".encode())
    os._exit(INTERRUPTED if number == signal.SIGINT else TERMINATED)


def _kill(processes: list[int]) -> None:
    for process in processes:
        with suppress(OSError):
            os.kill(process, signal.SIGKILL)
    for process in processes:
        with suppress(OSError):  # also: the thread that waits for its child was faster
            os.waitpid(process, 0)


def _descendants(process: int) -> list[int]:
    """From ``/proc``; where there is none, a terminal's Ctrl-C still reaches them."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):
            parent = int(stat.read_text(errors="replace").rpartition(")")[2].split()[1])
            parents.setdefault(parent, []).append(int(stat.parent.name))
    return list(_below(parents, process))


def _below(parents: dict[int, list[int]], process: int) -> Iterator[int]:
    for child in parents.get(process, []):
        yield child
        yield from _below(parents, child)
