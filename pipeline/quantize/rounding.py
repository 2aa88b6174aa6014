"""Learned rounding: which way each weight rounds, with biases and activation steps, by gradient on the network's output.

AdaRound (Nagel et al. 2020, arXiv:2004.10568) restricts a weight to the two integers around it; BRECQ (Li et al. 2021,
arXiv:2102.05426) learns all layers together with the activations' steps, as LSQ (Esser et al. 2020, arXiv:1902.08153)
does. Here the unit of reconstruction is the whole network, which small CNNs allow, and the choice is made by
straight-through rounding of a latent weight between its two neighbours. A quarter of the images is kept back: the
result is the state that serves those best, the start included, so that learning never makes it worse by its own measure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgec.pipeline.quantize.affine import QuantParams
from edgec.pipeline.quantize.bias_correction import correctable
from edgec.pipeline.quantize.executor import differentiable, run, tensors
from edgec.pipeline.quantize.graph import Graph
from edgec.pipeline.quantize.plan import Plan
from edgec.pipeline.quantize.simulate import reference

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Schedule:
    """How long and how boldly to learn; rates are Adam's, in units of the quantity's own step.

    Attributes:
        steps: optimizer steps.
        batch_size: images in each.
        check_every: steps between looks at the held-out images, and between checkpoints.
        rounding_rate: latent weights, in weight steps.
        bias_rate: biases, in multiples of their output's step.
        step_rate: logarithms of activation steps.
        seed: of the order of images.
    """

    steps: int = 320
    batch_size: int = 16
    check_every: int = 40
    rounding_rate: float = 0.01
    bias_rate: float = 0.01
    step_rate: float = 0.001
    seed: int = 0


def learn_rounding(
    graph: Graph,
    plan: Plan,
    images: Tensor,
    schedule: Schedule | None = None,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
) -> tuple[Graph, Plan]:
    """Return the graph with weights on their chosen integers and learned biases, and the plan with learned steps.

    A network with an operator that has no gradient is returned as it is.

    Args:
        images: float32 ``(N, C, H, W)``; every fourth one is held out.
        checkpoint: file that keeps the state; a run that finds its own checkpoint continues there.
    """
    schedule = schedule or Schedule()
    if len(images) < 8 or not all(differentiable(node) for node in graph.nodes):
        return graph, plan
    held_out = torch.arange(len(images)) % 4 == 3
    expected = reference(graph, images)
    state = _State.start(graph, plan)
    run_state = _Run.resume(state, schedule, checkpoint)
    train, answers = images[~held_out], expected[~held_out]
    if run_state.step == 0:
        run_state.consider(state.loss(images[held_out], expected[held_out], schedule.batch_size))
    while run_state.step < schedule.steps:
        chosen = run_state.next_batch(len(train))
        run_state.advance(state.batch_loss(train[chosen], answers[chosen]))
        if run_state.step % schedule.check_every == 0 or run_state.step == schedule.steps:
            run_state.consider(state.loss(images[held_out], expected[held_out], schedule.batch_size))
            run_state.save(checkpoint)
        if progress is not None:
            progress(run_state.step, schedule.steps)
    state.load(run_state.best)
    return state.result()


class _Rounded(torch.autograd.Function):
    """Fake quantization with a straight-through gradient for the value and LSQ's for the step (equation 3)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, step: Tensor, low: Tensor, high: Tensor) -> Tensor:
        scaled = x / step
        rounded = scaled.round()
        inside = (rounded >= low) & (rounded <= high)
        clipped = torch.minimum(torch.maximum(rounded, low), high)
        ctx.save_for_backward(inside, torch.where(inside, clipped - scaled, clipped))
        ctx.step_shape = step.shape
        return clipped * step

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        inside, slope = ctx.saved_tensors
        to_step = (gradients[0] * slope).sum_to_size(ctx.step_shape) if ctx.needs_input_grad[1] else None
        return gradients[0] * inside, to_step, None, None


