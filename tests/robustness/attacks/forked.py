"""Commands of edgec at the price of a fork, of a process that has imported everything and has no session of a runtime.

A command gets a process group, standard streams, environment and working directory of its own. What it starts with
``sys.executable`` is a fork as well: there stands ``python_by_fork.py``, which asks the leader of the command's group.
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
from dataclasses import dataclass
from functools import partial
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
        python: stands where ``sys.executable`` does, from ``write_python``.
        fresh: a new interpreter instead of the fork, so that its imports are met too.
        out, err: files for its standard streams.
    """

    arguments: tuple[str, ...]
    variables: Mapping[str, str]
    folder: Path
    out: Path
    err: Path
    python: Path
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


def start(command: Command) -> int:
    """The process that leads the command's group; it ends as the command does."""
    return _fork(lambda: _lead(command))


def _lead(command: Command) -> NoReturn:
    os.setsid()
    for stream, path in ((1, command.out), (2, command.err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), stream)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.chdir(command.folder)
    if command.fresh:
        words = (sys.executable, "-m", "edgec.pipeline.cli", *command.arguments)
        os.execve(sys.executable, words, dict(command.variables))
    address = f"edgec-attack-{secrets.token_hex(8)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(f"\0{address}")
        listener.listen()
        variables = {**command.variables, SOCKET: address, PYTHON: sys.executable}
        sys.executable = str(command.python)
        process = _fork(lambda: _become(["-m", "edgec.pipeline.cli", *command.arguments], variables))
        ended = os.pidfd_open(process)
        while ended not in select.select([listener, ended], [], [])[0]:
            asked = listener.accept()[0]
            _fork(partial(_answer, asked))
            asked.close()
    _end_as(os.waitpid(process, 0)[1])


def _answer(asked: socket.socket) -> NoReturn:
    """Be the process that somebody in the group starts; it goes with the one that asks."""
    content, streams, _, _ = socket.recv_fds(asked, 1 << 20, 3)
    words, variables, folder = marshal.loads(content)

    def inner() -> NoReturn:
        for stream, given in enumerate(streams):
            os.dup2(given, stream)
        os.chdir(folder)
        _become(words, variables)

    process = _fork(inner)
    for given in streams:
        os.close(given)
    ended = os.pidfd_open(process)
    if ended not in select.select([asked, ended], [], [])[0]:
        os.kill(process, signal.SIGKILL)
    status = os.waitpid(process, 0)[1]
    asked.send(str(status).encode())
    os._exit(0)


def _become(words: list[str], variables: Mapping[str, str]) -> NoReturn:
    """What ``python WORDS`` is, in this process."""
    os.environ.clear()
    os.environ.update(variables)
    tempfile.tempdir = None
    warnings.simplefilter("ignore", RuntimeWarning)  # that the module was imported before it is run
    status = 1
    try:
        if words[0] == "-m":
            sys.argv = ["", *words[2:]]
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = words
            runpy.run_path(words[0], run_name="__main__")
        status = 0
    except SystemExit as leaving:
        if isinstance(leaving.code, str):
            print(leaving.code, file=sys.stderr)
        status = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException:  # noqa: BLE001 - as the interpreter does at the end of a program
        traceback.print_exc()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            status = 120  # as the interpreter does
    os._exit(status & 0xFF)


def _end_as(status: int) -> NoReturn:
    """With the status or by the signal that ended the command."""
    if os.WIFSIGNALED(status):
        signal.signal(os.WTERMSIG(status), signal.SIG_DFL) if os.WTERMSIG(status) != signal.SIGKILL else None
        os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(os.waitstatus_to_exitcode(status))


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
