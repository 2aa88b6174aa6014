"""What a script on a device printed: JSON lines, progress on the way and the answer as the last one."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.progress import Report

REFUSALS = {
    "missing-remote-runtime": "on the device: 'pip install ai-edge-litert' (tflite-runtime on 32-bit Arm), or name the "
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
    """Reads a script's output line by line.

    Attributes:
        device: its name, for messages.
        progress: told of ``{"done": ..., "total": ...}`` lines.
    """

    device: str
    progress: Report | None = None
    _last: dict[str, Any] = field(default_factory=dict, init=False)

    def feed(self, line: str) -> None:
        """Take one line; what is not a JSON object is the runtime's own chatter."""
        try:
            value = json.loads(line)
        except json.JSONDecodeError:
            return
        if not isinstance(value, dict):
            return
        if self.progress and value.keys() == {"done", "total"}:
            self.progress(value["done"], value["total"])
        self._last = value

    def answer(self, status: int, stderr: str) -> dict[str, Any]:
        """The last line of a script that ended with ``status``.

        Raises:
            EdgecError: one of ``REFUSALS`` that the script named; ``missing-remote-runtime`` (no such Python),
                ``remote-failed`` (it ended in any other way).
        """
        code = self._last.get("error")
        if code in REFUSALS:
            raise EdgecError(code, f"{self.device}: {self._last.get('message')}", REFUSALS[code])
        if status == 127:  # the shell's "command not found"
            hint = REFUSALS["missing-remote-runtime"]
            raise EdgecError("missing-remote-runtime", f"{self.device} has no such Python: {stderr.strip()}", hint)
        if status != 0 or not self._last:
            why = self._last.get("message") or " / ".join(stderr.strip().splitlines()[-3:]) or "it printed no answer"
            hint = "the message is the device's own; if it was killed, look for memory ('dmesg' there)"
            raise EdgecError("remote-failed", f"{self.device}: the script ended with status {status}: {why}", hint)
        return self._last
