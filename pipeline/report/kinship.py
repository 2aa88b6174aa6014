"""Which builds can be compared, and by name which cannot and why."""

from __future__ import annotations

from collections.abc import Sequence

from edgec.pipeline.bundle.model_card import counted
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.report.findings import Findings


def comparable(found: Sequence[Findings]) -> list[Findings]:
    """The builds with the task of the first.

    Raises:
        EdgecError: ``nothing-to-compare`` where it alone has it.
    """
    first = found[0]
    kept = [one for one in found if one.manifest.accuracy.task == first.manifest.accuracy.task]
    if len(found) > 1 and len(kept) == 1:
        tasks = "; ".join(f"'{one.name}' is judged as {one.manifest.accuracy.task}" for one in found)
        raise EdgecError("nothing-to-compare", tasks, "write a page for each task")
    return kept


def same_images(one: Findings, other: Findings) -> bool:
    """Both were tested on the same images."""
    return one.manifest.origin.test_set.sha256 == other.manifest.origin.test_set.sha256


def same_machine(one: Findings, other: Findings) -> bool:
    """Both were timed on the same processor with as many threads."""
    mine, others = one.manifest.latency, other.manifest.latency
    return (mine.device, mine.threads) == (others.device, others.threads)


def differences(found: Sequence[Findings]) -> list[str]:
    """What is not compared, in one sentence for each build and reason."""
    first, said = found[0], []
    for one in found[1:]:
        mine, its = one.manifest, first.manifest
        if mine.accuracy.task != its.accuracy.task:
            said.append(
                f"{one.name} is judged as {mine.accuracy.task}, {first.name} as {its.accuracy.task}: "
                "it is shown, and not compared."
            )
            continue
        if not same_images(one, first):
            said.append(
                f"{one.name} was tested on other images ({_set(one)}) than {first.name} ({_set(first)}): "
                "its accuracy is not compared."
            )
        elif mine.accuracy.metric != its.accuracy.metric:
            said.append(
                f"{one.name} is judged by {mine.accuracy.metric}, {first.name} by {its.accuracy.metric}, on the same "
                "images: only its agreement is compared."
            )
        if mine.latency.p50_ms is not None and its.latency.p50_ms is not None and not same_machine(one, first):
            said.append(
                f"{one.name} was timed on {_machine(one)}, {first.name} on {_machine(first)}: "
                "their latency is not compared."
            )
    return said


def _set(one: Findings) -> str:
    tested = one.manifest.origin.test_set
    return f"{tested.num_images:,}, sha256 {tested.sha256[:12]}…"


def _machine(one: Findings) -> str:
    found = one.manifest.latency
    threads = "" if found.threads is None else f" with {counted(found.threads, 'thread', 'threads')}"
    return f"{found.device or 'an unknown processor'}{threads}"
