"""A labelled data set in memory at one size, and the batches drawn from it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from edgec.pipeline.data.dataset import Dataset, read_image
from edgec.pipeline.data.preprocess import Preprocess
from edgec.pipeline.train.objective import Objective

READERS = min(8, os.cpu_count() or 1)
"""Threads that decode pictures."""

CPU = torch.device("cpu")
HALF = 127.5
SIGNED = Preprocess(resize_px=224, crop_px=224, mean=(HALF,) * 3, std=(HALF,) * 3)
"""Pixels to -1..1: what a network is trained on that begins from scratch."""


@dataclass(frozen=True)
class Pictures:
    """A data set at one size.

    Attributes:
        pixels: ``(N, 3, px, px)`` uint8, channels last in memory.
        truth: classes ``(N,)`` int64, or masks ``(N, px, px)`` uint8.
        mean: of the network's input on 0..255, ``(3, 1, 1)``.
        std: the same.
        device: where batches go; the set itself stays in the host's memory.
    """

    pixels: Tensor
    truth: Tensor
    mean: Tensor
    std: Tensor
    device: torch.device = CPU

    def __len__(self) -> int:
        return len(self.pixels)

    def signed(self, rows: Tensor) -> Tensor:
        """The rows as float32 on -1..1, ``(N, 3, px, px)``, channels last."""
        return (self.pixels[rows].to(self.device).float() - HALF) / HALF

    def right(self, rows: Tensor) -> Tensor:
        """What is right of the rows, on the device."""
        return self.truth[rows].to(self.device)

    def normalised(self, signed: Tensor) -> Tensor:
        """Pixels on -1..1 as the network's input."""
        mean, std = self.mean.to(signed.device), self.std.to(signed.device)
        return signed * (HALF / std) + (HALF - mean) / std

    def inputs(self, rows: Tensor) -> Tensor:
        """The rows as the network's input, ``(N, 3, px, px)`` float32, channels last."""
        return self.normalised(self.signed(rows))


def at_size(preprocess: Preprocess, px: int) -> Preprocess:
    """The whole short side at ``px``, with the colours of ``preprocess``."""
    return replace(preprocess, resize_px=px, crop_px=px)


def read_pictures(
    dataset: Dataset, px: int, objective: Objective, preprocess: Preprocess = SIGNED, device: torch.device = CPU
) -> Pictures:
    """Read a labelled data set at ``px``: short side resized, centre cropped.

    Raises:
        EdgecError: ``unlabelled-data``, ``unreadable-image``, ``bad-mask``.
    """
    sized = at_size(preprocess, px)
    truth = objective.truth(dataset, sized)
    pixels = torch.empty((len(dataset), 3, px, px), dtype=torch.uint8, memory_format=torch.channels_last)
    with ThreadPoolExecutor(READERS) as pool:
        files = [dataset.root / sample.file for sample in dataset.samples]
        for row, array in enumerate(pool.map(lambda file: read_image(file, sized), files)):
            pixels[row] = torch.from_numpy(np.array(array)).permute(2, 0, 1)
    mean, std = (torch.tensor(values, dtype=torch.float32).view(3, 1, 1) for values in (sized.mean, sized.std))
    return Pictures(pixels, truth, mean, std, device)


def shuffled_batches(count: int, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Row numbers in random order, ``batch_size`` at a time; a smaller last batch is left out unless the only one."""
    order = torch.randperm(count, generator=generator)
    for batch in torch.split(order, batch_size):
        if len(batch) == batch_size or count < batch_size:
            yield batch


def spread_batches(count: int, batch_size: int, num_batches: int) -> tuple[Tensor, ...]:
    """At most so many batches of rows, evenly spread over the set, its classes mixed though they may lie in order."""
    rows = torch.arange(0, count, max(1, count // (batch_size * num_batches)))
    generator = torch.Generator().manual_seed(0)
    return torch.split(rows[torch.randperm(len(rows), generator=generator)], batch_size)[:num_batches]
