"""Learns what no formula corrects: the float network teaches its quantized form, on the calibration images alone.

Distillation with the quantizer in the loop (Esser et al. 2020, arXiv:1902.08153, and LSQ+ for the gradients), from a
quantized network on: weights, biases, grids and channel factors move together, so that biases follow every change of a
range. Adam's steps are like signs and have to be tiny: at 0.05 of its own int8 step an update is a random walk of all
weights.
"""

from __future__ import annotations

import hashlib
import json
import math
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from edgec.pipeline.core.code import code_digests
from edgec.pipeline.core.disk import write_whole
from edgec.pipeline.core.unfinished import unfinished
from edgec.pipeline.forms.scheme import Scheme
from edgec.pipeline.network.cost import layer_macs
from edgec.pipeline.network.graph import Graph
from edgec.pipeline.quantize.executor import run, tensors
from edgec.pipeline.quantize.learnable import Learnable
from edgec.pipeline.quantize.plan import Plan, is_depthwise, is_linear, layer_output

Progress = Callable[[int, int], None]

RATES: Mapping[str, float] = {
    "weights": 0.002,
    "biases": 0.001,
    "rows": 1e-4,
    "columns": 1e-4,
    "scales": 2e-4,
    "zero_points": 0.004,
}
"""Of one update: steps of the weight's grid, steps of the output's grid, logarithms, and integers."""

BATCH_SIZE = 16
BETAS = (0.9, 0.99)
WARM_UP = 20
MOST_STEPS = 400
FEWEST_STEPS = 20
"""Below, the warm-up does not end."""

OUTPUT_WEIGHT, INNER_WEIGHT, LATER_WEIGHT = 10.0, 0.3, 0.3
EARLY_MACS = 0.3
"""Of the multiplications, before which the noise that reaches every later layer is made: those targets weigh most."""

LEAST_AREA, MOST_STRETCH, MIXED, LIT = 0.3, 0.28, 0.3, 0.3
LARGEST_PICTURE = 4
"""Channels: with more the input is no picture, but what the first layers made of one."""

SECONDS_PER_MAC, SECONDS_PER_VALUE, SECONDS_PER_NODE = 1.0e-10, 1.2e-8, 8e-4
"""Of a step on one core that is a few years old, for each image or each pass; they decide the number of steps, on any
machine."""

HELD_BYTES = 2**30
"""Of activations that wait for their gradients."""
BYTES_PER_VALUE = 12

FLAT = 1e-3
"""Of the variance of a map's channels on average: one that hardly varies counts as one with so much."""
SMALLEST = 1e-12
SEED = 0

SAVE_EVERY = 10
"""Steps after which what was learned is safe."""


@dataclass(frozen=True)
class Learning:
    """How long to learn.

    Attributes:
        minutes: of one core like the one that the constants above are of; what is learned depends on no clock.
        progress: called with (steps done, steps in all).
    """

    minutes: float
    progress: Progress | None = None


def num_steps(graph: Graph, minutes: float) -> int:
    """As many as the minutes hold; 0 where they hold too few to learn anything."""
    per_image = sum(layer_work(graph)) * SECONDS_PER_MAC + num_values(graph) * SECONDS_PER_VALUE
    passes = math.ceil(BATCH_SIZE / images_at_a_time(graph))
    steps = int(60 * minutes / (BATCH_SIZE * per_image + passes * len(graph.nodes) * SECONDS_PER_NODE))
    return min(steps, MOST_STEPS) if steps >= FEWEST_STEPS else 0


def learned(
    graph: Graph, plan: Plan, scheme: Scheme, teacher: Graph, images: Tensor, learning: Learning
) -> tuple[Graph, Plan] | None:
    """What the quantized network ``graph``, ``plan`` becomes; None where there is nothing, or no time, to learn.

    A process that was killed left its last safe step, and this one goes on there, to the same bits.

    Args:
        teacher: the same network in float, node by node.
        images: float32 ``(N, C, H, W)``; none of them may judge the result.
    """
    steps = num_steps(graph, learning.minutes)
    if not steps or not len(images):
        return None
    pupil = Learnable(graph, plan, scheme)
    lesson = Lesson(teacher, pupil)
    optimizer = torch.optim.Adam(_groups(pupil), betas=BETAS)
    with unfinished(f"learning-{_digest(pupil, teacher, images, steps)}.pt") as file:
        for step in range(_resumed(pupil, optimizer, file), steps):
            _set_rates(optimizer, step, steps)
            generator = _generator(step)
            rows = torch.randperm(len(images), generator=generator)[:BATCH_SIZE]
            optimizer.zero_grad(set_to_none=True)
            lesson.teach(pupil, changed(images[rows], generator))
            optimizer.step()
            if (step + 1) % SAVE_EVERY == 0:
                _save(pupil, optimizer, step + 1, file)
            if learning.progress is not None:
                learning.progress(step + 1, steps)
    return pupil.learned()


