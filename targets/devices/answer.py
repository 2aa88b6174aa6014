"""What a script on a device printed: JSON lines, progress on the way and the answer as the last one.

A board may be broken, or somebody else's: what it prints takes a bounded piece of memory, becomes text that a terminal
shows and does not obey, and is checked field by field before anybody reads it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from edgec.pipeline.core.errors import EdgecError, printable
from edgec.pipeline.core.progress import Report
from edgec.pipeline.core.toml_file import validate

T = TypeVar("T")

MAX_LINE_BYTES = 4 << 20  # an answer with every sample of a measurement takes a tenth of it
MAX_MESSAGE = 2000  # characters of a device's own words
KEPT_COMPLAINT_BYTES = 16 << 10  # of standard error, its end

REFUSALS = {
    "missing-remote-runtime": "on the device: 'pip install ai-edge-litert' (tflite-runtime on 32-bit Arm, openvino for "
    "qemu:haswell), or name the "
    "Python that has it: ssh://user@host/path/to/venv/bin/python",
    "remote-disk-full": "free some space on the device; earlier uploads lie in ~/.cache/edgec there",
    "corrupt-upload": "the damaged file was deleted there; run the command again",
    "unusable-artifact": "build for this device's target, or install a newer runtime there",
    "wrong-input": "preprocess the images as the artifact's bundle says",
    "missing-driver": "engines need an NVIDIA GPU and its driver: on a Jetson, flash JetPack",
    "missing-tensorrt": "on a Jetson 'sudo apt-get install nvidia-jetpack', and name the system's Python: "
    "ssh://user@host/usr/bin/python3",
    "wrong-tensorrt": "docs/jetson.md tells which JetPack has which version; engine_spec.json has a line for trtexec",
    "wrong-gpu": "build for the board that it is; 'edgec targets' lists them",
    "tampered-file": "build the bundle again, or get a fresh copy",
    "missing-file": "copy the bundle's whole folder",
    "engine-build-failed": "run the trtexec line of engine_spec.json with --verbose for the full story",
    "engine-crashed": "what was built is kept: run the command again; if it happens again, report it",
    "foreign-engine": "delete the engine on the device, and run the command again",
    "golden-mismatch": "try --precision fp16; if that answers right, report the model",
    "wrong-precision": "engine.json lists every layer with its type; try --precision fp16, and report the model",
    "too-many-reformats": "raise 'max_reformats' in the board's [options], or try --precision fp16",
    "cuda-failed": "is the device out of memory? Close what else uses its GPU",
}
"""The codes that the scripts on a device answer with, and what to do about each."""


@dataclass
class Transcript:
    """Reads a script's output piece by piece.

    Attributes:
        device: its name, for messages.
        progress: told of ``{"done": ..., "total": ...}`` lines.
    """

    device: str
    progress: Report | None = None
    _last: dict[str, Any] = field(default_factory=dict, init=False)
    _line: bytearray = field(default_factory=bytearray, init=False)
    _complaint: bytearray = field(default_factory=bytearray, init=False)

    def feed(self, piece: bytes) -> None:
        """Take some of standard output; a line that is no JSON object is the runtime's own chatter.

        Raises:
            EdgecError: ``remote-failed`` where a line does not end.
        """
        *lines, rest = piece.split(b"\n")
        for line in lines:
            self._line += line
            self._take()
        self._line += rest
        if len(self._line) > MAX_LINE_BYTES:
            raise remote_failed(self.device, f"it printed a line of more than {MAX_LINE_BYTES:,} bytes")

    def complain(self, piece: bytes) -> None:
        """Take some of standard error; its end is kept."""
        self._complaint += piece
        del self._complaint[:-KEPT_COMPLAINT_BYTES]

    def _take(self) -> None:
        line, self._line = self._line, bytearray()
        try:
            value = _tame(json.loads(line, parse_constant=_refuse_constant))
        except (ValueError, RecursionError):  # no UTF-8 and numbers of 5,000 digits are ValueErrors too
            return
        if not isinstance(value, dict):
            return
        done, total = value.get("done"), value.get("total")
        if self.progress and len(value) == 2 and isinstance(done, int) and isinstance(total, int):
            self.progress(done, total)
        self._last = value

    def answer(self, status: int, otherwise: str = "") -> dict[str, Any]:
        """The last line of a script that ended with ``status``.

        Args:
            otherwise: why it ended, where neither its answer nor standard error says so.

        Raises:
            EdgecError: one of ``REFUSALS`` that the script named; ``missing-remote-runtime`` (no such Python),
                ``remote-failed`` (it ended in any other way).
        """
        if self._line:
            self._take()
        stderr = printable(self._complaint.decode(errors="replace")).strip()
        message = str(self._last.get("message", ""))[:MAX_MESSAGE]
        code = self._last.get("error")
        if isinstance(code, str) and code in REFUSALS:
            raise EdgecError(code, f"{self.device}: {message}", REFUSALS[code])
        if status == 127:  # the shell's "command not found"
            hint = REFUSALS["missing-remote-runtime"]
            raise EdgecError("missing-remote-runtime", f"{self.device} has no such Python: {stderr}", hint)
        if status != 0 or not self._last:
            said = " / ".join(filter(None, [otherwise, *stderr.splitlines()[-3:]]))
            why = message or said[-MAX_MESSAGE:] or "it printed no answer"
            raise remote_failed(self.device, f"the script ended with status {status}: {why}")
        return self._last


def checked(kind: type[T], answer: Mapping[str, Any], device: str) -> T:
    """An answer as the dataclass ``kind``; fields that it does not have are ignored.

    Raises:
        EdgecError: ``remote-failed`` names the field.
    """
    return validate(kind, answer, Path(f"answer of {device}"), "remote-failed")


def remote_failed(device: str, why: str) -> EdgecError:
    """A device that does not do what a script of ours does there."""
    hint = "the words are the device's own; if it was killed, look for memory ('dmesg' there)"
    return EdgecError("remote-failed", f"{device}: {why}", hint)


def _tame(value: Any) -> Any:
    """JSON data whose every text is printable."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, list):
        return [_tame(item) for item in value]
    return {printable(name): _tame(item) for name, item in value.items()} if isinstance(value, dict) else value


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")