@dataclass(frozen=True, eq=False)
class _State:
    """Everything that is learned, as differentiable tensors.

    Attributes:
        latent: weights in units of their step, between the two integers around them.
        bias: corrections in float.
        log_step: change of each activation's step, per tensor or per channel.
    """

    graph: Graph
    plan: Plan
    constants: Mapping[str, Tensor]
    latent: Mapping[str, Tensor]
    bias: Mapping[str, Tensor]
    log_step: Mapping[str, Tensor]

    @classmethod
    def start(cls, graph: Graph, plan: Plan) -> _State:
        constants = tensors(graph)
        latent = {
            name: (constants[name] / _step(params, constants[name].dim())).requires_grad_()
            for name, params in plan.weights.items()
        }
        learned = [node for node in graph.nodes if correctable(graph, plan, node)]
        bias = {node.inputs[2]: constants[node.inputs[2]].clone().requires_grad_() for node in learned}
        log_step = {
            name: torch.zeros(params.scale.shape, requires_grad=True)
            for name, params in plan.activations.items()
            if name not in graph.inputs and graph.producer[name].op not in ("Clip", "HardSigmoid", "Sigmoid", "Softmax")
        }
        return cls(graph, plan, constants, latent, bias, log_step)

    def parameters(self) -> dict[str, Tensor]:
        groups = {"latent": self.latent, "bias": self.bias, "log_step": self.log_step}
        return {f"{kind}:{name}": value for kind, group in groups.items() for name, value in group.items()}

    def load(self, values: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self.parameters().items():
                parameter.copy_(values[name])

    def loss(self, images: Tensor, expected: Tensor, batch_size: int) -> float:
        """Mean loss per image, without gradients."""
        with torch.no_grad():
            batches = zip(images.split(batch_size), expected.split(batch_size), strict=True)
            return sum(float(self.batch_loss(x, y)) * len(x) for x, y in batches) / len(images)

    def batch_loss(self, images: Tensor, expected: Tensor) -> Tensor:
        """Noise-to-signal ratio of the network's output."""
        constants = dict(self.constants) | {name: self._weight(name) for name in self.latent} | dict(self.bias)
        outputs = run(self.graph, {self.graph.inputs[0]: images}, self._store, constants)
        return (outputs[self.graph.outputs[0]] - expected).pow(2).sum() / expected.pow(2).sum()

    def result(self) -> tuple[Graph, Plan]:
        with torch.no_grad():
            changed = {name: self._weight(name).numpy() for name in self.latent}
            changed |= {name: bias.detach().numpy() for name, bias in self.bias.items()}
            activations = dict(self.plan.activations)
            for name, change in self.log_step.items():
                params = activations[name]
                scale = params.scale * change.detach().exp().numpy()
                activations[name] = replace(params, scale=scale.astype(np.float32))
        return self.graph.with_constants(changed), replace(self.plan, activations=activations)

    def _weight(self, name: str) -> Tensor:
        params, exact = self.plan.weights[name], self.constants[name]
        step = _step(params, exact.dim())
        scaled = exact / step
        between = torch.minimum(torch.maximum(self.latent[name], scaled.floor()), scaled.ceil())
        bounds = torch.tensor(float(params.qmin)), torch.tensor(float(params.qmax))
        rounded: Tensor = _Rounded.apply(between, torch.tensor(1.0), *bounds)
        return rounded * step

    def _store(self, name: str, value: Tensor) -> Tensor:
        params = self.plan.activations.get(name)
        if params is None:
            return value
        step = _step(params, value.dim())
        if name in self.log_step:
            step = step * self.log_step[name].exp().reshape(step.shape)
        _, zero_point = params.shaped(value.dim())
        low, high = (torch.from_numpy(np.asarray(end - zero_point, np.float32)) for end in (params.qmin, params.qmax))
        stored: Tensor = _Rounded.apply(value, step, low, high)
        return stored


class _Run:
    """The optimizer, its place in the schedule, and the best state so far."""

    def __init__(self, state: _State, schedule: Schedule) -> None:
        rates = {"latent": schedule.rounding_rate, "bias": schedule.bias_rate, "log_step": schedule.step_rate}
        self.schedule = schedule
        self.parameters = state.parameters()
        units = _bias_units(state)
        groups = [
            {"params": [value], "lr": rates[name.split(":")[0]] * units.get(name, 1.0)}
            for name, value in self.parameters.items()
        ]
        self.optimizer = torch.optim.Adam(groups)
        self.rates = [group["lr"] for group in groups]
        self.step = 0
        self.least = float("inf")
        self.best = {name: value.detach().clone() for name, value in self.parameters.items()}

    @classmethod
    def resume(cls, state: _State, schedule: Schedule, checkpoint: Path | None) -> _Run:
        """A new run, or the one that the file holds."""
        fresh = cls(state, schedule)
        if checkpoint is None or not checkpoint.is_file():
            return fresh
        kept = torch.load(checkpoint, weights_only=True)
        if kept["parameters"].keys() != fresh.parameters.keys():
            return fresh
        state.load(kept["parameters"])
        fresh.optimizer.load_state_dict(kept["optimizer"])
        fresh.step, fresh.least, fresh.best = kept["step"], kept["least"], kept["best"]
        return fresh

    def save(self, checkpoint: Path | None) -> None:
        if checkpoint is None:
            return
        partial = checkpoint.with_suffix(".partial")
        parameters = {name: value.detach() for name, value in self.parameters.items()}
        content = {"parameters": parameters, "optimizer": self.optimizer.state_dict(), "step": self.step}
        torch.save(content | {"least": self.least, "best": self.best}, partial)
        partial.replace(checkpoint)

    def next_batch(self, num_images: int) -> Tensor:
        """Depends on the step alone, so that a resumed run draws what the uninterrupted one would."""
        stream = torch.Generator().manual_seed(self.schedule.seed * 1_000_003 + self.step)
        return torch.randperm(num_images, generator=stream)[: self.schedule.batch_size]

    def advance(self, loss: Tensor) -> None:
        """One step of Adam; the rates fall along a half cosine."""
        decay = 0.5 * (1 + np.cos(np.pi * self.step / self.schedule.steps))
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * decay
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.step += 1

    def consider(self, loss: float) -> None:
        """Keep the state if the held-out images fare better with it than with any before."""
        if loss < self.least:
            self.least = loss
            self.best = {name: value.detach().clone() for name, value in self.parameters.items()}


def _step(params: QuantParams, rank: int) -> Tensor:
    scale, _ = params.shaped(rank)
    return torch.from_numpy(np.asarray(scale, np.float32))


def _bias_units(state: _State) -> dict[str, float]:
    """A bias learns in steps of the accumulator's typical size: input_scale * weight_scale * 127."""
    units = {}
    for node in state.graph.nodes:
        if len(node.inputs) > 2 and node.inputs[2] in state.bias:
            source, weight = state.plan.activations[node.inputs[0]], state.plan.weights[node.inputs[1]]
            units[f"bias:{node.inputs[2]}"] = float(source.scale.mean() * weight.scale.mean() * 127)
    return units
