"""Runs engines on this machine's GPU, and finds out in a process of its own whether there is one.

Without a driver ``tensorrt.Runtime`` crashes its process (8.6.0), so that nothing of TensorRT is touched here before
``build_engine.py --facts`` came back well.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from edgec.pipeline.core.root import default_root
from edgec.pipeline.core.stage import file_sha256
from edgec.pipeline.forms.compiler import Probe
from edgec.pipeline.forms.format import Batch, Outputs
from edgec.targets.devices.answer import Transcript
from edgec.targets.tensorrt.format import SCRIPT, read_spec, shapes_of, split
from edgec.targets.tensorrt.options import TensorRtSettings

ELSEWHERE = "engines are built on the device: run build_engine.py there, or give --on ssh://user@host"
HOW_TO = {
    "missing-driver": "install NVIDIA's driver where there is a GPU; on a Jetson, flash JetPack",
    "missing-tensorrt": "on a Jetson 'sudo apt-get install nvidia-jetpack' and the system's python3; elsewhere "
    "pip install 'edgec[jetson]' (Python 3.10), or NVIDIA's own package",
}


@dataclass(frozen=True)
class EngineRunner:
    """An engine loaded in this process.

    Attributes:
        engine: ``build_engine.Engine``.
        shapes: of its outputs for one image, in their order.
    """

    engine: Any
    shapes: tuple[tuple[int, ...], ...]

    def predict(self, batch: Batch) -> Outputs:
        """``(N, C, H, W)`` to ``(N, ...)`` for each output, image by image as on the device."""
        answers = [np.frombuffer(self.engine.run(image.tobytes()), np.float32) for image in batch.astype(np.float32)]
        return split(np.stack(answers), self.shapes)

    def single(self, image: Batch) -> Callable[[], None]:
        """One image on the GPU; a call is one inference from enqueue to its end on the host."""
        self.engine.upload(np.ascontiguousarray(image, np.float32).tobytes())

        def invoke() -> None:
            self.engine.enqueue()
            self.engine.cuda("cuStreamSynchronize", self.engine.stream)

        return invoke


def open_runner(artifact: Path, settings: TensorRtSettings, threads: int) -> EngineRunner:
    """Build the engine unless it was, in a process of its own and into edgec's cache; load it in this one.

    Raises:
        EdgecError: what ``build_engine.py`` refuses.
    """
    folder = default_root() / "engines" / file_sha256(artifact / "engine_spec.json")
    _run_here(artifact / SCRIPT.name, ["--output", str(folder), "--budget-s", "0.1"])
    from edgec.targets.tensorrt import build_engine

    trt, _ = build_engine.import_tensorrt()
    spec = read_spec(artifact)
    plan = (folder / "model.engine").read_bytes()
    engine = build_engine.Engine(trt, build_engine.Cuda(), plan, spec, spec["dla_core"])
    return EngineRunner(engine, shapes_of(spec))


def probe(settings: TensorRtSettings | None = None) -> Probe:
    """Artifacts are built anywhere; engines run where driver and TensorRT answer and the GPU is the board's."""
    found = _facts()
    if "error" in found:
        return Probe(
            True, False, "", f"{found['message']}: {HOW_TO.get(found['error'], 'see the message')}; {ELSEWHERE}"
        )
    facts = f"TensorRT {found['tensorrt']}, {found['gpu']} ({found['compute_capability']}), {found['driver']}"
    wanted = settings.gpu.compute_capability if settings else None
    if wanted and wanted != found["compute_capability"]:
        return Probe(True, False, facts, f"this GPU is no {settings.board if settings else ''}; {ELSEWHERE}")
    return Probe(True, True, facts)


@lru_cache
def _facts() -> dict[str, Any]:
    """What ``build_engine.py --facts`` answers, or how it died."""
    done = subprocess.run([sys.executable, str(SCRIPT), "--facts"], capture_output=True, text=True, check=False)
    if done.returncode < 0:
        return {"error": "missing-driver", "message": f"TensorRT ended its process with signal {-done.returncode}"}
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _run_here(script: Path, arguments: Sequence[str]) -> dict[str, Any]:
    done = subprocess.run([sys.executable, str(script), *arguments], capture_output=True, check=False)
    transcript = Transcript("this machine")
    transcript.feed(done.stdout)
    transcript.complain(done.stderr)
    return transcript.answer(done.returncode)
