"""Stages for workers of a cluster, which import them by this module's name."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.stage import Artifact


@dataclass(frozen=True)
class Double:
    """Writes its input twice, and a line into ``log`` each time that it runs."""

    log: str

    output: ClassVar[str] = "twice.txt"
    toolchain: ClassVar[tuple[str, ...]] = ("numpy",)

    def run(self, output: Path, *inputs: Artifact) -> None:
        with Path(self.log).open("a") as log:
            log.write(f"{inputs[0].sha256}\n")
        output.write_text(inputs[0].path.read_text() * 2)


@dataclass(frozen=True)
class Deadly:
    """Kills whoever runs it, as often as ``lives`` is not used up."""

    log: str
    lives: int

    output: ClassVar[str] = "alive.txt"
    toolchain: ClassVar[tuple[str, ...]] = ()

    def run(self, output: Path, *inputs: Artifact) -> None:
        with Path(self.log).open("a") as log:
            log.write("x")
        if Path(self.log).stat().st_size <= self.lives:
            output.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
        output.write_text("whole")


@dataclass(frozen=True)
class Refuse:
    """Refuses, or breaks."""

    breaks: bool

    output: ClassVar[str] = "nothing.txt"
    toolchain: ClassVar[tuple[str, ...]] = ()

    def run(self, output: Path, *inputs: Artifact) -> None:
        if self.breaks:
            raise ZeroDivisionError("of the stage")
        raise EdgecError("bad-output", "no", "never")
