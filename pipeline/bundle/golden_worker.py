"""The process that runs a bundle's golden vectors; it loads no more than the runtime takes.

python -m edgec.pipeline.bundle.golden_worker REQUEST.json

It opens the artifact at once, and waits for a line on its standard input before it reads the vectors: whoever asks can
check and prepare the rest meanwhile. A process whose asker is gone reads the end of its input, and ends.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.json_file import read_record
from edgec.pipeline.forms.compiler import load_compiler, settings_of
from edgec.pipeline.forms.device import open_device
from edgec.pipeline.forms.form import reference_form
from edgec.pipeline.forms.format import Batch, Predictor
from edgec.pipeline.forms.spec import TargetSpec

MAX_DATA_BYTES = 8 << 30  # of the process; without a limit where a GPU's driver maps more than it takes


@dataclass(frozen=True)
class Request:
    """What one process is asked.

    Attributes:
        on: a device that runs the artifact, instead of this machine.
        batch: ``.npy`` with the vectors as ``(N, C, H, W)`` float32; there before the line.
        outputs: folder for ``0.npy``, ``1.npy`` and so on.
    """

    target: TargetSpec
    on: str | None
    artifact: str
    qdq: str
    batch: str
    outputs: str


@dataclass(frozen=True)
class Reply:
    """The process's last line: an EdgecError's three parts, or how many outputs there are."""

    num_outputs: int = 0
    missing: str = ""
    code: str = ""
    message: str = ""
    hint: str = ""


def _runner(request: Request) -> tuple[Predictor, str]:
    """What runs the vectors, and why it is not the artifact; mostly empty."""
    compiler, settings = load_compiler(request.target.compiler), settings_of(request.target)
    artifact = Path(request.artifact)
    if request.on is not None:
        return compiler.on_device(open_device(request.on), artifact, settings, 1), ""
    probe = compiler.probe(settings)
    if probe.can_run:
        return compiler.open_runner(artifact, settings, 1), ""
    return reference_form().open(Path(request.qdq)), probe.missing


def _limit_memory() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most = MAX_DATA_BYTES if hard == resource.RLIM_INFINITY else min(hard, MAX_DATA_BYTES)
    resource.setrlimit(resource.RLIMIT_DATA, (most, hard))


def _answer(request: Request) -> Reply | None:
    """What the artifact says; None where nobody asks any more."""
    if request.target.device.gpu is None:
        _limit_memory()
    try:
        predictor, missing = _runner(request)
        if not sys.stdin.readline():
            return None
        batch: Batch = np.load(request.batch)
        outputs = predictor.predict(batch)
    except EdgecError as error:
        return Reply(code=error.code, message=error.message, hint=error.hint)
    for i, values in enumerate(outputs):
        np.save(Path(request.outputs) / f"{i}.npy", values)
    return Reply(len(outputs), missing)


def main(request: str) -> None:
    """Answer one request, in ``reply.json`` beside it."""
    reply = _answer(read_record(Request, Path(request), "corrupt-artifact-file"))
    if reply is not None:
        Path(request).with_name("reply.json").write_text(json.dumps(asdict(reply)), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
    os._exit(0)  # a runtime that takes itself down piece by piece has nothing more to say
