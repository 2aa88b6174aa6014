"""One try: a folder of its own, a seeded stream of numbers, and the rules by which a command survives."""

from __future__ import annotations

import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

LIMIT_S = 60.0
LIMIT_BYTES = 2 << 30
STATUSES = frozenset({0, 1, 2, 3, 4})
CODE = re.compile(r"^error\[([a-z0-9-]+)\]", re.MULTILINE)


@dataclass(frozen=True)
class Done:
    """How a command ended. ``peak_bytes`` is its resident memory."""

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
class Trial:
    """What an attack gets.

    Attributes:
        material: files to spoil, read only; see ``material.py``.
        folder: empty, and gone afterwards.
        environment: of every command.
    """

    material: Path
    folder: Path
    rng: random.Random
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def variables(self) -> dict[str, str]:
        (self.folder / "tmp").mkdir(exist_ok=True)
        own = {"EDGEC_CACHE": str(self.folder / "cache"), "TMPDIR": str(self.folder / "tmp")}
        return {**os.environ, **own, **self.environment}

    def run(self, *arguments: object) -> Done:
        """A command of edgec in a fork of this process, which has imported what commands import."""
        out, err = self.folder / "out.txt", self.folder / "err.txt"
        started, variables = time.monotonic(), self.variables
        child = os.fork()
        if child == 0:
            _become(list(map(str, arguments)), variables, out, err)
        status, usage = _wait(child, started)
        texts = [path.read_text(encoding="utf-8", errors="replace") if path.exists() else "" for path in (out, err)]
        return Done(status, texts[0], texts[1], time.monotonic() - started, usage.ru_maxrss << 10)

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        """A command in a process and a process group of its own."""
        command = [sys.executable, "-m", "edgec.pipeline.cli", *map(str, arguments)]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, env=self.variables, stdout=pipe, stderr=pipe, text=True, errors="replace", start_new_session=True
        )

    def residue(self) -> str:
        """What a command left in the folder for temporary files."""
        left = sorted(path.name for path in (self.folder / "tmp").glob("*"))
        return f"left in TMPDIR: {left[:3]}" if left else ""


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
        return f"took {done.seconds:.0f} s"
    return f"took {done.peak_bytes >> 20} MB" if done.peak_bytes > LIMIT_BYTES else ""


def refused(done: Done, *codes: str) -> str:
    """It must end with one of the codes."""
    if wrong := survived(done):
        return wrong
    return "" if done.status == 1 and done.code in codes else f"status {done.status}, code '{done.code}', not {codes}"


def _become(arguments: list[str], variables: dict[str, str], out: Path, err: Path) -> None:
    """Never returns."""
    status = 70
    try:
        os.setsid()
        for stream, path in ((1, out), (2, err)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
        os.environ.clear()
        os.environ.update(variables)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        import tempfile

        from edgec.pipeline.cli import main

        tempfile.tempdir = None
        status = main(arguments)
        sys.stdout.flush()
        sys.stderr.flush()
    except SystemExit as leaving:
        status = leaving.code if isinstance(leaving.code, int) else 1
    except BaseException:  # noqa: BLE001 - a fork must not go on as its parent
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)


def _wait(child: int, started: float) -> tuple[int, resource.struct_rusage]:
    while True:
        found, status, usage = os.wait4(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status), usage
        if time.monotonic() - started > 2 * LIMIT_S:
            os.killpg(child, signal.SIGKILL)
        time.sleep(0.005)
