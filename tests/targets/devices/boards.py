"""Stand-ins for boards: a real, unprivileged sshd on loopback with keys of its own; and networks to run there."""

from __future__ import annotations

import getpass
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh
import numpy as np
import onnx
import psutil
import pytest

from edgec.pipeline.core.errors import EdgecError
from edgec.targets.devices.ssh import SshDevice

WAITS = """
import json, os, threading, time
threading.Thread(target=lambda: (os.read(0, 1), os._exit(1)), daemon=True).start()
print(json.dumps({"done": 0, "total": 1}), flush=True)
time.sleep(60)
"""
"""A script that ends with its connection."""

SSHD = shutil.which("sshd", path=f"{os.defpath}:/usr/sbin:/usr/local/sbin")


@contextmanager
def refused(code: str) -> Iterator[pytest.ExceptionInfo[EdgecError]]:
    """The block must raise this code, with a hint."""
    with pytest.raises(EdgecError) as caught:
        yield caught
    assert caught.value.code == code, str(caught.value)
    assert caught.value.hint


def script(folder: Path, text: str) -> Path:
    path = folder / "script.py"
    path.write_text(text)
    return path


@dataclass
class Board:
    """An sshd whose visitors get ``home`` as their login folder and ``python3`` from ``bin``.

    Attributes:
        client: home folder of the user on this side, with known_hosts and a key.
    """

    home: Path
    bin: Path
    client: Path
    port: int
    process: subprocess.Popen[bytes]

    def device(self, python: str = "python3") -> SshDevice:
        """As the user whom this test runs as, with a program of ``bin``."""
        return SshDevice("127.0.0.1", getpass.getuser(), self.port, str(self.bin / python))

    def install(self, name: str, script: str) -> None:
        """Put a program on the visitors' path."""
        (self.bin / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.bin / name).chmod(0o755)

    def sessions(self) -> list[psutil.Process]:
        """Processes of visitors: one sshd or two for each, and what they started."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def commands(self) -> list[psutil.Process]:
        """What visitors started."""
        return [process for process in self.sessions() if not process.name().startswith("sshd")]

    def cut(self) -> None:
        """Kill every visitor's sshd, but not what they started."""
        for process in self.sessions():
            if process.name().startswith("sshd"):
                process.kill()

    def uploads(self) -> dict[str, Path]:
        return {path.name: path for path in (self.home / ".cache/edgec").glob("*")}


def start_board(folder: Path, subsystem: bool = True) -> Board:
    """Start an sshd with a host key and one authorized key, both made now; its python3 is this test's."""
    if SSHD is None:
        pytest.skip("no sshd: apt-get install openssh-server")
    home, programs, client = (folder / name for name in ("home", "bin", "client"))
    for path in (home, programs, client / ".ssh"):
        path.mkdir(parents=True)
    host_key, own_key = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    host_key.write_private_key(folder / "host_key")
    own_key.write_private_key(client / ".ssh/id_ed25519")
    (folder / "host_key").chmod(0o600)
    own_key.write_public_key(folder / "authorized_keys")
    port = _free_port()
    trusted = host_key.export_public_key().decode()
    (client / ".ssh/known_hosts").write_text(f"[127.0.0.1]:{port} {trusted}")
    config = f"""
        Port {port}
        ListenAddress 127.0.0.1
        HostKey {folder / "host_key"}
        AuthorizedKeysFile {folder / "authorized_keys"}
        PidFile none
        StrictModes no
        PermitRootLogin yes
        PasswordAuthentication no
        KbdInteractiveAuthentication no
        {f"Subsystem sftp internal-sftp -d {home}" if subsystem else ""}
    """
    (folder / "sshd_config").write_text("\n".join(line.strip() for line in config.splitlines()))
    board = Board(home, programs, client, port, _start(folder))
    board.install("python3", f'PATH={programs}:$PATH exec {shlex.quote(sys.executable)} "$@"')
    return board


def _start(folder: Path) -> subprocess.Popen[bytes]:
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd's own demand when root starts it
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([str(SSHD), "-D", "-e", "-f", str(folder / "sshd_config")], stderr=log)
    for _ in range(100):
        if "Server listening" in (folder / "log").read_text():
            return process
        if process.poll() is not None:
            break
        time.sleep(0.05)
    process.kill()
    pytest.skip(f"sshd does not start here: {(folder / 'log').read_text()[-200:]}")


def stop_board(board: Board) -> None:
    for process in board.sessions():
        process.send_signal(signal.SIGKILL)
    board.process.kill()
    board.process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def visit(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    """Be the user whose keys the board knows."""
    monkeypatch.setenv("HOME", str(board.client))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)


@dataclass(frozen=True)
class Network:
    """A .tflite file, inputs in its own type and layout, and what this machine answers to them."""

    path: Path
    inputs: np.ndarray
    outputs: np.ndarray


def make_network(model: onnx.ModelProto, side: int, folder: Path) -> Network:
    """Quantize with ONNX Runtime's own tool on noise, lower, and run here in XNNPACK."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from seams import settings_of

    from edgec.targets.tflite import compile_model
    from edgec.targets.tflite.runner import open_interpreter

    stream = np.random.default_rng(11)
    images = (stream.normal(size=(8, 3, side, side)) + stream.normal(size=(8, 3, 1, 1))).astype(np.float32)

    class Noise(CalibrationDataReader):  # type: ignore[misc]
        batches = iter([{"input": images[row : row + 1]} for row in range(len(images))])

        def get_next(self) -> Any:
            return next(self.batches, None)

    onnx.save(model, folder / "float.onnx")
    int8 = {"activation_type": QuantType.QInt8, "weight_type": QuantType.QInt8, "per_channel": True}
    quantize_static(folder / "float.onnx", folder / "qdq.onnx", Noise(), quant_format=QuantFormat.QDQ, **int8)
    path = folder / "model.tflite"
    compile_model(folder / "qdq.onnx", path, settings_of("arm"))
    interpreter = open_interpreter(path.read_bytes(), threads=1, xnnpack=True)
    first, last = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    scale, zero_point = first["quantization"]
    inputs = np.clip(np.rint(images[:3].transpose(0, 2, 3, 1) / scale) + zero_point, -128, 127).astype(np.int8)
    outputs = []
    for image in inputs:
        interpreter.set_tensor(first["index"], image[None])
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(last["index"])[0])
    return Network(path, inputs, np.stack(outputs))
