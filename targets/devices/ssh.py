"""A board behind ssh. Uploads are named by their sha256, resume where they broke off, and are never sent twice.

Who may be trusted is decided as OpenSSH does: ``~/.ssh/config``, ``known_hosts``, keys and the agent. Unlike there, an
unknown host key is always an error, and no password is ever asked for.
"""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import SplitResult, urlsplit

from edgec.pipeline.core.errors import EdgecError, printable
from edgec.pipeline.core.progress import Report
from edgec.pipeline.core.scratch import NEW, beside
from edgec.pipeline.core.stage import file_sha256
from edgec.pipeline.forms.device import FORMS
from edgec.targets.devices.answer import REFUSALS, Transcript, remote_failed

if TYPE_CHECKING:
    import asyncssh

FOLDER = ".cache/edgec"  # under the login folder
CHUNK = 120 << 10  # bytes of one write (OpenSSH's sftp-server takes 256 KiB); an upload resumes at a multiple of it
CONNECT_TIMEOUT_S = 15.0
KEEPALIVE_S, KEEPALIVE_MISSES = 5.0, 3  # a dead line is noticed after 15 s
CHUNK_TIMEOUT_S = 20.0  # the line lives, but the board's disk does not
DOWNLOAD_TIMEOUT_S = 1800.0
MAX_DOWNLOAD_BYTES = 4 << 30  # engines of the networks at hand take a hundredth of it
PIECE = 64 << 10  # bytes of output read at once
UPLOAD_ATTEMPTS = 3

T = TypeVar("T")


