"""The process that runs a bundle's golden vectors; it loads no more than the runtime takes.

python -m edgec.pipeline.bundle.golden_worker REQUEST.json
"""

from __future__ import annotations

import json
import resource
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

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
        batch: ``.npy`` with the vectors as ``(N, C, H, W)`` float32.
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


def _answer(request: Request) -> Reply:
    if request.target.device.gpu is None:
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        most = MAX_DATA_BYTES if hard == resource.RLIM_INFINITY else min(hard, MAX_DATA_BYTES)
        resource.setrlimit(resource.RLIMIT_DATA, (most, hard))
    batch: Batch = np.load(request.batch)
    try:
        predictor, missing = _runner(request)
        outputs = predictor.predict(batch)
    except EdgecError as error:
        return Reply(code=error.code, message=error.message, hint=error.hint)
    for i, values in enumerate(outputs):
        np.save(Path(request.outputs) / f"{i}.npy", values)
    return Reply(len(outputs), missing)


def main(request: str) -> None:
    """Answer one request, in ``reply.json`` beside it."""
    asked = read_record(Request, Path(request), "corrupt-artifact-file")
    reply: dict[str, Any] = asdict(_answer(asked))
    Path(request).with_name("reply.json").write_text(json.dumps(reply), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
