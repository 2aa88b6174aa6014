"""One try: a folder of its own, a seeded stream of numbers, and the rules by which a command survives."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from attacks.forked import Command, Forks

LIMIT_S = 60.0
HANGS_S = 300.0
LIMIT_BYTES = 2 << 30
STATUSES = frozenset({0, 1, 2, 3, 4})
EMPTY = ("here", "tmp", "home")
CODE = re.compile(r"^error\[([a-z0-9-]+)\]", re.MULTILINE)


@dataclass(frozen=True)
class Done:
    """How a command ended.

    Attributes:
        seconds: of a processor, its children's included; other work may share the machine.
        peak_bytes: of the largest of its processes, resident.
    """

    status: int
    out: str
    err: str
    seconds: float
    peak_bytes: int

    @property
    def code(self) -> str:
        found = CODE.search(self.err)
        return found.group(1) if found else ""


@dataclass(frozen=True)
class Running:
    """A command, in a process group of its own."""

    forks: Forks
    process: int
    out: Path
    err: Path

    def wait(self) -> Done:
        """Whatever it started ends with it; and so does one that hangs."""
        until = time.monotonic() + HANGS_S
        while not (ended := os.wait4(self.process, os.WNOHANG))[0]:
            self.forks.serve()
            if time.monotonic() > until:
                self._kill_group()
        self._kill_group()
        self.forks.serve()
        out, err = (path.read_text(encoding="utf-8", errors="replace") for path in (self.out, self.err))
        seconds, peak_bytes = self.forks.used.pop(self.process, (0.0, 0))
        usage = ended[2]
        seconds += usage.ru_utime + usage.ru_stime
        return Done(os.waitstatus_to_exitcode(ended[1]), out, err, seconds, max(peak_bytes, usage.ru_maxrss << 10))

    def send(self, number: signal.Signals, after_s: float) -> None:
        """Signal the command when it has used so much of a processor, which other work on the machine does not change.

        Not before it handles signals: until then they are Python's.
        """
        command = psutil.Process(self.process)
        while os.waitid(os.P_PID, self.process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            with suppress(psutil.NoSuchProcess, OSError):
                if _handles_signals(self.process) and self._used_s(command) >= after_s:
                    command.send_signal(number)
                    return
            self.forks.serve()

    def _used_s(self, command: psutil.Process) -> float:
        """Of the process, its children, and what they asked for."""
        times = [process.cpu_times() for process in (command, *command.children(recursive=True))]
        own = sum(one.user + one.system + one.children_user + one.children_system for one in times)
        return own + self.forks.used.get(self.process, (0.0, 0))[0]

    def _kill_group(self) -> None:
        with suppress(ProcessLookupError, PermissionError):  # nothing of it is left
            os.killpg(self.process, signal.SIGKILL)


@dataclass(frozen=True)
class Trial:
    """What an attack gets.

    Attributes:
        material: files to spoil, read only; see ``material.py``.
        folder: its own, gone afterwards. In it ``here`` is the working directory, ``tmp`` TMPDIR and ``home`` HOME:
            they end empty.
        environment: of every command.
        fresh: commands are new interpreters instead of forks.
    """

    material: Path
    folder: Path
    rng: random.Random
    forks: Forks
    environment: Mapping[str, str] = field(default_factory=dict)
    fresh: bool = False

    @property
    def variables(self) -> dict[str, str]:
        own = {"EDGEC_CACHE": "cache", "TMPDIR": "tmp", "HOME": "home"}
        return {**os.environ, **{name: str(self.folder / folder) for name, folder in own.items()}, **self.environment}

    def prepare(self) -> None:
        """Make the folders."""
        for name in EMPTY:
            (self.folder / name).mkdir(parents=True)

    def start(self, *arguments: object) -> Running:
        """A command of edgec, in a process group of its own."""
        streams = tuple(self.folder / f"{len(list(self.folder.glob('*.out')))}.{name}" for name in ("out", "err"))
        for path in streams:
            path.touch()
        words = tuple(map(str, arguments))
        command = Command(words, self.variables, self.folder / "here", *streams, self.fresh)
        return Running(self.forks, self.forks.start(command), *streams)

    def run(self, *arguments: object) -> Done:
        """A command of edgec, to its end."""
        return self.start(*arguments).wait()

    def residue(self) -> str:
        """What a command left in a folder that is to stay empty."""
        left = [f"{name}/{path.name}" for name in EMPTY for path in sorted((self.folder / name).glob("*"))]
        return f"left behind: {left[:3]}" if left else ""


Attack = Callable[[Trial], str]
"""Returns why edgec did not survive; empty where it did."""


def survived(done: Done, statuses: frozenset[int] = STATUSES) -> str:
    """A code, in time, in bounds, without a traceback; or why not."""
    if "Traceback" in done.err or "Traceback" in done.out:
        return f"traceback: {done.err.strip().splitlines()[-1][:200]}"
    if done.status not in statuses:
        return f"status {done.status}: {done.err.strip()[-200:]}"
    if done.status == 1 and done.code in ("", "internal"):
        return f"no code: {done.err.strip()[:200]}"
    if done.seconds > LIMIT_S:
        return f"took {done.seconds:.0f} s of a processor"
    return f"took {done.peak_bytes >> 20} MB" if done.peak_bytes > LIMIT_BYTES else ""


def refused(done: Done, *codes: str) -> str:
    """It must end with one of the codes."""
    if wrong := survived(done):
        return wrong
    return "" if done.status == 1 and done.code in codes else f"status {done.status}, code '{done.code}', not {codes}"


def _handles_signals(process: int) -> bool:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    caught = int(next(line.split()[1] for line in lines if line.startswith("SigCgt")), 16)
    return bool(caught >> signal.SIGTERM - 1 & 1)