class Lesson:
    """What the float network answers, and how far a quantized one is from that.

    Attributes:
        answers: the tensors that count as the network's answer: its outputs, and of classes what they are chosen by.
        targets: what its blocks put out, each with its weight in the loss.
    """

    def __init__(self, teacher: Graph, pupil: Learnable) -> None:
        self.teacher, self.constants = teacher, tensors(teacher)
        made = teacher.producer
        chosen = {name: made[name].inputs[0] for name in teacher.outputs if name in made and made[name].op == "ArgMax"}
        self.answers = tuple(chosen.get(name, name) for name in teacher.outputs)
        self.targets = block_outputs(teacher, pupil)

    def teach(self, pupil: Learnable, images: Tensor) -> None:
        """Add the gradients of the loss on these images to the pupil's parameters, where it has any."""
        parts = torch.split(images.contiguous(memory_format=torch.channels_last), images_at_a_time(self.teacher))
        for part in parts:
            loss = self.loss(pupil, part) * (len(part) / len(images))
            if loss.requires_grad and torch.isfinite(loss):
                torch.autograd.backward(loss)

    def loss(self, pupil: Learnable, images: Tensor) -> Tensor:
        """Noise over signal of the answers, and noise over variance of every channel that the blocks put out."""
        wanted = dict.fromkeys((*self.targets, *self.answers), images)
        with torch.no_grad():
            run(self.teacher, {self.teacher.inputs[0]: images}, _kept(wanted), self.constants, pupil.compute)
        found = pupil.tensors(images, wanted)
        loss = torch.zeros(())
        for name in filter(lambda name: wanted[name].is_floating_point(), self.answers):
            noise, signal = (found[name] - wanted[name]).pow(2).sum(), wanted[name].pow(2).sum()
            loss = loss + OUTPUT_WEIGHT / len(self.answers) * noise / signal.clamp_min(SMALLEST)
        for name, weight in self.targets.items():
            axes = [axis for axis in range(wanted[name].dim()) if axis != 1]
            noise, variance = (found[name] - wanted[name]).pow(2).mean(axes), wanted[name].var(axes)
            least = FLAT * variance.mean() + SMALLEST
            loss = loss + weight * (noise / variance.clamp_min(float(least))).mean()
        return loss


def _kept(found: dict[str, Tensor]) -> Callable[[str, Tensor], Tensor]:
    """A hook that notes the tensors that ``found`` names."""

    def after(name: str, value: Tensor) -> Tensor:
        if name in found:
            found[name] = value
        return value

    return after


def block_outputs(graph: Graph, pupil: Learnable) -> dict[str, float]:
    """Stored maps that end a block, a linear bottleneck or a residual sum, with their weights in the loss.

    Those within the first ``EARLY_MACS`` weigh most: their noise reaches every later layer.
    """
    work = layer_work(graph)
    total, before, found = max(sum(work), 1), 0, dict[str, float]()
    for node, macs in zip(graph.nodes, work, strict=True):
        before += macs
        shape = graph.shapes.get(node.output, ())
        is_map = len(shape) == 4 and any(side != 1 for side in shape[2:])
        bottleneck = is_linear(graph, node) and not is_depthwise(graph, node)
        ends = bottleneck and layer_output(graph, pupil.scheme, node) == node.output
        if is_map and (ends or node.op == "Add") and node.output in pupil.plan.activations:
            found[node.output] = INNER_WEIGHT * (1.0 if before <= EARLY_MACS * total else LATER_WEIGHT)
    return found


