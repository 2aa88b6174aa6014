"""The process that runs a bundle's golden vectors; it loads no more than the runtime takes.

python -m edgec.pipeline.bundle.golden_worker

Its standard input has a pickled ``Request``, for which it opens the artifact, and later a line, upon which it runs the
vectors: whoever asks checks and prepares the rest meanwhile. The end of its input in the line's place ends it.
"""

from __future__ import annotations

import json
import os
import pickle
import resource
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.forms.compiler import load_compiler
from edgec.pipeline.forms.device import open_device
from edgec.pipeline.forms.form import reference_form
from edgec.pipeline.forms.format import Batch, Predictor

MAX_DATA_BYTES = 8 << 30  # of the process; without a limit where a GPU's driver maps more than it takes


@dataclass(frozen=True)
class Request:
    """What one process is asked.

    Attributes:
        settings: of the compiler, as ``settings_of`` reads them off a target.
        limited: in memory.
        on: a device that runs the artifact, instead of this machine.
        batch: ``.npy`` with the vectors as ``(N, C, H, W)`` float32; there before the line.
        outputs: folder for ``0.npy``, ``1.npy`` and so on, and ``reply.json``.
    """

    compiler: str
    settings: Any
    limited: bool
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
    compiler, settings, artifact = load_compiler(request.compiler), request.settings, Path(request.artifact)
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
    if request.limited:
        _limit_memory()
    try:
        predictor, missing = _runner(request)
        if not sys.stdin.buffer.readline():
            return None
        batch: Batch = np.load(request.batch)
        outputs = predictor.predict(batch)
    except EdgecError as error:
        return Reply(code=error.code, message=error.message, hint=error.hint)
    for i, values in enumerate(outputs):
        np.save(Path(request.outputs) / f"{i}.npy", values)
    return Reply(len(outputs), missing)


def main() -> None:
    """Answer one request, in ``reply.json``."""
    request: Request = pickle.load(sys.stdin.buffer)
    reply = _answer(request)
    if reply is not None:
        (Path(request.outputs) / "reply.json").write_text(json.dumps(asdict(reply)), encoding="utf-8")


if __name__ == "__main__":
    main()
    os._exit(0)  # a runtime that takes itself down piece by piece has nothing more to say
