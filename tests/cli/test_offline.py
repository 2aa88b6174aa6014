"""No process of edgec's looks a name up or opens a connection that nobody asked for, its children and C++ included."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgec.pipeline.cli import COMMANDS

GUARD = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void note(const char *what) {
  int log = open(getenv("NETWORK_LOG"), O_WRONLY | O_CREAT | O_APPEND, 0644);
  if (write(log, what, strlen(what)) < 0 || write(log, "\n", 1) < 0) abort();
  close(log);
}

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
  note(node ? node : "any");
  return EAI_AGAIN;
}

int socket(int domain, int type, int protocol) {
  if (domain == AF_UNIX || domain == AF_NETLINK)
    return ((int (*)(int, int, int))dlsym(RTLD_NEXT, "socket"))(domain, type, protocol);
  note("socket");
  errno = EACCES;
  return -1;
}
"""
"""Stands before libc in every process, so that native code is seen as well as Python's."""

PYTHON_GUARD = """
import os, socket

def refuse(*words, **_):
    with open(os.environ["NETWORK_LOG"], "a") as log:
        log.write(f"{words}\\n")
    raise OSError("the test has no network")

socket.getaddrinfo = socket.gethostbyname = socket.create_connection = refuse
"""

ALL_IN_ONE = """
import json, os, sys
from pathlib import Path
from edgec.pipeline.cli import main

log, ends = Path(os.environ["NETWORK_LOG"]), {}
for name, line in json.loads(sys.argv[1]).items():
    ends[name] = (main(line), log.read_text() if log.exists() else "")
Path(sys.argv[2]).write_text(json.dumps(ends))
"""
"""Each command in turn in one guarded process, and what was tried until then."""

COMMAND_LINES = {
    "build": ["build", "MODEL", "--target", "TARGET", "--data", "DATA", "--output", "OUT"],
    "run": ["run", "OUT", "IMAGE"],
    "verify": ["verify", "OUT"],
    "evaluate": ["evaluate", "OUT", "--data", "DATA"],
    "measure": ["measure", "OUT"],
    "quantize": ["quantize", "MODEL", "--output", "Q", "--data", "DATA", "--scheme", "tflite"],
    "inspect": ["inspect", "Q"],
    "export": ["export", "MODEL", "--output", "FLOAT"],
    "report": ["report", "OUT", "--output", "PAGE"],
    "diff": ["diff", "OUT", "OUT"],
    "pack": ["pack", "OUT"],
    "project": ["project", "--help"],
    "explain": ["explain", "MODEL", "--target", "TARGET", "--data", "DATA"],
    "sensitivity": ["sensitivity", "MODEL", "--scheme", "openvino", "--data", "DATA"],
    "reproduce": ["reproduce", "OUT", "--model", "MODEL", "--data", "DATA"],
    "search": ["search", "MODEL", "--target", "TARGET", "--data", "DATA", "--minutes", "0", "--output", "FOUND"],
    "matrix": ["matrix", "MATRIX", "--output", "CELLS"],
    "worker": ["worker", "--help"],
    "check": ["check", "OUT"],
    "budget": ["budget", "--help"],
    "history": ["history", "--help"],
    "device": ["device", "--help"],
    "train": ["train", "--help"],
    "cache": ["cache", "verify"],
    "completion": ["completion", "zsh"],
    "doctor": ["doctor"],
    "models": ["models"],
    "targets": ["targets"],
}
"""``check``, ``budget`` and ``history`` judge what ``measure`` measures.

``device``, ``worker`` and ``--weights imagenet`` ask.
"""


