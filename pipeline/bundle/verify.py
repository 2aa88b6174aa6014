"""Proves a bundle: files, manifest, what the artifact really is, and what it answers here. Fails closed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgec.pipeline.bundle.archive import SUFFIX, called, unpack
from edgec.pipeline.bundle.golden_run import read_answers, vectors_process
from edgec.pipeline.bundle.manifest import ENGINE, corrupt
from edgec.pipeline.bundle.read import Bundle, open_bundle
from edgec.pipeline.bundle.signature import check_signatures, unchecked_signatures
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.scratch import scratch
from edgec.pipeline.forms.compiler import load_compiler
from edgec.pipeline.forms.form import REFERENCE
from edgec.pipeline.forms.format import Outputs, damaged, size_bytes, sound
from edgec.pipeline.forms.golden import GoldenSet, distances, read_golden, stem
from edgec.pipeline.forms.golden_inputs import to_tensor
from edgec.pipeline.forms.integer_preprocess import fold
from edgec.pipeline.forms.memory import memory_fit


@dataclass(frozen=True)
class Verified:
    """What was checked, each in one sentence, and what could not be.

    Attributes:
        skipped: checks that this machine cannot make, with the reason; empty after a full verification.
        warnings: what is wrong although the bundle is what it says: it does not fit its board.
    """

    bundle: str
    version: str
    checked: tuple[str, ...]
    skipped: tuple[str, ...]
    warnings: tuple[str, ...]


@contextmanager
def opened(path: Path) -> Iterator[Bundle]:
    """A checked bundle from a folder or an archive; an archive is unpacked for the time of the block.

    Raises:
        EdgecError: what ``open_bundle`` and ``unpack`` raise.
    """
    if not path.name.endswith(SUFFIX):
        yield open_bundle(path)
        return
    with scratch("opened") as folder:
        unpack(path, folder / "bundle")
        with called(folder / "bundle", path):
            yield open_bundle(folder / "bundle")


def verify(path: Path, trusted_keys: Sequence[Path] = (), run: bool = True, on: str | None = None) -> Verified:
    """Check everything that this machine, and the device ``on``, can check.

    Where the artifact cannot run here, its quantized network runs in its place, and the artifact is named as skipped.

    Args:
        path: folder or archive.
        trusted_keys: PEM files; the bundle must be signed with each.
        run: run the golden vectors too.
        on: a device that runs them, instead of this machine.

    Raises:
        EdgecError: what opening, devices and ``check_signatures`` raise; ``contract-mismatch`` where the artifact is
            not what the manifest states; ``golden-mismatch`` where it answers otherwise than recorded.
    """
    with ExitStack() as opened_here:
        bundle = opened_here.enter_context(opened(path))
        _check_names(bundle)
        process = opened_here.enter_context(vectors_process(bundle, on)) if run else None
        checked = [f"{len(bundle.manifest.files)} files have the size and sha256 that the manifest lists"]
        checked += [f"signature: {words}" for words in check_signatures(bundle.folder, trusted_keys)]
        _check_semantics(bundle)
        checked.append("the artifact has the inputs, outputs, scales and operators that the manifest states")
        golden = _checked_golden(bundle)
        skipped = [f"signature: {words}" for words in unchecked_signatures(bundle.folder, trusted_keys)]
        if process is not None:
            answered = process.answers(golden)
            expected = REFERENCE if answered.missing else golden.expected
            where = f"on {on}" if on else "here"
            checked.append(f"{_check_answers(bundle, golden, answered.outputs, expected)}, {where}")
            skipped += [f"the artifact itself was not run: {answered.missing}"] if answered.missing else []
        else:
            skipped.append("golden vectors were not run again: not asked for")
        model, warning = bundle.manifest.model, bundle.manifest.memory.warning
        return Verified(model.name, model.version, tuple(checked), tuple(skipped), (warning,) if warning else ())


def _check_names(bundle: Bundle) -> None:
    """What is run is the artifact, as its target's format names it."""
    manifest, format_ = bundle.manifest, load_compiler(bundle.target.compiler).FORMAT
    for what, said, is_ in (
        ("target", (manifest.target.name, manifest.target.compiler), (bundle.target.name, bundle.target.compiler)),
        ("format", manifest.target.format, format_.name),
        ("artifact", manifest.target.artifact, format_.artifact),
    ):
        if said != is_:
            raise _mismatch(bundle, what, said, is_)


