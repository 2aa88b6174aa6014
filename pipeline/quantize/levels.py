"""The levels of effort: each keeps its network only where it answers held-out images better than the level below."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from edgec.pipeline.forms.scheme import Level, Scheme
from edgec.pipeline.network.graph import Graph, Node
from edgec.pipeline.quantize.affine import Array
from edgec.pipeline.quantize.bias_correction import correct_biases
from edgec.pipeline.quantize.learning import Learning, learned
from edgec.pipeline.quantize.plan import NOTHING, Network, Plan, make_plan
from edgec.pipeline.quantize.ranges import clip_ranges
from edgec.pipeline.quantize.record import LearningRecord, LevelRecord
from edgec.pipeline.quantize.rounding import input_covariance, round_layer, roundable
from edgec.pipeline.quantize.simulate import every_output

Progress = Callable[[int, int], None]

LEVELS: tuple[Level, ...] = ("fast", "accurate", "best")

HELD_OUT = 3
"""One of so many images judges."""

SEED = 0
STANDARD_ERRORS = 2.0
"""Of the paired gain, by which a level has to be better: rare activations carry the answer of some images, and few
judges may hold none of them."""

LEARNING_STANDARD_ERRORS = 1.0
"""Learning moves every value a little, so that no rare one is at stake, and few judges cannot tell half a decibel."""

SHIFT_PX = 2

LEAST_NOISE = 1e-30


@dataclass(frozen=True, eq=False)
class Candidate:
    """One level's final network.

    Attributes:
        network: with the level's ranges and weights, its biases corrected.
        plan: of it.
    """

    network: Network
    plan: Plan


@dataclass(frozen=True)
class Quantizing:
    """What the levels have in common.

    Attributes:
        learning: how long ``best`` may learn; None for not at all.
    """

    scheme: Scheme
    floats: Mapping[str, str]
    progress: Progress | None = None
    learning: Learning | None = None

    def fast(self, network: Network, images: Tensor) -> Candidate:
        """Full ranges, corrected biases."""
        return self._corrected(network, images)

    def accurate(self, network: Network, images: Tensor) -> Candidate:
        """Clipped ranges as well."""
        clipped = clip_ranges(network, make_plan(network, self.scheme, self.floats), self.scheme, images)
        return self._corrected(clipped, images)

    def best(self, network: Network, images: Tensor) -> Candidate:
        """Each weight rounded by what it does to its layer's output as well."""
        plan = make_plan(network, self.scheme, self.floats)
        return self._corrected(network, images, partial(_rounded, network.graph, plan, len(images)))

    def learned(self, start: Candidate, teacher: Graph, images: Tensor) -> Candidate | None:
        """What ``start`` becomes by learning from the float network; None where nothing learns."""
        graph, plan = start.network.graph, start.plan
        made = self.learning and learned(graph, plan, self.scheme, teacher, images, self.learning)
        return Candidate(replace(start.network, graph=made[0]), made[1]) if made else None

    def _corrected(
        self,
        network: Network,
        images: Tensor,
        choose: Callable[[Node, list[Tensor], list[Tensor]], Array] | None = None,
    ) -> Candidate:
        plan = make_plan(network, self.scheme, self.floats)
        graph = correct_biases(network.graph, plan, images, self.progress, choose)
        corrected = replace(network, graph=graph)
        on_their_grid = replace(NOTHING, weights=plan.weights) if choose is not None else NOTHING
        return Candidate(corrected, make_plan(corrected, self.scheme, self.floats, on_their_grid))