@pytest.fixture
def guarded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The log of what a guarded process tried; a home and a folder for temporary files of its own."""
    (tmp_path / "guard").mkdir()
    (tmp_path / "guard" / "sitecustomize.py").write_text(PYTHON_GUARD)
    path = os.pathsep.join([str(tmp_path / "guard"), *filter(None, [os.environ.get("PYTHONPATH")])])
    settings = {"PYTHONPATH": path, "NETWORK_LOG": tmp_path / "log"}
    for name in ("HOME", "TMPDIR"):
        (tmp_path / name).mkdir()
        settings[name] = tmp_path / name
    compiler = shutil.which("cc")
    if compiler:
        (tmp_path / "guard.c").write_text(GUARD)
        library = tmp_path / "guard.so"
        subprocess.run([compiler, "-shared", "-fPIC", "-o", library, tmp_path / "guard.c", "-ldl"], check=True)
        settings["LD_PRELOAD"] = library
    for name, value in settings.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.delenv("CI", raising=False)  # telemetry is off there
    return tmp_path / "log"


def edgec(*arguments: str, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [*prefix, sys.executable, "-m", "edgec.pipeline.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_guard_sees(guarded: Path) -> None:
    look = "import socket\ntry: socket.getaddrinfo('edgec.invalid', 80)\nexcept OSError: pass"
    subprocess.run([sys.executable, "-c", look], check=True)
    first = guarded.read_text()
    assert "edgec.invalid" in first
    if "LD_PRELOAD" in os.environ:
        native = "import ctypes; ctypes.CDLL(None).getaddrinfo(b'native.invalid', None, None, None)"
        subprocess.run([sys.executable, "-c", native], check=True)
        assert "native.invalid" in guarded.read_text()


def test_every_command_is_tried() -> None:
    assert COMMAND_LINES.keys() == set(COMMANDS)


@pytest.mark.parametrize("target", ["cpu", "onnxruntime", "arm"])
def test_no_command_tries_the_network(
    target: str, guarded: Path, colours_toml: Path, tiny_images: Path, tmp_path: Path
) -> None:
    """And none leaves anything at home or among temporary files: a maker's identifier would lie there."""
    pytest.importorskip({"cpu": "openvino", "onnxruntime": "onnxruntime", "arm": "ai_edge_litert"}[target])
    places = {
        "MODEL": colours_toml,
        "DATA": tiny_images,
        "OUT": tmp_path / "out",
        "Q": tmp_path / "q.onnx",
        "PAGE": tmp_path / "page.html",
        "FOUND": tmp_path / "found",
        "MATRIX": tmp_path / "matrix.toml",
        "CELLS": tmp_path / "cells",
        "FLOAT": tmp_path / "float.onnx",
        "IMAGE": next(tiny_images.rglob("*.png")),
        "TARGET": target,
    }
    cells = f'models = ["{colours_toml}"]\ntargets = ["{target}"]\ndata = ["{tiny_images}"]\n'
    places["MATRIX"].write_text(cells)
    lines = {
        name: [str(places.get(word, word)) for word in line]
        for name, line in COMMAND_LINES.items()
        if target == "cpu" or name in ("build", "verify", "run")  # the others differ by their runtime alone
    }
    command = [sys.executable, "-c", ALL_IN_ONE, json.dumps(lines), str(tmp_path / "ends")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    ends = json.loads((tmp_path / "ends").read_text())
    assert ends.keys() == lines.keys()
    for name, (status, tried) in ends.items():
        assert not tried, f"{name}: {tried}"
        assert name == "check" or status in (0, 3, 4), done.stderr
    assert not guarded.exists(), f"at the end of the process: {guarded.read_text()}"
    assert not list((tmp_path / "TMPDIR").iterdir())
    assert not [path for path in (tmp_path / "HOME").rglob("*") if path.is_file()]


def test_a_build_without_a_network(colours_toml: Path, tiny_images: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    empty = ("unshare", "--net")
    if shutil.which("unshare") is None or subprocess.run([*empty, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this user may not make an empty network namespace")
    arguments = ["build", colours_toml, "--target", "cpu", "--data", tiny_images, "--output", tmp_path / "out"]
    done = edgec(*map(str, arguments), prefix=empty)
    assert done.returncode == 0, done.stderr
