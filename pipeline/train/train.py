"""Training: AdamW, cosine with warm-up, label smoothing, averaged weights; coarse pictures first, full size last.

A run is a function of (network, data, recipe). Every epoch draws its randomness from ``(seed, epoch)`` and ends with a
checkpoint: an interrupted and resumed run equals an uninterrupted one bit for bit, on one machine with one number of
threads.
"""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.store import plain
from edgec.pipeline.data.dataset import Dataset, read_image
from edgec.pipeline.data.preprocess import Preprocess
from edgec.pipeline.tasks.metrics import topk_percent
from edgec.pipeline.train.augment import augmented
from edgec.pipeline.train.recipe import TrainingRecipe

PIXEL_MEAN = PIXEL_STD = 127.5


@dataclass(frozen=True)
class Pictures:
    """A data set in memory at one size.

    Attributes:
        pixels: ``(N, 3, px, px)`` uint8, channels last in memory.
        labels: ``(N,)`` int64.
    """

    pixels: Tensor
    labels: Tensor

    def inputs(self, rows: Tensor) -> Tensor:
        """The rows as the network's input, ``(N, 3, px, px)`` float32 on -1..1, channels last."""
        return (self.pixels[rows].float() - PIXEL_MEAN) / PIXEL_STD


@dataclass(frozen=True)
class Epoch:
    """What an epoch came to: its number from 1, picture size, mean training loss and validation top-1 in percent."""

    number: int
    px: int
    loss: float
    top1: float