def changed(images: Tensor, generator: torch.Generator) -> Tensor:
    """The images cut, stretched, mirrored, lit and mixed at random; what is no picture is only cut and mirrored.

    They stay within the values that they had.
    """
    count = len(images)
    if images.dim() != 4:
        return images

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(count, generator=generator) * (high - low) + low

    def some(share: float) -> Tensor:
        return torch.rand(count, generator=generator) < share

    area, stretch = uniform(LEAST_AREA, 1.0), uniform(-MOST_STRETCH, MOST_STRETCH).exp()
    width, height = (area * stretch).sqrt().clamp_max(1), (area / stretch).sqrt().clamp_max(1)
    zero, mirror = torch.zeros(count), torch.where(some(0.5), -1.0, 1.0)
    across = torch.stack([width * mirror, zero, uniform(-1, 1) * (1 - width)], 1)
    down = torch.stack([zero, height, uniform(-1, 1) * (1 - height)], 1)
    places = F.affine_grid(torch.stack([across, down], 1), list(images.shape), align_corners=False)
    cut = F.grid_sample(images, places, padding_mode="border", align_corners=False)
    if images.shape[1] > LARGEST_PICTURE:
        return cut
    gain, shift = 1 + some(LIT) * uniform(-0.3, 0.3), some(LIT) * uniform(-0.4, 0.4) * images.std()
    lit = (cut * _spread(gain) + _spread(shift)).clamp(float(images.min()), float(images.max()))
    share = _spread(some(MIXED) * uniform(0.2, 0.5))
    return (1 - share) * lit + share * lit.roll(1, 0)


def _spread(values: Tensor) -> Tensor:
    return values.reshape(-1, 1, 1, 1)


def _groups(pupil: Learnable) -> list[dict[str, Any]]:
    """What learns, each kind at its own rate.

    Weights of layers that see one position stay: they are most of a small network's, and images say little of each.
    """
    groups = []
    for kind, rate in RATES.items():
        learning = [
            parameter
            for name, parameter in pupil.parameters[kind].items()
            if kind != "weights" or not pupil.is_vector(name)
        ]
        for parameter in learning:
            parameter.requires_grad_(True)
        groups.append({"params": learning, "lr": rate, "peak": rate})
    return groups


def _set_rates(optimizer: torch.optim.Optimizer, step: int, steps: int) -> None:
    """A linear rise, then half a cosine down to 0."""
    factor = min(1.0, (step + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * step / steps))
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor


def _generator(step: int) -> torch.Generator:
    """The randomness of one step, independent of what ran before."""
    state = np.random.SeedSequence((SEED, step)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))


def images_at_a_time(graph: Graph) -> int:
    """As many as memory holds the activations of, up to a whole step; those of a file whose batch is fixed."""
    fit = HELD_BYTES // (BYTES_PER_VALUE * max(num_values(graph), 1))
    return graph.batch or min(max(fit, 1), BATCH_SIZE)


def layer_work(graph: Graph) -> list[int]:
    """Multiply-accumulates of each node for one image."""
    shapes = {name: tuple(side or 1 for side in shape) for name, shape in graph.shapes.items()}
    return [layer_macs(node.op, node.inputs, node.output, shapes) or 0 for node in graph.nodes]


def num_values(graph: Graph) -> int:
    """Of all activations of one image."""
    names = (name for node in graph.nodes for name in node.outputs)
    return sum(math.prod(side or 1 for side in graph.shapes.get(name, ())[1:]) for name in names)


def _digest(pupil: Learnable, teacher: Graph, images: Tensor, steps: int) -> str:
    """Of all that decides what is learned."""
    found = hashlib.sha256(json.dumps(code_digests([__name__]), sort_keys=True).encode())
    found.update(f"{steps} {torch.__version__}".encode())
    for graph in (pupil.graph, teacher):
        found.update(graph.write().SerializeToString(deterministic=True))
    for name, params in sorted({**pupil.plan.activations, **pupil.plan.weights}.items()):
        found.update(f"{name} {params.qmin} {params.qmax}".encode())
        found.update(np.asarray(params.scale).tobytes() + np.asarray(params.zero_point).tobytes())
    found.update(images.contiguous().numpy().data)
    return found.hexdigest()[:32]


def _save(pupil: Learnable, optimizer: torch.optim.Optimizer, step: int, file: Path) -> None:
    learnt = {kind: {name: p.detach() for name, p in found.items()} for kind, found in pupil.parameters.items()}
    state = {"step": step, "parameters": learnt, "optimizer": optimizer.state_dict()}
    write_whole(file, lambda path: torch.save(state, path))


def _resumed(pupil: Learnable, optimizer: torch.optim.Optimizer, file: Path) -> int:
    """The step to go on with. A file that is not whole, or of another version, says nothing."""
    try:
        state = torch.load(file, weights_only=True)
        optimizer.load_state_dict(state["optimizer"])
        for kind, found in state["parameters"].items():
            for name, value in found.items():
                pupil.parameters[kind][name].detach().copy_(value)
        return int(state["step"])
    except (OSError, EOFError, KeyError, RuntimeError, ValueError, pickle.UnpicklingError):
        return 0
