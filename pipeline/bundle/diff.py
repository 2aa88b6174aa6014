"""What changed between two releases of one model, in words, and the semver step that it calls for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from edgec.pipeline.bundle.manifest import FileEntry, Manifest
from edgec.pipeline.bundle.semver import STEPS, Step, parse_version
from edgec.pipeline.data.preprocess import Preprocess
from edgec.pipeline.forms.format import TensorContract
from edgec.pipeline.forms.measure import Latency

Figures = Mapping[str, Mapping[str, float | None]]
"""By name, and by form."""


@dataclass(frozen=True)
class Change:
    """One difference.

    Attributes:
        area: contract, scales, operators, preprocessing, labels, arena, size, accuracy, latency, data, toolchain...
        step: the weight that it has for somebody who has compiled the old release in.
        words: one sentence.
    """

    area: str
    step: Step
    words: str


@dataclass(frozen=True)
class Difference:
    """All changes from ``old`` to ``new``.

    Attributes:
        step: the heaviest of the changes.
        expected_version: what the new release should be called.
        is_version_right: it is called that, or higher by a heavier step.
    """

    old_version: str
    new_version: str
    changes: tuple[Change, ...]
    step: Step
    expected_version: str
    is_version_right: bool


def diff(old: Manifest, new: Manifest) -> Difference:
    """Compare two manifests; reads no other file, because every other file's digest is in them."""
    changes = (*_identity(old, new), *_contract(old, new), *_measured(old, new), *_origin(old, new), *_files(old, new))
    step = STEPS[max((STEPS.index(change.step) for change in changes), default=0)]
    before, after = parse_version(old.model.version), parse_version(new.model.version)
    expected = before.stepped(step)
    return Difference(str(before), str(after), changes, step, str(expected), after >= expected)


def _identity(old: Manifest, new: Manifest) -> Iterator[Change]:
    for area, before, after in (
        ("model", old.model.name, new.model.name),
        ("target", old.target.name, new.target.name),
        ("task", old.accuracy.task, new.accuracy.task),
        ("format", old.target.format, new.target.format),
        ("runtime", old.target.runtime, new.target.runtime),
        ("runtime versions", old.target.runtime_versions, new.target.runtime_versions),
        ("processor", old.target.processor, new.target.processor),
        ("precision", old.target.precision, new.target.precision),
    ):
        if before != after:
            yield Change(area, "major", f"{area}: '{before}' became '{after}'")


def _contract(old: Manifest, new: Manifest) -> Iterator[Change]:
    for side in ("inputs", "outputs"):
        before, after = getattr(old.contract, side), getattr(new.contract, side)
        if len(before) != len(after):
            yield Change("contract", "major", f"{len(before)} {side} became {len(after)}")
        for one, other in zip(before, after, strict=False):
            yield from _tensor(side.removesuffix("s"), one, other)
    if old.labels != new.labels:
        yield Change("labels", "major", _labels_words(old.labels, new.labels))
    for name in (field.name for field in fields(Preprocess)):
        before, after = getattr(old.preprocessing, name), getattr(new.preprocessing, name)
        if before != after:
            yield Change("preprocessing", "major", f"preprocessing: {name} {before} became {after}")
    if old.preprocessing.integer != new.preprocessing.integer:
        yield Change("preprocessing", "major", "the integer preprocessing has other constants")
    yield from _operators(old.contract.operators, new.contract.operators)


def _tensor(side: str, old: TensorContract, new: TensorContract) -> Iterator[Change]:
    for name in ("name", "dtype", "shape", "layout", "scale", "zero_point"):
        before, after = getattr(old, name), getattr(new, name)
        if before != after:
            area = "scales" if name in ("scale", "zero_point") else "contract"
            yield Change(area, "major", f"{side} '{old.name}': {name} {before} became {after}")


def _labels_words(old: tuple[str, ...], new: tuple[str, ...]) -> str:
    moved = sum(one != other for one, other in zip(old, new, strict=False)) + abs(len(old) - len(new))
    return f"{moved} of {max(len(old), len(new))} labels are others or elsewhere"


def _operators(old: Mapping[str, int], new: Mapping[str, int]) -> Iterator[Change]:
    """A kind of operator that is new needs the runtime to have it: firmware must register it."""
    for kind in sorted(old.keys() | new.keys()):
        before, after = old.get(kind, 0), new.get(kind, 0)
        if before != after:
            yield Change("operators", "patch" if before else "major", f"operator {kind}: {before} became {after}")


