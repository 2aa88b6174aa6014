"""Commands of edgec at the price of a fork, of a process that has imported everything and has no session of a runtime.

A command gets a process group, standard streams, environment and working directory of its own. What it starts with
``sys.executable`` is a fork as well: there stands ``python_by_fork.py``, which asks for one.
"""

from __future__ import annotations

import gc
import marshal
import os
import pkgutil
import resource
import runpy
import secrets
import select
import signal
import socket
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from attacks.python_by_fork import PYTHON, SOCKET

LIBRARIES = (
    *("onnx", "onnxruntime", "onnxsim", "torch", "safetensors.torch", "scipy.stats", "PIL.Image", "zstandard"),
    *("jinja2", "rich.console", "rich.table", "rich.progress", "pydantic", "rfc8785", "tomlkit", "cryptography"),
    *(
        "cyclonedx.output.json",
        "jsonschema",
        "openvino",
        "ai_edge_litert.interpreter",
        "tflite_micro.runtime",
        "asyncssh",
    ),
)


@dataclass(frozen=True)
class Command:
    """What a process becomes.

    Attributes:
        fresh: a new interpreter instead of the fork, so that its imports are met too.
        out, err: files for its standard streams.
    """

    arguments: tuple[str, ...]
    variables: Mapping[str, str]
    folder: Path
    out: Path
    err: Path
    fresh: bool = False


def preload() -> None:
    """Import everything, and read the sources that stages are keyed by, before the first fork."""
    import edgec.pipeline
    import edgec.targets
    from edgec.pipeline.core.code import code_digests

    for name in LIBRARIES:
        try:
            import_module(name)
        except ImportError:
            continue  # not installed: edgec says so where it needs it
    names = []
    for package in (edgec.pipeline, edgec.targets):
        names += [module.name for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
    names = [name for name in names if not name.endswith(".__main__")]
    for name in names:
        import_module(name)
    code_digests(names)
    gc.freeze()  # what was imported stays shared


def write_python(folder: Path) -> Path:
    """A program that a command of edgec takes for Python."""
    path = folder / "python"
    source = Path(__file__).with_name("python_by_fork.py").read_text(encoding="utf-8")
    path.write_text(f"#!{sys.executable} -IS\n{source}", encoding="utf-8")
    path.chmod(0o755)
    return path


@dataclass
class Forks:
    """Forks this process into commands, and into what they start.

    Attributes:
        python: stands where ``sys.executable`` does in them.
        used: of processes that commands started and that have ended: seconds of a processor and peak bytes, by command.
    """

    python: Path
    used: dict[int, tuple[float, int]] = field(default_factory=dict)
    _asking: dict[int, tuple[socket.socket, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(f"\0edgec-attack-{secrets.token_hex(8)}")
        self._listener.listen(64)

    def start(self, command: Command) -> int:
        """The command's process, which leads a group."""
        return _fork(lambda: self._lead(command))

    def serve(self) -> None:
        """Answer whoever asks, and wait a moment for it; call it for as long as a command runs."""
        if select.select([self._listener], [], [], 0.005)[0]:
            asked = self._listener.accept()[0]
            content, streams, _, _ = socket.recv_fds(asked, 1 << 20, 3)
            words, variables, folder, group = marshal.loads(content)
            process = _fork(lambda: self._follow(group, streams, folder, words, variables))
            for given in streams:
                os.close(given)
            self._asking[process] = asked, group
        for process, (asked, group) in list(self._asking.items()):
            if select.select([asked], [], [], 0)[0]:  # whoever asked is gone
                os.kill(process, signal.SIGKILL)
            found, status, usage = os.wait4(process, os.WNOHANG)
            if found:
                seconds, peak_bytes = self.used.get(group, (0.0, 0))
                seconds += usage.ru_utime + usage.ru_stime
                self.used[group] = seconds, max(peak_bytes, usage.ru_maxrss << 10)
                with suppress(OSError):
                    asked.send(str(status).encode())
                asked.close()
                del self._asking[process]

    def _lead(self, command: Command) -> NoReturn:
        os.setpgid(0, 0)
        for stream, path in ((1, command.out), (2, command.err)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), stream)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.chdir(command.folder)
        words = ["-m", "edgec.pipeline.cli", *command.arguments]
        if command.fresh:
            os.execve(sys.executable, [sys.executable, *words], dict(command.variables))
        address = self._listener.getsockname()[1:].decode()
        self._become(words, {**command.variables, SOCKET: address, PYTHON: sys.executable})

    def _follow(
        self, group: int, streams: list[int], folder: str, words: list[str], variables: dict[str, str]
    ) -> NoReturn:
        with suppress(ProcessLookupError, PermissionError):  # the command has ended
            os.setpgid(0, group)
        for stream, given in enumerate(streams):
            os.dup2(given, stream)
        os.chdir(folder)
        self._become(words, variables)

    def _become(self, words: list[str], variables: Mapping[str, str]) -> NoReturn:
        """What ``python WORDS`` is, in this process."""
        self._listener.close()
        for asked, _ in self._asking.values():
            asked.close()
        os.environ.clear()
        os.environ.update(variables)
        tempfile.tempdir = None
        sys.executable = str(self.python)
        warnings.simplefilter("ignore", RuntimeWarning)  # that the module was imported before it is run
        os._exit(_run(words))


def _run(words: list[str]) -> int:
    """The exit status, as the interpreter finds it."""
    status = 0
    try:
        if words[0] == "-m":
            sys.argv = ["", *words[2:]]
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = words
            runpy.run_path(words[0], run_name="__main__")
    except SystemExit as leaving:
        if isinstance(leaving.code, str):
            print(leaving.code, file=sys.stderr)
        status = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException:  # noqa: BLE001 - as the interpreter does at the end of a program
        traceback.print_exc()
        status = 1
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            status = 120
    return status & 0xFF


def _fork(then: Callable[[], NoReturn]) -> int:
    """A child that never comes back from ``then``."""
    process = os.fork()
    if process:
        return process
    try:
        then()
    except BaseException:  # noqa: BLE001 - a fork must not go on as its parent
        traceback.print_exc()
    finally:
        os._exit(70)
