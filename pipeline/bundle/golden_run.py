"""Runs a bundle's golden vectors in a process of its own.

The artifact may be anyone's, and runtimes are not written for hostile files: they raise what they like, abort, or ask
for all memory. Whatever happens there is one refusal here.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgec.pipeline.bundle.golden_worker import Reply, Request
from edgec.pipeline.bundle.manifest import corrupt
from edgec.pipeline.bundle.read import Bundle
from edgec.pipeline.core.arrays import Expected, read_array
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.json_file import read_record
from edgec.pipeline.core.scratch import scratch
from edgec.pipeline.forms.compiler import settings_of
from edgec.pipeline.forms.format import Outputs, TensorContract, damaged
from edgec.pipeline.forms.golden import GoldenSet, inputs_of
from edgec.pipeline.forms.golden_inputs import as_batch

TIMEOUT_S = 3600.0  # emulated cores are slow


@dataclass(frozen=True)
class Answered:
    """What the network said.

    Attributes:
        outputs: of all vectors, float32.
        missing: why its quantized network answered in the artifact's place; empty where the artifact did.
    """

    outputs: Outputs
    missing: str


class VectorsProcess:
    """A process that has been asked to open the artifact; ``answers`` gives it the vectors.

    Args:
        folder: an empty one for what both say.
        on: a device that runs the artifact, instead of this machine.
    """

    def __init__(self, bundle: Bundle, on: str | None, folder: Path) -> None:
        self._bundle, self._folder = bundle, folder
        paths = (bundle.artifact, bundle.qdq_onnx, folder / "batch.npy", folder)
        target, where = bundle.target, (str(path.resolve()) for path in paths)
        request = Request(target.compiler, settings_of(target), target.device.gpu is None, on, *where)
        command = [sys.executable, "-m", "edgec.pipeline.bundle.golden_worker"]
        with (folder / "said").open("wb") as said:
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=said, stderr=said, bufsize=0)
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # why it ended says who asks for the answers
            self._process.stdin.write(pickle.dumps(request))

    def answers(self, golden: GoldenSet) -> Answered:
        """Run every vector; where the artifact cannot run here, its quantized network.

        Raises:
            EdgecError: ``corrupt-artifact-file`` where the runtime fails over the artifact; what devices raise.
        """
        bundle, source = self._bundle, self._bundle.manifest.contract.inputs[0]
        fed = inputs_of(bundle.folder / "golden", golden, source, bundle.preprocess)
        np.save(self._folder / "batch.npy", as_batch(fed, source, bundle.preprocess))
        reply = self._reply()
        outputs = [
            read_array(self._folder / f"{i}.npy", None, "corrupt-artifact-file") for i in range(reply.num_outputs)
        ]
        if len(outputs) != len(bundle.manifest.contract.outputs):
            raise damaged(bundle.artifact, f"it has {len(outputs)} outputs, not those that the manifest states")
        return Answered(tuple(np.array(values) for values in outputs), reply.missing)

    def end(self) -> None:
        """Whatever it still does."""
        self._process.kill()
        self._process.communicate()

    def _reply(self) -> Reply:
        artifact = self._bundle.artifact
        try:
            self._process.communicate(b"\n", timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise damaged(artifact, f"it did not answer within {TIMEOUT_S:g} s") from None
        status = self._process.returncode
        if status < 0:
            raise damaged(artifact, f"its runtime ended with signal {-status}")
        if status:
            lines = (self._folder / "said").read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise damaged(artifact, f"its runtime fails: {lines[-1] if lines else 'it does not say why'}")
        reply = read_record(Reply, self._folder / "reply.json", "corrupt-artifact-file")
        if reply.code:
            raise EdgecError(reply.code, reply.message, reply.hint)
        return reply


@contextmanager
def vectors_process(bundle: Bundle, on: str | None) -> Iterator[VectorsProcess]:
    """Loads runtime and artifact while the block checks the rest, and is gone after it."""
    with scratch("vectors") as folder:
        process = VectorsProcess(bundle, on, folder)
        try:
            yield process
        finally:
            process.end()


def read_answers(bundle: Bundle, golden: GoldenSet, stem: str, tensor: TensorContract) -> npt.NDArray[np.generic]:
    """Recorded answers in ``golden/`` as the artifact's tensor has them ``(N, ...)``.

    Raises:
        EdgecError: ``corrupt-bundle``.
    """
    name = f"golden/{stem}.{tensor.dtype}.npy"
    if name not in {entry.path for entry in bundle.manifest.files}:
        raise corrupt(f"'{bundle.folder}': the manifest lists no {name[:120]!r}")
    shape = (len(golden.vectors), *tensor.shape[1:])
    return read_array(bundle.folder / name, Expected(tensor.dtype, shape), "corrupt-bundle")
