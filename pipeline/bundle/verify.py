"""Proves a bundle: files, manifest, what the artifact really is, and what it answers here. Fails closed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgec.pipeline.bundle.archive import SUFFIX, unpack
from edgec.pipeline.bundle.contract import TensorContract, read_contract
from edgec.pipeline.bundle.golden import GoldenSet, read_golden, to_real, to_tensor
from edgec.pipeline.bundle.integer_preprocess import fold
from edgec.pipeline.bundle.manifest import corrupt
from edgec.pipeline.bundle.read import Bundle, open_bundle
from edgec.pipeline.bundle.signature import check_signature
from edgec.pipeline.errors import EdgecError
from edgec.targets.adapter import load_adapter


@dataclass(frozen=True)
class Verified:
    """What was checked, each in one sentence, and what could not be.

    Attributes:
        skipped: checks that this machine cannot make, with the reason; empty after a full verification.
    """

    bundle: str
    version: str
    checked: tuple[str, ...]
    skipped: tuple[str, ...]


@contextmanager
def opened(path: Path) -> Iterator[Bundle]:
    """A checked bundle from a folder or an archive; an archive is unpacked for the time of the block.

    Raises:
        EdgecError: what ``open_bundle`` and ``unpack`` raise.
    """
    if not path.name.endswith(SUFFIX):
        yield open_bundle(path)
        return
    with tempfile.TemporaryDirectory(prefix="edgec-") as folder:
        unpack(path, Path(folder) / "bundle")
        yield open_bundle(Path(folder) / "bundle")


def verify(path: Path, trusted_key: Path | None = None, run: bool = True) -> Verified:
    """Check everything that this machine can check.

    Args:
        path: folder or archive.
        trusted_key: PEM file; the bundle must be signed with it.
        run: run the golden vectors too.

    Raises:
        EdgecError: what opening and ``check_signature`` raise; ``contract-mismatch`` where the artifact is not what
            the manifest states; ``golden-mismatch`` where it answers otherwise than recorded.
    """
    with opened(path) as bundle:
        checked = [f"{len(bundle.manifest.files)} files have the size and sha256 that the manifest lists"]
        checked.append(f"signature: {check_signature(bundle.folder, trusted_key)}")
        _check_semantics(bundle)
        checked.append("the artifact has the inputs, outputs, scales and operators that the manifest states")
        golden = _golden(bundle)
        probe = load_adapter(bundle.target.compiler).probe()
        skipped = []
        if run and probe.can_run:
            checked.append(_check_answers(bundle, golden))
        else:
            why = probe.missing if run else "not asked for"
            skipped.append(f"golden vectors were not run again: {why}")
        return Verified(bundle.manifest.model.name, bundle.manifest.model.version, tuple(checked), tuple(skipped))


def _check_semantics(bundle: Bundle) -> None:
    stated, found = bundle.manifest.contract, read_contract(bundle.artifact, bundle.qdq_onnx)
    for what in ("inputs", "outputs", "operators"):
        if getattr(stated, what) != getattr(found, what):
            raise _mismatch(bundle, what, getattr(stated, what), getattr(found, what))
    integer = fold(bundle.preprocess, found.inputs[0])
    if integer != bundle.manifest.preprocessing.integer:
        raise _mismatch(bundle, "integer preprocessing", bundle.manifest.preprocessing.integer, integer)
    labels = "".join(f"{label}\n" for label in bundle.labels)
    if (bundle.folder / "labels.txt").read_text(encoding="utf-8") != labels:
        raise _mismatch(bundle, "labels", "those of manifest.json", "others in labels.txt")


def _mismatch(bundle: Bundle, what: str, stated: object, found: object) -> EdgecError:
    return EdgecError(
        "contract-mismatch",
        f"'{bundle.folder}': the manifest states {what} {stated}, the artifact has {found}",
        "do not use it; ask who built it",
    )


def _golden(bundle: Bundle) -> GoldenSet:
    try:
        return read_golden(bundle.folder / "golden")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise corrupt(f"'{bundle.folder / 'golden'}': golden.json cannot be read: {error}") from error


def _check_answers(bundle: Bundle, golden: GoldenSet) -> str:
    """Run every vector on the target's own runtime and compare with what it answered when the bundle was built."""
    source, output = bundle.manifest.contract.inputs[0], bundle.manifest.contract.outputs[0]
    folder = bundle.folder / "golden"
    fed = _load(folder, f"inputs.{source.dtype}", bundle)
    expected = _load(folder, f"outputs.{golden.expected}.{output.dtype}", bundle)
    runner = load_adapter(bundle.target.compiler).open_runner(bundle.artifact, bundle.target, 1)
    answers = to_tensor(runner.predict(_as_batch(fed, source)), output).reshape(expected.shape)
    step = 1.0 if output.scale is not None else golden.step
    distance = np.abs(answers.astype(np.float64) - expected.astype(np.float64)) / step
    worst = distance.reshape(len(expected), -1).max(axis=1)
    if not np.all(worst <= golden.tolerance_steps):  # also where one is not a number
        vector = golden.vectors[int(np.argmax(np.nan_to_num(worst, nan=np.inf)))].name
        raise EdgecError(
            "golden-mismatch",
            f"'{bundle.folder}': vector '{vector}' is {np.nanmax(worst):.1f} steps off, expected at most "
            f"{golden.tolerance_steps}",
            "this runtime computes something else; compare its version with the manifest's",
        )
    return f"{len(worst)} golden vectors ran; largest difference {worst.max():.0f} of {golden.tolerance_steps} steps"


def _as_batch(fed: npt.NDArray[np.generic], source: TensorContract) -> npt.NDArray[np.float32]:
    nchw = fed.transpose(0, 3, 1, 2) if source.layout == "NHWC" else fed
    return to_real(np.ascontiguousarray(nchw), source)


def _load(folder: Path, stem: str, bundle: Bundle) -> npt.NDArray[np.generic]:
    try:
        loaded: npt.NDArray[np.generic] = np.load(folder / f"{stem}.npy", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise corrupt(f"'{bundle.folder}': golden/{stem}.npy cannot be read: {error}") from error
    return loaded