@dataclass(frozen=True)
class SshDevice:
    """One address; each call opens a connection of its own, so a broken one spoils nothing that follows.

    Attributes:
        host: a name, an address or an alias of ``~/.ssh/config``.
        user: None for what ``~/.ssh/config`` says, or the own login name.
        port: None for what ``~/.ssh/config`` says, or 22.
        python: the interpreter there.
    """

    host: str
    user: str | None = None
    port: int | None = None
    python: str = "python3"

    @property
    def name(self) -> str:
        """The address without the interpreter."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"ssh://{self.user + '@' if self.user else ''}{host}{f':{self.port}' if self.port else ''}"

    def push(self, path: Path, progress: Report | None = None) -> str:
        """Upload unless it is there; try again, from where it broke off, when the connection is lost."""
        name = f"{file_sha256(path)}{path.suffix}"
        for _ in range(UPLOAD_ATTEMPTS - 1):
            try:
                return self._wait(_upload(self, path, name, progress))
            except EdgecError as error:
                if error.code != "connection-lost":
                    raise
        return self._wait(_upload(self, path, name, progress))

    def run(
        self, script: Path, arguments: Sequence[str], timeout_s: float, progress: Report | None = None
    ) -> dict[str, Any]:
        """Push the script and execute it, and nothing else."""
        command = shlex.join([self.python, self.push(script), *arguments])
        return self._wait(_execute(self, command, timeout_s, progress))

    def pull(self, there: str, path: Path) -> None:
        """Download beside ``path``, rename, then delete it there."""
        self._wait(_download(self, there, path))

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        if find_spec("asyncssh") is None:
            work.close()
            message = "ssh devices need asyncssh, which is not installed"
            raise EdgecError("missing-ssh", message, "pip install 'edgec[ssh]'")
        return asyncio.run(work)


@asynccontextmanager
async def _connected(device: SshDevice) -> AsyncIterator[asyncssh.SSHClientConnection]:
    """An authenticated connection to a host whose key is known; every way to lose it is ``connection-lost``."""
    import asyncssh

    connection = await _connect(device)
    try:
        async with connection:
            yield connection
    except (asyncssh.DisconnectError, asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection, ConnectionError) as error:
        raise _lost(device, str(error)) from error
    except asyncssh.ChannelOpenError as error:
        hint = "the board's sshd must allow sftp (OpenSSH's 'Subsystem sftp') and commands"
        raise EdgecError("remote-refused", f"{device.name} refused to open a channel: {error.reason}", hint) from error


async def _connect(device: SshDevice) -> asyncssh.SSHClientConnection:
    """Connect and log in, or say which of the two failed."""
    import asyncssh

    named: dict[str, Any] = {"username": device.user, "port": device.port}
    try:
        return await asyncssh.connect(
            device.host,
            **{name: value for name, value in named.items() if value is not None},
            connect_timeout=CONNECT_TIMEOUT_S,
            login_timeout=CONNECT_TIMEOUT_S,
            keepalive_interval=KEEPALIVE_S,
            keepalive_count_max=KEEPALIVE_MISSES,
        )
    except asyncssh.HostKeyNotVerifiable as error:
        hint = f"compare its fingerprint once by hand: '{_login(device)}' asks and remembers"
        message = f"the host key of {device.name} is unknown, or not the one in known_hosts"
        raise EdgecError("unknown-host-key", message, hint) from error
    except asyncssh.PermissionDenied as error:
        hint = f"bring your key there with '{_login(device).replace('ssh', 'ssh-copy-id', 1)}'; passwords are not used"
        raise EdgecError("auth-failed", f"{device.name} does not accept any of your keys", hint) from error
    except ValueError as error:  # asyncssh's own errors for keys and configuration, and text that is no UTF-8
        hint = "mend ~/.ssh: 'ssh -v' names the file and the line"
        message = f"your ssh configuration, keys or known_hosts cannot be read: {printable(str(error))}"
        raise EdgecError("bad-ssh-files", message, hint) from error
    except (OSError, asyncio.TimeoutError, asyncssh.DisconnectError) as error:
        hint = "is the board on, its address right and its sshd running?"
        message = f"no ssh connection to {device.name}: {printable(str(error)) or 'no answer in time'}"
        raise EdgecError("host-unreachable", message, hint) from error


async def _upload(device: SshDevice, path: Path, name: str, progress: Report | None) -> str:
    """Append what is missing to ``<name>.part`` and rename it."""
    import asyncssh

    async with _connected(device) as connection:
        sftp = await connection.start_sftp_client()
        folder = f"{await sftp.realpath('.')}/{FOLDER}"
        there = f"{folder}/{name}"
        try:
            await sftp.makedirs(folder, asyncssh.SFTPAttrs(permissions=0o700), exist_ok=True)
            if not await sftp.exists(there):
                await _append(device, sftp, path, f"{there}.part", progress)
                await sftp.posix_rename(f"{there}.part", there)
        except (asyncssh.SFTPFailure, asyncssh.SFTPPermissionDenied, asyncssh.SFTPNoSuchFile) as error:
            await _refuse_if_full(device, sftp, folder, CHUNK)  # OpenSSH says just "Failure" when a disk is full
            message = f"{device.name} could not write '{there}': {error.reason}"
            hint = "look at the rights and the disk of the login folder there"
            raise EdgecError("remote-refused", message, hint) from error
        return there


async def _append(device: SshDevice, sftp: asyncssh.SFTPClient, path: Path, part: str, progress: Report | None) -> None:
    """Send from the last whole chunk on: each chunk was acknowledged before the next was begun."""
    size = path.stat().st_size
    sent = await sftp.getsize(part) or 0 if await sftp.exists(part) else 0
    done = min(sent, size) // CHUNK * CHUNK
    await _refuse_if_full(device, sftp, os.path.dirname(part), size - done)
    remote = await sftp.open(part, "r+b" if done else "wb", block_size=0)  # after a failure the connection closes it
    with path.open("rb") as local:
        local.seek(done)
        while piece := local.read(CHUNK):
            await _in_time(device, remote.write(piece, done), CHUNK_TIMEOUT_S)
            done += len(piece)
            if progress:
                progress(done, size)
    await remote.close()


async def _in_time(device: SshDevice, transfer: Coroutine[Any, Any, object], limit_s: float) -> None:
    """Give up on a board that answers but does not get on."""
    try:
        await asyncio.wait_for(transfer, limit_s)
    except asyncio.TimeoutError:
        message = f"{device.name} did not finish a transfer within {limit_s:g} s although it answers"
        raise EdgecError("remote-timeout", message, "look at its disk ('dmesg' there); the next try resumes") from None


async def _refuse_if_full(device: SshDevice, sftp: asyncssh.SFTPClient, folder: str, needed_bytes: int) -> None:
    """Compare with the free space, where the board's sftp server tells it."""
    import asyncssh

    try:
        disk = await sftp.statvfs(folder)
    except (asyncssh.SFTPOpUnsupported, asyncssh.SFTPNoSuchFile, asyncssh.SFTPFailure):
        return
    free_bytes = disk.bavail * disk.frsize
    if free_bytes < needed_bytes:
        message = f"{device.name} has {free_bytes:,} bytes left in '{folder}', expected at least {needed_bytes:,}"
        raise EdgecError("remote-disk-full", message, REFUSALS["remote-disk-full"])


