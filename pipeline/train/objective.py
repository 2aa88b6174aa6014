"""What training asks of a task: what is right of each picture, the loss, and one figure to watch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.data.dataset import Dataset
from edgec.pipeline.data.masks import VOID
from edgec.pipeline.data.preprocess import Preprocess
from edgec.pipeline.network import models
from edgec.pipeline.tasks.iou import Counts, confusion
from edgec.pipeline.tasks.metrics import answers, right_percent
from edgec.pipeline.tasks.task import load_task

NO_VOID = -100
"""No class has it."""

Pairs = Iterable[tuple[npt.NDArray[Any], npt.NDArray[np.float32]]]
"""Batch by batch, what is right, ``(N,)`` or ``(N, H, W)``, and logits ``(N, C)`` or ``(N, C, H, W)``."""


def top1(pairs: Pairs) -> float:
    """Pictures that are answered right, percent."""
    right, said = (np.concatenate(part) for part in zip(*((r, answers(logits)) for r, logits in pairs), strict=True))
    return right_percent(said, right)


def mean_iou(pairs: Pairs) -> float:
    """Mean over the classes that are there, percent; over all pixels, void left out."""
    total = reduce(np.add, (confusion(right, answers(logits), logits.shape[1]) for right, logits in pairs))
    both, there, named = np.diag(total), total.sum(axis=1), total.sum(axis=0)
    counts = (values[None].astype(np.float64) for values in (both, there + named - both, there))
    return float(Counts(*counts).mean_iou()[0])


@dataclass(frozen=True)
class Objective:
    """One task as training sees it.

    Attributes:
        task: its name.
        metric: name of the figure.
        layout: of data that say what is right, for the hint where some do not.
        figure: of all batches, percent.
        batch_size: that a training machine has the memory for.
    """

    task: str
    metric: str
    layout: str
    figure: Callable[[Pairs], float]
    batch_size: int = 64

    def truth(self, dataset: Dataset, preprocess: Preprocess) -> Tensor:
        """What is right of each picture: classes ``(N,)`` int64, or masks ``(N, H, W)`` uint8.

        Raises:
            EdgecError: ``unlabelled-data``, ``bad-mask``.
        """
        found = load_task(self.task).truth(dataset, preprocess)
        if found is None:
            message = f"'{dataset.root}' does not say what is right of every image"
            raise EdgecError("unlabelled-data", message, f"training needs {self.layout}")
        return torch.from_numpy(found)


CLASSIFICATION = Objective("classification", "top-1", "one folder of images per class, or labels.csv", top1)
SEGMENTATION = Objective("segmentation", "mIoU", "masks beside the images: images/a.jpg, masks/a.png", mean_iou, 16)


def objective_of(model: str) -> Objective:
    """What a model of the registry is trained for.

    Raises:
        EdgecError: ``unknown-model``; ``wrong-task`` for a task that edgec cannot train.
    """
    task = models.get(model).task or CLASSIFICATION.task
    found = {objective.task: objective for objective in (CLASSIFICATION, SEGMENTATION)}.get(task)
    if found is None:
        message = f"'{model}' is for the task '{task}', and edgec trains {CLASSIFICATION.task} and {SEGMENTATION.task}"
        raise EdgecError("wrong-task", message, "train it where it comes from, and pass --weights to edgec build")
    return found


def class_counts(truth: Tensor) -> Tensor:
    """Pictures or pixels of each class up to the last that is there."""
    return torch.bincount(judged(truth))


def class_weights(counts: Tensor, num_classes: int, balance: float) -> Tensor | None:
    """Weight of each class in the loss, its count to the power of ``-balance``: one on average over what is counted."""
    if balance == 0:
        return None
    padded = F.pad(counts, (0, num_classes - len(counts))).double()
    weights = padded.clamp(min=1) ** -balance
    return (weights * padded.sum() / (weights * padded).sum()).float()


def judged(truth: Tensor) -> Tensor:
    """The classes of all pictures or pixels in one row, void left out."""
    return truth.flatten()[(truth != void_of(truth)).flatten()].long()


def void_of(truth: Tensor) -> int:
    """The value that nobody judges: masks alone have one."""
    return VOID if truth.ndim == 3 else NO_VOID


def loss_of(logits: Tensor, truth: Tensor, weights: Tensor | None, label_smoothing: float) -> Tensor:
    """Cross-entropy, a weighted mean over pictures or pixels; zero where all of them are void.

    What is smoothed counts as much as its picture or pixel. ``torch.nn.functional.cross_entropy`` lets it count as much
    as all the classes that it is spread over: beside a frequent class, whose weight is small, ten times the smoothing.

    Args:
        logits: ``(N, C)`` with ``truth`` ``(N,)``, or ``(N, C, H, W)`` with ``(N, H, W)``.
        weights: of the classes, ``(C,)``; each alike where None.
    """
    void = void_of(truth)
    if logits.ndim == 4:  # a row for each pixel: a view of NHWC, and half the time that the second axis takes on a CPU
        logits, truth = logits.permute(0, 2, 3, 1).flatten(0, 2), truth.flatten()
    kept = truth != void
    if not kept.any():
        return logits.sum() * 0.0
    classes = torch.where(kept, truth.long(), 0)
    counted = kept.to(logits.dtype) if weights is None else kept * weights[classes]
    likelihood = F.log_softmax(logits, 1)
    right, everywhere = likelihood.gather(1, classes[:, None])[:, 0], likelihood.mean(1)
    smoothed = (1 - label_smoothing) * right + label_smoothing * everywhere
    return -(counted * smoothed).sum() / counted.sum()