def train(
    network: nn.Module,
    training: Dataset,
    validation: Dataset,
    recipe: TrainingRecipe,
    checkpoint: Path | None = None,
    on_batch: Callable[[int, int], None] | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> nn.Module:
    """Train ``network`` in place and return its averaged copy, batch-norm statistics measured anew at the last size.

    Args:
        network: takes ``(N, 3, H, W)`` at every size of the recipe.
        training: labelled; held in memory as uint8, ``3 * px * px`` bytes per picture.
        validation: labelled and disjoint from ``training``; only looked at, nothing is chosen by it here.
        recipe: how.
        checkpoint: file to continue from where it exists, and to write after every epoch.
        on_batch: called with (batches done, batches in all).
        on_epoch: called after every epoch.

    Raises:
        EdgecError: ``unlabelled-data``, ``unreadable-image``, ``training-diverged``, ``bad-checkpoint``.
    """
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    run = Run(network, recipe)
    start = run.load(checkpoint) if checkpoint is not None and checkpoint.exists() else 0
    pictures = held_out = None
    for epoch in range(start, recipe.epochs):
        px = recipe.phase_at(epoch)[0].px
        if pictures is None or held_out is None or pictures.pixels.shape[-1] != px:
            pictures, held_out = read_pictures(training, px), read_pictures(validation, px)
        loss = run.train_epoch(epoch, pictures, on_batch)
        measure_batch_norm(run.average, pictures)
        if checkpoint is not None:
            run.save(checkpoint, epoch + 1)
        if on_epoch is not None:
            on_epoch(Epoch(epoch + 1, px, loss, top1_percent(run.average, held_out)))
    return run.average.eval()


class Run:
    """The state of a training run: weights, their average, and the optimizer."""

    def __init__(self, network: nn.Module, recipe: TrainingRecipe) -> None:
        self.network, self.recipe = network, recipe
        self.average = deepcopy(network).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(parameter_groups(network, recipe.weight_decay))

    def train_epoch(self, epoch: int, pictures: Pictures, on_batch: Callable[[int, int], None] | None) -> float:
        """One pass over the pictures in an order of its own; returns the mean loss."""
        generator = epoch_generator(self.recipe.seed, epoch)
        torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))  # dropout draws from the global one
        batches = list(shuffled_batches(len(pictures.labels), self.recipe.batch_size, generator))
        self.network.train()
        total = 0.0
        for number, rows in enumerate(batches):
            self.set_learning_rate(self.recipe.learning_rate_at(epoch + (number + 0.5) / len(batches)))
            inputs = augmented(pictures.inputs(rows), self.recipe.augment, generator)
            total += self.step(inputs, pictures.labels[rows], epoch * len(batches) + number)
            if on_batch is not None:
                on_batch(epoch * len(batches) + number + 1, self.recipe.epochs * len(batches))
        return total / len(batches)

    def step(self, inputs: Tensor, labels: Tensor, number: int) -> float:
        """One update of the weights and of their average; returns the loss."""
        logits = self.network(inputs.contiguous(memory_format=torch.channels_last))
        loss = F.cross_entropy(logits, labels, label_smoothing=self.recipe.label_smoothing)
        if not torch.isfinite(loss):
            raise EdgecError(
                "training-diverged", f"the loss is {loss.item()} after {number} steps", "lower --learning-rate"
            )
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self.optimizer.step()
        update_average(self.average, self.network, min(self.recipe.ema_decay, (1 + number) / (10 + number)))
        return loss.item()

    def set_learning_rate(self, value: float) -> None:
        """Of the next updates, for every parameter."""
        for group in self.optimizer.param_groups:
            group["lr"] = value

    def save(self, path: Path, epochs_done: int) -> None:
        """Write the checkpoint; it replaces the previous one only when it is whole."""
        state = {
            "recipe": json.dumps(plain(self.recipe), sort_keys=True),
            "epochs_done": epochs_done,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        half_made = path.with_name(f".{path.name}.{os.getpid()}")
        torch.save(state, half_made)
        half_made.replace(path)

    def load(self, path: Path) -> int:
        """Continue from a checkpoint; returns the number of epochs done.

        Raises:
            EdgecError: ``bad-checkpoint`` where the file is damaged or of another network or recipe.
        """
        hint = "remove it, or train without --resume"
        try:
            state = torch.load(path, weights_only=True)
            kept = json.loads(state["recipe"])
            self.network.load_state_dict(state["network"])
            self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError, OSError) as error:
            raise EdgecError("bad-checkpoint", f"cannot continue from '{path}': {error}", hint) from error
        if kept != json.loads(json.dumps(plain(self.recipe))):
            raise EdgecError("bad-checkpoint", f"'{path}' belongs to a run with other options", hint)
        return int(state["epochs_done"])


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
def measure_batch_norm(network: nn.Module, pictures: Pictures, batch_size: int = 64, num_batches: int = 32) -> None:
    """Replace the running statistics by the plain mean over evenly spread pictures, seen as at inference.

    Averaged weights never had statistics of their own (SWA does the same, 1803.05407 section 3.2).
    """
    network.eval()
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch: None means the plain average
        norm.train()
    count = len(pictures.labels)
    rows = torch.arange(0, count, max(1, count // (batch_size * num_batches)))
    generator = torch.Generator().manual_seed(0)  # mixes the classes, which may lie in order
    mixed = rows[torch.randperm(len(rows), generator=generator)]
    for batch in torch.split(mixed, batch_size)[:num_batches]:
        network(pictures.inputs(batch))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


@torch.no_grad()
def top1_percent(network: nn.Module, pictures: Pictures, batch_size: int = 64) -> float:
    """Top-1 of ``network`` on ``pictures``, percent."""
    network.eval()
    logits = [network(pictures.inputs(rows)) for rows in torch.split(torch.arange(len(pictures.labels)), batch_size)]
    return topk_percent(torch.cat(logits).numpy(), pictures.labels.numpy())


def read_pictures(dataset: Dataset, px: int) -> Pictures:
    """Read a labelled data set at ``px``: short side resized, centre cropped.

    Raises:
        EdgecError: ``unlabelled-data``, ``unreadable-image``.
    """
    labels = dataset.labels
    if labels is None:
        hint = "training needs one folder of images per class, or labels.csv"
        raise EdgecError("unlabelled-data", f"'{dataset.root}' has images without a label", hint)
    preprocess = Preprocess(resize_px=px, crop_px=px)
    pixels = torch.empty((len(dataset), 3, px, px), dtype=torch.uint8, memory_format=torch.channels_last)
    with ThreadPoolExecutor(2) as pool:
        files = [dataset.root / sample.file for sample in dataset.samples]
        for row, array in enumerate(pool.map(lambda file: read_image(file, preprocess), files)):
            pixels[row] = torch.from_numpy(np.array(array)).permute(2, 0, 1)
    return Pictures(pixels, torch.from_numpy(labels))


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """Randomness of one epoch, independent of what ran before."""
    state = np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))


def shuffled_batches(count: int, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Row numbers in random order, ``batch_size`` at a time; a smaller last batch is left out unless the only one."""
    order = torch.randperm(count, generator=generator)
    for batch in torch.split(order, batch_size):
        if len(batch) == batch_size or count < batch_size:
            yield batch
