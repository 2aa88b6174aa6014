"""A device is where an artifact runs: files go there, one script runs there, files come back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import SplitResult, urlsplit

from edgec.pipeline.errors import EdgecError
from edgec.pipeline.progress import Report

FORMS = "qemu:cortex-a76, qemu:cortex-a72, qemu:cortex-a53, qemu:armv7 or ssh://user@host[:port][/path/of/python]"


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

    Raises:
        EdgecError: ``bad-device``, ``device-not-set-up``.
    """
    scheme, _, rest = spec.partition(":")
    if scheme == "qemu":
        from edgec.targets.devices.qemu import open_emulated

        return open_emulated(rest)
    if scheme == "ssh":
        return _ssh_device(spec)
    raise EdgecError("bad-device", f"no device is called '{spec}'", f"expected {FORMS}")


def _ssh_device(spec: str) -> Device:
    """Read an address; a password in it would end up in logs and histories."""
    from edgec.targets.devices.ssh import SshDevice

    try:
        url = urlsplit(spec)
        port = url.port
    except ValueError as error:
        raise EdgecError("bad-device", f"'{spec}' is not an address: {error}", f"expected {FORMS}") from None
    if not url.hostname or not spec.startswith("ssh://") or url.query or url.fragment:
        raise EdgecError("bad-device", f"'{spec}' is not an address", f"expected {FORMS}")
    if url.password is not None:
        safe = f"ssh://{url.username}@{url.hostname}"
        hint = "use a key: 'ssh-copy-id' brings it to the board"
        raise EdgecError("bad-device", f"'{safe}' was given with a password", hint)
    return SshDevice(_host(url), url.username, port, url.path if len(url.path) > 1 else "python3")


def _host(url: SplitResult) -> str:
    """The host as written: ``hostname`` is lower-cased, which an alias of ~/.ssh/config need not be."""
    host = url.netloc.rpartition("@")[2]
    return host.partition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]