async def _execute(device: SshDevice, command: str, timeout_s: float, progress: Report | None) -> dict[str, Any]:
    """Run one command with its standard input held open; closing it on the way out ends a script that still runs."""
    transcript = Transcript(device.name, progress)
    async with _connected(device) as connection:
        process = await connection.create_process(command, encoding=None)

        async def read(stream: asyncssh.SSHReader[bytes], take: Callable[[bytes], None]) -> None:
            while piece := await stream.read(PIECE):
                take(piece)

        try:
            both = read(process.stdout, transcript.feed), read(process.stderr, transcript.complain)
            await asyncio.wait_for(asyncio.gather(*both, process.wait_closed()), timeout_s)
        except asyncio.TimeoutError:
            hint = "the script was told to stop; is the board busy? Fewer images take less time"
            raise EdgecError("remote-timeout", f"{device.name} did not answer within {timeout_s:g} s", hint) from None
    if process.exit_signal:
        return transcript.answer(128, f"killed by signal {process.exit_signal[0]}")
    if process.exit_status is None:
        raise _lost(device, "the connection ended before the script did")
    return transcript.answer(process.exit_status)


async def _download(device: SshDevice, there: str, path: Path) -> None:
    """Through a temporary file beside ``path``."""
    import asyncssh

    with beside(path) as folder:
        async with _connected(device) as connection:
            sftp = await connection.start_sftp_client()
            try:
                if (size := await sftp.getsize(there) or 0) > MAX_DOWNLOAD_BYTES:
                    raise remote_failed(device.name, f"its file '{there}' has {size:,} bytes")
                await _in_time(device, sftp.get(there, folder / NEW, max_requests=1), DOWNLOAD_TIMEOUT_S)
                await sftp.remove(there)
            except asyncssh.SFTPNoSuchFile as error:
                hint = "run the step that makes it again"
                raise EdgecError("remote-failed", f"{device.name} has no file '{there}'", hint) from error
            except (asyncssh.SFTPFailure, asyncssh.SFTPPermissionDenied, asyncssh.SFTPBadMessage) as error:
                why = f"its file '{there}' cannot be fetched: {printable(error.reason)}"
                raise remote_failed(device.name, why) from error
        (folder / NEW).replace(path)


def _login(device: SshDevice) -> str:
    """The command that a user types to log in by hand."""
    port = f"-p {device.port} " if device.port else ""
    return f"ssh {port}{device.user + '@' if device.user else ''}{device.host}"


def _lost(device: SshDevice, why: str) -> EdgecError:
    hint = "run the command again: what was uploaded stays there and is not sent twice"
    return EdgecError("connection-lost", f"the connection to {device.name} was lost: {why}", hint)


def open_device(spec: str) -> SshDevice:
    """Read an address; a password in it would end up in logs and histories.

    Raises:
        EdgecError: ``bad-device``.
    """
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
