"""Every precision of a board in one bundle, where only the device can tell which of them pays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from edgec.pipeline.bundle.release import Release
from edgec.pipeline.forms.compiler import load_compiler
from edgec.pipeline.forms.format import Candidate, size_bytes, undecided
from edgec.pipeline.forms.spec import with_precision
from edgec.pipeline.precision import headline
from edgec.pipeline.recipe import Recipe


def left_to_the_device(recipe: Recipe, release_for: Callable[[Recipe], Release], work: Path) -> Release:
    """The recipe's own precision, with all others of its board in the artifact.

    Which one is fastest depends on the device. What each loses does not, so it travels with the files.

    Args:
        release_for: builds a recipe.
        work: an empty folder that outlives the release.

    Raises:
        EdgecError: ``precision-undecided`` where the format holds one network; what ``release_for`` raises.
    """
    target, format_ = recipe.target, load_compiler(recipe.target.compiler).FORMAT
    if not format_.holds_candidates:
        raise undecided()
    releases = {name: release_for(replace(recipe, target=with_precision(target, name))) for name in target.precisions}
    candidates: dict[str, Candidate] = {
        name: Candidate(release.built.binary.path, round(_loss_pp(release), 4)) for name, release in releases.items()
    }
    own = releases[target.precision]
    artifact = work / own.artifact.name
    format_.with_candidates(target.precision, candidates, artifact)
    words = ", ".join(f"{name.upper()} loses {candidate.loss_pp:.1f} pp" for name, candidate in candidates.items())
    return replace(
        own,
        candidates=target.precisions,
        holding=artifact,
        memory=replace(own.memory, flash_bytes=size_bytes(artifact)),
        precision_verdict=f"{target.precision.upper()} until the device has chosen: {words}",
    )


def _loss_pp(release: Release) -> float:
    accuracy = release.accuracy
    best = 0.0 if accuracy.metric == "sqnr" else 100.0 if accuracy.float is None else accuracy.float
    return best - headline(accuracy, "reference")