def _measured(old: Manifest, new: Manifest) -> Iterator[Change]:
    before_arena, after_arena = old.memory.arena_with_margin_bytes, new.memory.arena_with_margin_bytes
    yield from _number("arena", "tensor arena", "bytes", before_arena, after_arena, "major")
    yield from _number("size", "artifact", "bytes", old.size_bytes, new.size_bytes, "patch")
    for name in ("float", "reference", "target", "agreement"):
        before, after = getattr(old.accuracy, name), getattr(new.accuracy, name)
        yield from _number("accuracy", f"{name} accuracy", "percent", before, after, "minor")
    yield from _number("accuracy", "sqnr", "db", old.accuracy.sqnr_db, new.accuracy.sqnr_db, "minor")
    yield from _further(old.accuracy.metrics, new.accuracy.metrics)
    if _digests(old, "artifact") != _digests(new, "artifact"):
        yield from _latency(old.latency, new.latency)


def _further(old: Figures, new: Figures) -> Iterator[Change]:
    """A task's further figures, those of other packages among them."""
    for metric in sorted({*old, *new}):
        before, after = old.get(metric, {}), new.get(metric, {})
        for form in sorted({*before, *after}):
            yield from _number("accuracy", f"{metric} of {form}", "", before.get(form), after.get(form), "minor")


def _latency(old: Latency, new: Latency) -> Iterator[Change]:
    """Of two artifacts that differ. Only intervals tell a change from noise; those that overlap are none."""
    if old.p50_ms is None or new.p50_ms is None:
        yield from _number("latency", "median latency", "ms", old.p50_ms, new.p50_ms, "none")
        return
    if other := _other_conditions(old, new):
        yield Change("latency", "none", f"latency was measured under other conditions: {other}")
        return
    before, after = old.p50_interval_ms, new.p50_interval_ms
    known = before is not None and after is not None
    if before and after and before[0] <= after[1] and after[0] <= before[1]:
        return
    for change in _number("latency", "median latency", "ms", old.p50_ms, new.p50_ms, "minor" if known else "none"):
        yield change if known else replace(change, words=f"{change.words}; without intervals it may be noise")


def _other_conditions(old: Latency, new: Latency) -> str:
    before, after = ({"device": found.device, **found.fingerprint} for found in (old, new))
    names = sorted(before.keys() | after.keys())
    return "; ".join(
        f"{name} {before.get(name)} became {after.get(name)}" for name in names if before.get(name) != after.get(name)
    )


def _digests(manifest: Manifest, role: str) -> dict[str, str]:
    return {entry.path: entry.sha256 for entry in manifest.files if entry.role == role}


def _number(area: str, what: str, unit: str, old: float | None, new: float | None, step: Step) -> Iterator[Change]:
    if old == new:
        return
    if old is None or new is None:
        words = f"{what}: {_shown(old, unit)} became {_shown(new, unit)}"
    else:
        percent = f" ({100 * (new - old) / old:+.1f} %)" if old and unit in ("bytes", "ms") else ""
        words = f"{what}: {_shown(old, unit)} became {_shown(new, unit)}, {new - old:+.6g}{percent}"
    yield Change(area, step, words)


def _shown(value: float | None, unit: str) -> str:
    return "not measured" if value is None else f"{value:.8g} {unit}".rstrip()


def _origin(old: Manifest, new: Manifest) -> Iterator[Change]:
    before, after = old.origin, new.origin
    for area, one, other in (
        ("checkpoint", before.source.checkpoint_sha256, after.source.checkpoint_sha256),
        ("calibration data", before.calibration_set, after.calibration_set),
        ("test data", before.test_set, after.test_set),
        ("network", before.source.network, after.source.network),
        ("quantizer", before.quantizer, after.quantizer),
        ("minutes of learning", before.learn_minutes, after.learn_minutes),
        ("largest drop", before.max_drop_pp, after.max_drop_pp),
        ("deciding data", before.deciding_set, after.deciding_set),
        ("board", before.target, after.target),
        ("git commit", before.git_commit, after.git_commit),
        ("licences", old.licences, new.licences),
    ):
        if one != other:
            yield Change(area, "patch", f"{area}: {_short(one)} became {_short(other)}")
    yield from _toolchain(before.toolchain, after.toolchain)


def _toolchain(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[Change]:
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            words = f"{name}: {old.get(name, 'absent')} became {new.get(name, 'absent')}"
            yield Change("toolchain", "patch", words)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _files(old: Manifest, new: Manifest) -> Iterator[Change]:
    """The artifact may differ in its weights alone: nothing above would say so."""
    if _digests(old, "artifact") != _digests(new, "artifact"):
        yield Change("artifact", "patch", "the artifact has other bytes")
    before, after = ({entry.path: entry for entry in manifest.files} for manifest in (old, new))
    for path in sorted(before.keys() ^ after.keys()):
        yield Change("files", "patch", f"{path} was {'removed' if path in before else 'added'}")
    others = [p for p in sorted(before.keys() & after.keys()) if _differs(before[p], after[p])]
    if others:
        yield Change("files", "patch", f"{len(others)} other files have other bytes: {', '.join(others[:8])}")


def _differs(old: FileEntry, new: FileEntry) -> bool:
    return old.reproducible and old.role != "artifact" and old.sha256 != new.sha256
