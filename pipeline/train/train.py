"""Training: AdamW, cosine with warm-up, label smoothing, averaged weights; coarse pictures first, full size last.

A run is a function of (network, data, recipe). Every epoch draws its randomness from ``(seed, epoch)`` and ends with a
checkpoint: an interrupted and resumed run equals an uninterrupted one bit for bit, on one machine with one number of
threads. What a task asks of it, the loss and the figure that is watched, is its ``Objective``.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgec.pipeline.core.disk import write_whole
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.stage import plain
from edgec.pipeline.data.dataset import Dataset
from edgec.pipeline.data.preprocess import Preprocess
from edgec.pipeline.network.models.state_dict import LAST
from edgec.pipeline.train.augment import augmented
from edgec.pipeline.train.batch_norm import BATCH_SIZE, measure_batch_norm, norms_of, restate_batch_norm
from edgec.pipeline.train.curve import Epoch
from edgec.pipeline.train.objective import CLASSIFICATION, Objective, class_counts, class_weights, loss_of
from edgec.pipeline.train.pictures import CPU, SIGNED, Pictures, read_pictures, shuffled_batches
from edgec.pipeline.train.recipe import Phase, TrainingRecipe


@dataclass(frozen=True)
class Trained:
    """What a run came to: the averaged network in evaluation mode, and all its epochs."""

    network: nn.Module
    curve: tuple[Epoch, ...]


def train(
    network: nn.Module,
    training: Dataset,
    validation: Dataset,
    recipe: TrainingRecipe,
    checkpoint: Path | None = None,
    on_batch: Callable[[int, int], None] | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
    objective: Objective = CLASSIFICATION,
    preprocess: Preprocess = SIGNED,
    device: torch.device = CPU,
) -> Trained:
    """Train ``network`` in place; the result is its averaged copy, batch-norm statistics measured anew.

    Args:
        network: takes ``(N, 3, H, W)`` at every size of the recipe; its last layer is ``classifier`` where a phase is
            for the head alone.
        training: labelled; held in memory as uint8, ``3 * px * px`` bytes per picture, ``px * px`` more per mask.
        validation: labelled and disjoint from ``training``; it chooses nothing but the epoch, and that only where the
            recipe has patience.
        recipe: how.
        checkpoint: file to continue from where it exists, and to write after every epoch.
        on_batch: called with (batches done, batches in all).
        on_epoch: called after every epoch.
        objective: what for.
        preprocess: colours, mean and deviation of the input; sizes are the recipe's.
        device: what computes; the result is on the CPU again.

    Raises:
        EdgecError: ``unlabelled-data``, ``unreadable-image``, ``bad-mask``, ``training-diverged``, ``bad-checkpoint``.
    """
    network.to(device).to(memory_format=layout(device))  # type: ignore[call-overload]
    run = Run(network, recipe)
    if checkpoint is not None and checkpoint.exists():
        run.load(checkpoint, device)
    pictures = held_out = None
    while (number := run.next_epoch) < recipe.epochs:
        phase, _ = recipe.phase_at(number)
        if pictures is None or held_out is None or pictures.pixels.shape[-1] != phase.px:
            pictures = read_pictures(training, phase.px, objective, preprocess, device)
            held_out = read_pictures(validation, phase.px, objective, preprocess, device)
        loss = run.train_epoch(number, pictures, on_batch)
        figure = figure_percent(run.average, held_out, objective)
        run.add(Epoch(number + 1, phase.px, loss, figure, phase.head_only))
        if checkpoint is not None:
            run.save(checkpoint)
        if on_epoch is not None:
            on_epoch(run.curve[-1])
    return Trained(run.result().cpu(), tuple(run.curve))


class Run:
    """The state of a training run: weights, their average, the optimizer, and the epochs so far."""

    def __init__(self, network: nn.Module, recipe: TrainingRecipe) -> None:
        self.network, self.recipe = network, recipe
        self.average = deepcopy(network).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(parameter_groups(network, recipe.weight_decay))
        self.curve: list[Epoch] = []
        self.best: dict[str, Tensor] = {}

    def train_epoch(self, epoch: int, pictures: Pictures, on_batch: Callable[[int, int], None] | None) -> float:
        """One pass over the pictures in an order of its own; returns the mean loss."""
        phase, _ = self.recipe.phase_at(epoch)
        if self.recipe.is_pretrained and epoch == self.recipe.first_whole_epoch:
            self.restate(pictures)
        generator = epoch_generator(self.recipe.seed, epoch)
        torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))  # dropout draws from the global one
        batches = list(shuffled_batches(len(pictures), self.recipe.batch_size, generator))
        counts = class_counts(pictures.truth)
        let_learn(self.network, phase)
        total = 0.0
        for number, rows in enumerate(batches):
            self.set_learning_rate(self.recipe.learning_rate_at(epoch + (number + 0.5) / len(batches)))
            changed, truth = augmented(pictures.signed(rows), pictures.right(rows), self.recipe.augment, generator)
            total += self.step(pictures.normalised(changed), truth, counts, epoch * len(batches) + number)
            if on_batch is not None:
                on_batch(epoch * len(batches) + number + 1, self.recipe.epochs * len(batches))
        if not phase.head_only:
            measure_batch_norm(self.average, pictures, min(BATCH_SIZE, self.recipe.batch_size))
        return total / len(batches)

    def step(self, inputs: Tensor, truth: Tensor, counts: Tensor, number: int) -> float:
        """One update of the weights and of their average; returns the loss."""
        logits = self.network(inputs.contiguous(memory_format=layout(inputs.device)))
        weights = class_weights(counts, logits.shape[1], self.recipe.class_balance)
        weights = None if weights is None else weights.to(logits.device)
        loss = loss_of(logits, truth, weights, self.recipe.label_smoothing)
        if not torch.isfinite(loss):
            raise EdgecError(
                "training-diverged", f"the loss is {loss.item()} after {number} steps", "lower --learning-rate"
            )
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self.optimizer.step()
        update_average(self.average, self.network, min(self.recipe.ema_decay, (1 + number) / (10 + number)))
        return loss.item()

    def restate(self, pictures: Pictures) -> None:
        """Let batch norm state what these pictures have, in the network and in its average: only their heads differ."""
        restate_batch_norm(self.network, pictures, min(BATCH_SIZE, self.recipe.batch_size))
        for kept, new in zip(norms_of(self.average), norms_of(self.network), strict=True):
            kept.load_state_dict(new.state_dict())

    def set_learning_rate(self, value: float) -> None:
        """Of the next updates, for every parameter."""
        for group in self.optimizer.param_groups:
            group["lr"] = value

    def add(self, epoch: Epoch) -> None:
        """Note a finished epoch, and its weights where it is the best of its picture size."""
        rivals = [other.figure for other in self.curve if other.px == epoch.px]
        self.curve.append(epoch)
        if self.recipe.patience is not None and epoch.figure > max(rivals, default=-1.0):
            self.best = {name: tensor.clone() for name, tensor in self.average.state_dict().items()}

    @property
    def next_epoch(self) -> int:
        """Index of the epoch to run: the next one, or the first of the next phase where patience has run out."""
        if not self.curve:
            return 0
        index = self.curve[-1].number - 1
        phase, done = self.recipe.phase_at(index)
        start, patience = index - int(done), self.recipe.patience
        best = max((e for e in self.curve if e.px == phase.px), key=lambda e: (e.figure, -e.number)).number - 1
        if patience is not None and index - max(best, start - 1) >= patience:
            return start + phase.epochs
        return index + 1

    def result(self) -> nn.Module:
        """The average of the last epoch, or of the best one at the last size where the recipe has patience."""
        if self.best:
            self.average.load_state_dict(self.best)
        return self.average.eval()

    def save(self, path: Path) -> None:
        """Write the checkpoint; it replaces the previous one only when it is whole."""
        state = {
            "recipe": json.dumps(plain(self.recipe), sort_keys=True),
            "curve": json.dumps([asdict(epoch) for epoch in self.curve]),
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "best": self.best,
            "optimizer": self.optimizer.state_dict(),
        }
        write_whole(path, lambda half_made: torch.save(state, half_made))

    def load(self, path: Path, device: torch.device = CPU) -> None:
        """Continue from a checkpoint, on whatever device it was written.

        Raises:
            EdgecError: ``bad-checkpoint`` where the file is damaged or of another network or recipe.
        """
        hint = "remove it, or train without --resume"
        try:
            state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
            kept = json.loads(state["recipe"])
            self.network.load_state_dict(state["network"])
            self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.best = dict(state["best"])
            self.curve = [Epoch(**epoch) for epoch in json.loads(state["curve"])]
        except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, TypeError, ValueError, OSError) as error:
            raise EdgecError("bad-checkpoint", f"cannot continue from '{path}': {error}", hint) from error
        if kept != json.loads(json.dumps(plain(self.recipe))):
            raise EdgecError("bad-checkpoint", f"'{path}' belongs to a run with other options", hint)


def layout(device: torch.device) -> torch.memory_format:
    """Faster in float32: channels last on a CPU, and NCHW on a GPU, whose depthwise kernels want it."""
    return torch.channels_last if device.type == "cpu" else torch.contiguous_format


def let_learn(network: nn.Module, phase: Phase) -> None:
    """Training mode; where the head alone learns nothing else has gradients, and batch norm keeps its statistics."""
    network.train()
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(not phase.head_only or name.startswith(LAST))
    for norm in norms_of(network) if phase.head_only else ():
        norm.eval()


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Weights that decay, and those that do not: depthwise filters, biases, batch norm (1704.04861, section 3.2)."""
    decay: list[nn.Parameter] = []
    keep: list[nn.Parameter] = []
    for module in network.modules():
        depthwise = isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1
        for parameter in module.parameters(recurse=False):
            (keep if depthwise or parameter.ndim <= 1 else decay).append(parameter)
    return [{"params": decay, "weight_decay": weight_decay}, {"params": keep, "weight_decay": 0.0}]


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, decay: float) -> None:
    """``average = decay * average + (1 - decay) * network``, parameters only: batch norm is measured, not averaged."""
    for kept, new in zip(average.parameters(), network.parameters(), strict=True):
        kept.lerp_(new, 1 - decay)


@torch.no_grad()
def figure_percent(network: nn.Module, pictures: Pictures, objective: Objective, batch_size: int = 32) -> float:
    """The objective's figure of ``network`` on ``pictures``, percent."""
    network.eval()
    batches = torch.split(torch.arange(len(pictures)), batch_size)
    return objective.figure(
        (pictures.truth[rows].numpy(), network(pictures.inputs(rows)).cpu().numpy()) for rows in batches
    )


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """Randomness of one epoch, independent of what ran before."""
    state = np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))