def _check_semantics(bundle: Bundle) -> None:
    manifest, stated = bundle.manifest, bundle.manifest.contract
    format_ = load_compiler(bundle.target.compiler).FORMAT
    found = sound(format_.contract(bundle.artifact), bundle.artifact)
    for what in ("inputs", "outputs", "operators"):
        if getattr(stated, what) != getattr(found, what):
            raise _mismatch(bundle, what, getattr(stated, what), getattr(found, what))
    integer = fold(bundle.preprocess, found.inputs[0])
    if integer != manifest.preprocessing.integer:
        raise _mismatch(bundle, "integer preprocessing", manifest.preprocessing.integer, integer)
    if (bundle.folder / "labels.txt").read_bytes() != "".join(f"{label}\n" for label in bundle.labels).encode():
        raise _mismatch(bundle, "labels", "those of manifest.json", "others in labels.txt")
    memory = manifest.memory
    made_there = sum(entry.bytes for entry in manifest.files if entry.role == ENGINE)
    size = size_bytes(bundle.artifact) - made_there
    fit = memory_fit(size, memory.arena_bytes, bundle.target.device, 1.0, 1, memory.arena_source)
    if replace(fit, would_fit=memory.would_fit) != memory or fit.flash_bytes != manifest.size_bytes:
        raise _mismatch(bundle, "memory", memory, fit)


def _mismatch(bundle: Bundle, what: str, stated: object, found: object) -> EdgecError:
    return EdgecError(
        "contract-mismatch",
        f"'{bundle.folder}': the manifest states {what} {stated}, the artifact has {found}",
        "do not use it; ask who built it",
    )


def _checked_golden(bundle: Bundle) -> GoldenSet:
    """``golden.json``, if it fits the manifest: as many steps as outputs, answers of whom it names."""
    golden, outputs = read_golden(bundle.folder / "golden"), bundle.manifest.contract.outputs
    steps = len(golden.steps) == len(outputs) and all(0 < step < math.inf for step in golden.steps)
    named = {golden.expected, REFERENCE} <= {*golden.kernel_sets}
    if not steps or not named or not golden.vectors or golden.tolerance_steps < 0:
        raise corrupt(f"'{bundle.folder}': golden/golden.json does not fit the manifest")
    return golden


def _check_answers(bundle: Bundle, golden: GoldenSet, outputs: Outputs, kernel_set: str) -> str:
    """Compare the answers to every vector with what ``kernel_set`` answered when the bundle was built."""
    worst = _distances(bundle, golden, outputs, kernel_set)
    if not np.all(worst <= golden.tolerance_steps):  # also where one is not a number
        vector = golden.vectors[int(np.argmax(np.nan_to_num(worst, nan=np.inf)))].name
        raise EdgecError(
            "golden-mismatch",
            f"'{bundle.folder}': vector '{vector}' is {np.max(np.nan_to_num(worst, nan=np.inf)):.1f} steps off, "
            f"expected at most {golden.tolerance_steps}",
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
        expected = read_answers(bundle, golden, stem(f"outputs.{kernel_set}", i), tensor)
        answers = to_tensor(values, tensor)
        if answers.size != expected.size:
            raise damaged(bundle.artifact, f"it answers {values.shape} for '{tensor.name}', expected {expected.shape}")
        step = 1.0 if tensor.scale is not None else golden.steps[i]
        found.append(distances(answers.reshape(expected.shape), expected, tensor) / step)
    return np.max(found, axis=0)  # type: ignore[no-any-return]
