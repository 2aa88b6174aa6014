"""What the first inference of an artifact costs: time and memory from its file to an answer, in a process of its own.

python -m edgec.pipeline.forms.first_answer REQUEST.json
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from edgec.pipeline.core.json_file import read_record
from edgec.pipeline.core.scratch import scratch
from edgec.pipeline.forms.compiler import load_compiler, settings_of
from edgec.pipeline.forms.format import Batch
from edgec.pipeline.forms.measure import FirstAnswer
from edgec.pipeline.forms.spec import TargetSpec

TIMEOUT_S = 300.0
STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Request:
    """What the process is asked.

    Attributes:
        image: ``.npy`` with one ``(1, C, H, W)`` float32 image.
    """

    target: TargetSpec
    artifact: str
    image: str
    threads: int


def first_answer(target: TargetSpec, artifact: Path, image: Batch, threads: int) -> FirstAnswer:
    """Ask a new process."""
    with scratch("first") as folder:
        np.save(folder / "image.npy", image)
        request = Request(target, str(artifact.resolve()), str(folder / "image.npy"), threads)
        (folder / "request.json").write_text(json.dumps(asdict(request)), encoding="utf-8")
        command = [sys.executable, "-m", "edgec.pipeline.forms.first_answer", str(folder / "request.json")]
        try:
            subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=True)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            return FirstAnswer()
        return read_record(FirstAnswer, folder / "reply.json", "corrupt-artifact-file")


def _answer(request: Request) -> FirstAnswer:
    compiler, settings = load_compiler(request.target.compiler), settings_of(request.target)
    image: Batch = np.load(request.image)
    before = resident_bytes("VmRSS")
    compiler.probe(settings)
    started = time.perf_counter()
    compiler.open_runner(Path(request.artifact), settings, request.threads).single(image)()
    load_ms = 1000 * (time.perf_counter() - started)
    return FirstAnswer(load_ms, resident_bytes("VmHWM") - before if before else None)


def resident_bytes(what: str) -> int:
    """``VmRSS``, of this process now, or ``VmHWM``, the most so far; 0 where the system does not tell.

    ``ru_maxrss`` would begin with what the parent had.
    """
    lines = STATUS.read_text(encoding="utf-8").splitlines() if STATUS.is_file() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{what}:")), 0)


def main(request: str) -> None:
    """Answer one request, in ``reply.json`` beside it."""
    asked = read_record(Request, Path(request), "corrupt-artifact-file")
    Path(request).with_name("reply.json").write_text(json.dumps(asdict(_answer(asked))), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