def best_level(
    quantizing: Quantizing, network: Network, level: Level, images: Tensor, limit: int, more: Tensor | None = None
) -> tuple[Candidate, LevelRecord | None]:
    """The network of the highest level that is better than all below it.

    ``fast`` is what it is alone: it decides on the first ``limit`` images, judges among them or not, so that what is
    said in favour of a higher level is never too much.

    Args:
        network: full ranges, not yet corrected.
        images: float32 ``(N, C, H, W)``, up to half more than ``limit``.
        limit: of the images that decide.
        more: images to learn by, beside those that decide; None for no others.
    """
    below = start = quantizing.fast(network, images[:limit])
    if level == "fast":
        return below, None
    deciding, judging = held_out(images)
    kept: Level = "fast"
    ranges = network
    expected = every_output(network.graph, judging)
    noise = _noise(below, expected, judging)
    found = {kept: _worst_db(noise)}
    for name in LEVELS[1 : LEVELS.index(level) + 1]:
        make = quantizing.accurate if name == "accurate" else quantizing.best
        candidate = make(ranges, deciding)
        its_noise = _noise(candidate, expected, judging)
        found[name] = _worst_db(its_noise)
        if is_better(its_noise, noise):
            kept, below, noise = name, candidate, its_noise
            ranges = replace(network, seen=candidate.network.seen)
            start = start if name == "best" else candidate  # whose weights are not chosen yet
    told = {name: _finite(value) for name, value in found.items()}
    lessons = deciding if more is None else torch.cat([deciding, more])
    pupil = quantizing.learned(start, network.graph, lessons) if level == "best" else None
    if pupil is None:
        return below, LevelRecord(kept, told, len(judging))
    before, after = (_noise_of_views(made, network.graph, judging) for made in (below, pupil))
    is_kept = is_better(after, before, LEARNING_STANDARD_ERRORS)
    record = LearningRecord(is_kept, _finite(_worst_db(before)), _finite(_worst_db(after)))
    return (pupil if is_kept else below), LevelRecord(kept, told, len(judging), record)


def held_out(images: Tensor) -> tuple[Tensor, Tensor]:
    """(images that decide, images that judge): a seeded third judges, in the order of the set."""
    judging = np.zeros(len(images), bool)
    judging[np.random.default_rng(SEED).permutation(len(images))[: len(images) // HELD_OUT]] = True
    chosen = torch.from_numpy(judging)
    return images[~chosen], images[chosen]


def is_better(noise: Array, below: Array, standard_errors: float = STANDARD_ERRORS) -> bool:
    """Less noise over all judges together and, clearly, on the typical one.

    Args:
        noise, below: noise-to-signal ratio of each output on each image, ``(outputs, N)``.
        standard_errors: by which the typical judge has to gain.
    """
    if noise.shape[1] < 2 or _worst_db(noise) <= _worst_db(below):
        return False
    gains = (np.log(below + LEAST_NOISE) - np.log(noise + LEAST_NOISE)).mean(axis=0)
    error = gains.std(ddof=1) / np.sqrt(len(gains))
    return bool(gains.mean() > standard_errors * error)


def _worst_db(noise: Array) -> float:
    """SQNR of the worst output over all images; infinite without noise."""
    worst = float(noise.mean(axis=1).max()) if noise.size else 0.0
    return -10.0 * float(np.log10(worst)) if worst > 0 else np.inf


def _noise(candidate: Candidate, expected: tuple[Tensor, ...], images: Tensor) -> Array:
    """Noise of each output on each image over the output's mean power, ``(outputs, N)``."""
    rows = []
    for value, wanted in zip(every_output(candidate.network.graph, images, candidate.plan), expected, strict=True):
        power = float(wanted.double().pow(2).sum()) / max(len(wanted), 1)
        rows.append((value - wanted).double().pow(2).flatten(1).sum(dim=1).numpy() / max(power, LEAST_NOISE))
    return np.stack(rows)


def _noise_of_views(candidate: Candidate, network: Graph, images: Tensor) -> Array:
    """``_noise`` as its mean over views of each image: as it is, mirrored, and shifted.

    Which way a value between two steps falls is chance, and differs from view to view.
    """
    views = [images]
    if images.dim() == 4:
        views += [images.flip(-1), torch.roll(images, (SHIFT_PX, SHIFT_PX), (2, 3))]
    noise = [_noise(candidate, every_output(network, view), view) for view in views]
    return np.asarray(np.mean(noise, axis=0))


def _finite(db: float) -> float | None:
    return db if np.isfinite(db) else None


def _rounded(
    graph: Graph, plan: Plan, num_images: int, node: Node, exact: list[Tensor], quantized: list[Tensor]
) -> Array:
    """A layer's weight on its grid: rounded by its input's covariance where that can be trusted, else to nearest."""
    weight, params = graph.constants[node.inputs[1]], plan.weights[node.inputs[1]]
    if not roundable(node, weight, num_images):
        return params.dequantize(params.quantize(weight))
    return round_layer(node, weight, params, input_covariance(node, weight, quantized))
