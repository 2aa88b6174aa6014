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
from edgec.pipeline.bundle.manifest import corrupt
from edgec.pipeline.bundle.read import Bundle, open_bundle
from edgec.pipeline.bundle.signature import check_signature
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.forms.compiler import load_compiler
from edgec.pipeline.forms.device import open_device
from edgec.pipeline.forms.form import REFERENCE, reference_form
from edgec.pipeline.forms.format import Outputs, Predictor
from edgec.pipeline.forms.golden import GoldenSet, as_batch, read_golden, stem, to_tensor
from edgec.pipeline.forms.integer_preprocess import fold


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


def verify(path: Path, trusted_key: Path | None = None, run: bool = True, on: str | None = None) -> Verified:
    """Check everything that this machine, and the device ``on``, can check.

    Where the artifact cannot run here, its quantized network runs in its place, and the artifact is named as skipped.

    Args:
        path: folder or archive.
        trusted_key: PEM file; the bundle must be signed with it.
        run: run the golden vectors too.
        on: a device that runs them, instead of this machine.

    Raises:
        EdgecError: what opening, devices and ``check_signature`` raise; ``contract-mismatch`` where the artifact is not
            what the manifest states; ``golden-mismatch`` where it answers otherwise than recorded.
    """
    with opened(path) as bundle:
        checked = [f"{len(bundle.manifest.files)} files have the size and sha256 that the manifest lists"]
        checked.append(f"signature: {check_signature(bundle.folder, trusted_key)}")
        _check_semantics(bundle)
        checked.append("the artifact has the inputs, outputs, scales and operators that the manifest states")
        golden = read_golden(bundle.folder / "golden")
        skipped = []
        if run:
            runner, expected, missing = _runner(bundle, golden, on)
            where = f"on {on}" if on else "here"
            checked.append(f"{_check_answers(bundle, golden, runner, expected)}, {where}")
            skipped += [f"the artifact itself was not run: {missing}"] if missing else []
        else:
            skipped.append("golden vectors were not run again: not asked for")
        return Verified(bundle.manifest.model.name, bundle.manifest.model.version, tuple(checked), tuple(skipped))


def _runner(bundle: Bundle, golden: GoldenSet, on: str | None) -> tuple[Predictor, str, str]:
    """What runs the vectors, whose answers it is compared with, and why it is not the artifact; mostly empty."""
    compiler, settings = load_compiler(bundle.target.compiler), bundle.settings
    if on is not None:
        return compiler.on_device(open_device(on), bundle.artifact, settings, 1), golden.expected, ""
    probe = compiler.probe(settings)
    if probe.can_run:
        return compiler.open_runner(bundle.artifact, settings, 1), golden.expected, ""
    return reference_form().open(bundle.qdq_onnx), REFERENCE, probe.missing


def _check_semantics(bundle: Bundle) -> None:
    format_ = load_compiler(bundle.target.compiler).FORMAT
    stated, found = bundle.manifest.contract, format_.contract(bundle.artifact)
    if format_.name != bundle.manifest.target.format:
        raise _mismatch(bundle, "format", bundle.manifest.target.format, format_.name)
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


def _check_answers(bundle: Bundle, golden: GoldenSet, runner: Predictor, kernel_set: str) -> str:
    """Run every vector and compare with what ``kernel_set`` answered when the bundle was built."""
    source, folder = bundle.manifest.contract.inputs[0], bundle.folder / "golden"
    fed = _load(folder, f"inputs.{source.dtype}", bundle)
    worst = _distances(bundle, golden, runner.predict(as_batch(fed, source, bundle.preprocess)), kernel_set)
    if not np.all(worst <= golden.tolerance_steps):  # also where one is not a number
        vector = golden.vectors[int(np.argmax(np.nan_to_num(worst, nan=np.inf)))].name
        raise EdgecError(
            "golden-mismatch",
            f"'{bundle.folder}': vector '{vector}' is {np.nanmax(worst):.1f} steps off, expected at most "
            f"{golden.tolerance_steps}",
            "this runtime computes something else; compare its version with the manifest's",
        )
    return (
        f"{len(worst)} golden vectors answered as '{kernel_set}' did: largest difference {worst.max():.0f} of "
        f"{golden.tolerance_steps} steps"
    )


def _distances(bundle: Bundle, golden: GoldenSet, outputs: Outputs, kernel_set: str) -> npt.NDArray[np.float64]:
    """How far each vector's answers are off, in steps, over all outputs ``(N,)``."""
    found = []
    for i, (values, tensor) in enumerate(zip(outputs, bundle.manifest.contract.outputs, strict=True)):
        expected = _load(bundle.folder / "golden", f"{stem(f'outputs.{kernel_set}', i)}.{tensor.dtype}", bundle)
        answers = to_tensor(values, tensor).reshape(expected.shape)
        step = 1.0 if tensor.scale is not None else golden.steps[i]
        distance = np.abs(answers.astype(np.float64) - expected.astype(np.float64)) / step
        found.append(distance.reshape(len(expected), -1).max(axis=1))
    return np.max(found, axis=0)  # type: ignore[no-any-return]


def _load(folder: Path, stem: str, bundle: Bundle) -> npt.NDArray[np.generic]:
    try:
        loaded: npt.NDArray[np.generic] = np.load(folder / f"{stem}.npy", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise corrupt(f"'{bundle.folder}': golden/{stem}.npy cannot be read: {error}") from error
    return loaded
