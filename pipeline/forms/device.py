"""A device is where an artifact runs: files go there, one script runs there, files come back."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.progress import Report

SCHEMES = ("qemu", "ssh")
EMULATED = "qemu:cortex-a76, qemu:cortex-a72, qemu:cortex-a53, qemu:armv7, qemu:haswell"
FORMS = f"{EMULATED} or ssh://user@host[:port][/path/of/python]"


class Device(Protocol):
    """Three verbs, the same for an emulated core, an Arm board and a Jetson."""

    @property
    def name(self) -> str:
        """What the user wrote after ``--on``."""

    def push(self, path: Path, progress: Report | None = None) -> str:
        """Bring a file there, unless a file of the same sha256 is there; return its path there.

        Raises:
            EdgecError: ``remote-disk-full``, ``remote-refused``, and those of the connection: ``unknown-host-key``,
                ``host-unreachable``, ``auth-failed``, ``connection-lost``.
        """

    def run(
        self, script: Path, arguments: Sequence[str], timeout_s: float, progress: Report | None = None
    ) -> dict[str, Any]:
        """Execute a Python script of ours there and return the JSON object of its last line of output.

        The script's ``{"done": ..., "total": ...}`` lines go to ``progress``. Its standard input stays open as long as
        somebody waits for it.

        Raises:
            EdgecError: ``remote-timeout``, ``remote-failed``, ``missing-remote-runtime``, what the script itself
                refuses (``answer.REFUSALS``), and those of the connection.
        """

    def pull(self, there: str, path: Path) -> None:
        """Move the device's file ``there`` to ``path`` here; ``path`` appears whole or not at all.

        Raises:
            EdgecError: ``remote-failed`` (no such file), and those of the connection.
        """


def open_device(spec: str) -> Device:
    """The device behind ``qemu:CORE`` or ``ssh://user@host[:port][/path/of/python]``; nothing is contacted yet.

    The part before the colon is a module of ``edgec.targets.devices``, which opens what stands behind it.

    Raises:
        EdgecError: ``bad-device``, ``device-not-set-up``.
    """
    opened: Device = import_module(device_module(spec)).open_device(spec)
    return opened


def device_module(spec: str) -> str:
    """The module that opens a device.

    Raises:
        EdgecError: ``bad-device``.
    """
    scheme, colon, _ = spec.partition(":")
    if not colon or scheme not in SCHEMES:
        raise EdgecError("bad-device", f"no device is called '{spec}'", f"expected {FORMS}")
    return f"edgec.targets.devices.{scheme}"
