"""One point built and measured as ``edgec build`` would."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import rfc8785

from edgec.pipeline.bundle.release import Release
from edgec.pipeline.core.code import code_digests
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.scratch import scratch
from edgec.pipeline.core.stage import plain
from edgec.pipeline.core.store import Store
from edgec.pipeline.data.dataset import split_off_deciding
from edgec.pipeline.deliver import Judging, judged_release
from edgec.pipeline.forms.compiler import load_compiler
from edgec.pipeline.forms.format import size_bytes
from edgec.pipeline.forms.measure import cpu_model
from edgec.pipeline.forms.scheme import Level
from edgec.pipeline.forms.spec import with_precision
from edgec.pipeline.precision import headline
from edgec.pipeline.recipe import Recipe, TorchSource, minutes_to_learn
from edgec.pipeline.search.space import Found, Granularity, Impossible, Outcome, Point, Space

MakeRecipe = Callable[[str | None, int | None], Recipe]
"""The user's request with other weights and another size of the input."""

MS, INSTRUCTIONS, ARENA = "ms", "instructions", "bytes of arena"
IMPOSSIBLE = ("mixed-gains-nothing", "unsupported-precision", "unsupported-operator", "invalid-network-option")
"""Refusals that say a point cannot be; any other ends the search."""


@dataclass(frozen=True)
class Judge:
    """Builds points. Half of the test images decide; the others are left to judge what is chosen.

    Attributes:
        on: the device that measures; this machine where None.
    """

    make: MakeRecipe
    store: Store
    on: str | None = None
    threads: int = 1

    def __call__(self, point: Point) -> Outcome:
        """Headline of the artifact and cost of one inference.

        Raises:
            EdgecError: whatever a build raises, but for what makes a point impossible.
        """
        try:
            with scratch("search") as work:
                recipe = self.recipe(point, decides=True)
                release = judged_release(recipe, self.store, Judging(self.threads, self.on, beside_float=False), work)
                return _found(point, release)
        except EdgecError as error:
            if error.code not in IMPOSSIBLE:
                raise
            return Impossible(point, f"{error.code}: {error.message}")

    def recipe(self, point: Point, decides: bool) -> Recipe:
        """The request at a point, on the images that decide, or on the others."""
        recipe = self.make(point.weights, point.px)
        target = with_precision(recipe.target, point.precision)
        if point.granularity != target.scheme.weight_granularity:
            name = f"{target.scheme.name}-{point.granularity}"
            target = replace(target, scheme=replace(target.scheme, name=name, weight_granularity=point.granularity))
        deciding, rest = split_off_deciding(recipe.test)
        level = "fast" if point.precision == "fp16" else point.level
        minutes = minutes_to_learn(None, level)
        images = deciding if decides else rest
        return replace(recipe, target=target, quantizer=level, learn_minutes=minutes, test=images)

    def name(self, space: Space) -> str:
        """Of all that decides an outcome: the space, models, target, data, device, threads, and edgec's own code."""
        recipes = [self.make(weights, px) for weights in space.weights for px in space.px]
        usual = recipes[0]
        facts = {
            "space": plain(space),
            "sources": [plain(recipe.source) for recipe in recipes],
            "target": plain(usual.target),
            "data": [images.artifact().sha256 for images in (usual.calibration, usual.test)],
            "where": self.on or cpu_model(),
            "threads": self.threads,
            "code": code_digests([__name__, f"edgec.targets.{usual.target.compiler}"]),
        }
        return hashlib.sha256(rfc8785.dumps(facts)).hexdigest()


def space_of(recipe: Recipe, px: tuple[int, ...], weights: tuple[str, ...], levels: tuple[Level, ...]) -> Space:
    """What may vary: of a network from PyTorch also the input's size.

    Raises:
        EdgecError: ``option-not-for-onnx`` where sizes are asked of a file.
    """
    if px and not isinstance(recipe.source, TorchSource):
        raise EdgecError("option-not-for-onnx", "--px does not apply to an ONNX file", "it carries its own shape")
    precisions = recipe.target.precisions
    own = recipe.target.scheme.weight_granularity
    granularities: tuple[Granularity, ...] = ("per_channel", "per_tensor") if own == "per_channel" else (own,)
    return Space(precisions, levels, granularities, px or (None,), weights or (None,))


def check_measurable(recipe: Recipe, on: str | None) -> None:
    """Something at hand can say what an inference costs.

    Raises:
        EdgecError: ``precision-undecided``.
    """
    compiler, target = load_compiler(recipe.target.compiler), recipe.target
    here = target.device.is_this_machine and compiler.probe(recipe.settings).can_run
    if on is None and not here and not compiler.FORMAT.counts_arena(recipe.settings):
        message = f"nothing at hand can say what an inference on '{target.name}' costs"
        raise EdgecError("precision-undecided", message, "give --on qemu:cortex-a76 or ssh://user@host")


def _found(point: Point, release: Release) -> Found:
    cost, unit = _cost(release)
    accuracy = release.accuracy
    score = headline(accuracy, "target" if accuracy.shipped == "target" else "reference")
    return Found(point, score, cost, unit, accuracy.sqnr_db, size_bytes(release.artifact))


def _cost(release: Release) -> tuple[float, str]:
    """Milliseconds; instructions of an emulated core; the arena of a microcontroller."""
    if release.latency.p50_ms is not None:
        return release.latency.p50_ms, MS
    if release.instructions is not None:
        return float(release.instructions), INSTRUCTIONS
    if release.memory.arena_bytes is not None:
        return float(release.memory.arena_bytes), ARENA
    message = f"nothing says what an inference on '{release.recipe.target.name}' costs"
    raise EdgecError("precision-undecided", message, "give --on DEVICE")
