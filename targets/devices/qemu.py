"""An emulated core of this machine: the core's real runtime, bit for bit, and its instructions counted; no timing."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgec.pipeline.core.errors import EdgecError, nearest_hint
from edgec.pipeline.core.progress import Report
from edgec.pipeline.core.scratch import NEW, beside, scratch
from edgec.pipeline.forms.device import Device
from edgec.targets.devices import userland
from edgec.targets.devices.answer import Transcript
from edgec.targets.devices.cores import CORES, Core

PIECE = 64 << 10  # bytes of output read at once


@dataclass(frozen=True)
class QemuDevice:
    """A core of a userland that was set up. Files are shared with the host, so nothing is copied."""

    core: Core
    userland: userland.Userland

    @property
    def name(self) -> str:
        """``qemu:cortex-a76``."""
        return f"qemu:{self.core.name}"

    def push(self, path: Path, progress: Report | None = None) -> str:
        """The file is there already."""
        return str(path.resolve())

    def run(
        self, script: Path, arguments: Sequence[str], timeout_s: float, progress: Report | None = None
    ) -> dict[str, Any]:
        """Emulate the script."""
        return self._emulate([str(script), *arguments], timeout_s, progress)

    def pull(self, there: str, path: Path) -> None:
        """Move within this machine."""
        if not Path(there).is_file():
            raise EdgecError("remote-failed", f"{self.name} has no file '{there}'", "run the step that makes it again")
        with beside(path) as folder:
            shutil.move(there, folder / NEW)
            (folder / NEW).replace(path)

    def count(self, script: Path, arguments: Sequence[str], timeout_s: float) -> list[int]:
        """Guest instructions executed since the start at each ``getppid`` of the script.

        Raises:
            EdgecError: ``no-instruction-count``, and those of ``run``.
        """
        if self.userland.counter_missing:
            hint = f"mend that, delete '{self.userland.folder}' and run 'edgec device setup qemu'"
            raise EdgecError("no-instruction-count", f"{self.name}: {self.userland.counter_missing}", hint)
        with scratch("count") as folder:
            counts = folder / "counts"
            mark = self.userland.machine.num_getppid
            plugin = f"{self.userland.folder / 'counter.so'},out={counts},mark={mark}"
            self._emulate([str(script), *arguments], timeout_s, None, plugin)
            return [int(line) for line in counts.read_text().split()]

    def _emulate(
        self, arguments: Sequence[str], timeout_s: float, progress: Report | None, plugin: str = ""
    ) -> dict[str, Any]:
        """Run the guest's Python and read its lines until it ends or time is up."""
        transcript = Transcript(self.name, progress)
        command = [*self.userland.command(self.core, plugin), *arguments]
        with scratch("emulate") as folder, (folder / "stderr").open("w+b") as stderr:
            process = subprocess.Popen(
                command,
                env=self.userland.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
            )
            late = threading.Event()

            def stop() -> None:
                late.set()  # first: whoever sees the process dead must see why
                process.kill()

            alarm = threading.Timer(timeout_s, stop)
            alarm.start()
            with process:
                while process.stdout and (piece := os.read(process.stdout.fileno(), PIECE)):
                    transcript.feed(piece)
            alarm.cancel()
            stderr.seek(max(stderr.seek(0, os.SEEK_END) - PIECE, 0))
            transcript.complain(stderr.read())
        if late.is_set():
            message = f"{self.name} did not answer within {timeout_s:g} s"
            raise EdgecError("remote-timeout", message, "emulation is slow: use fewer images or allow more time")
        return transcript.answer(process.returncode)


def open_device(spec: str) -> QemuDevice:
    """The emulated core ``qemu:NAME``.

    Raises:
        EdgecError: as ``open_emulated``.
    """
    return open_emulated(spec.partition(":")[2])


def open_emulated(name: str) -> QemuDevice:
    """The emulated core ``cortex-a76`` (or ``a76``), ``cortex-a72``, ``cortex-a53``, ``armv7`` or ``haswell``.

    Raises:
        EdgecError: ``bad-device``, ``device-not-set-up``.
    """
    core = find_core(name)
    found = userland.find(core.machine)
    if found is None:
        size = "" if core.machine.is_own else " and takes about 200 MB"
        hint = f"run 'edgec device setup qemu --cpu {core.name}' once; it needs no root{size}"
        raise EdgecError("device-not-set-up", f"the emulated userland of 'qemu:{core.name}' was not set up", hint)
    return QemuDevice(core, found)


def must_take(device: Device, compiler: str) -> None:
    """Refuse an emulated core whose runtime takes another compiler's artifacts.

    Raises:
        EdgecError: ``cannot-run-there``.
    """
    if isinstance(device, QemuDevice) and device.core.machine.compiler != compiler:
        fitting = ", ".join(f"qemu:{core.name}" for core in CORES.values() if core.machine.compiler == compiler)
        message = f"'{device.name}' runs artifacts of '{device.core.machine.compiler}', not of '{compiler}'"
        raise EdgecError("cannot-run-there", message, f"use {fitting}, or a target for this core")


def find_core(name: str) -> Core:
    """A core by its name, with or without ``cortex-``.

    Raises:
        EdgecError: ``bad-device``.
    """
    core = CORES.get(name) or CORES.get(f"cortex-{name}")
    if core is None:
        raise EdgecError("bad-device", f"no emulated core is called '{name}'", nearest_hint(name, CORES))
    return core
