"""From a recipe and data to weights on disk with a card that states their accuracy as stored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from edgec.pipeline.data import Dataset, batches
from edgec.pipeline.errors import EdgecError
from edgec.pipeline.metrics import topk_percent
from edgec.pipeline.models.cards import Card, PreprocessTable
from edgec.pipeline.models.spec import NetworkConfig, build_network
from edgec.pipeline.preprocess import Preprocess
from edgec.pipeline.progress import Report
from edgec.pipeline.save_weights import save_card, save_weights
from edgec.pipeline.train import PIXEL_MEAN, PIXEL_STD, Epoch, TrainingRecipe, train
from edgec.pipeline.training_data import TrainingData


def train_weights(
    config: NetworkConfig,
    data: TrainingData,
    recipe: TrainingRecipe,
    output: Path,
    resume: bool = False,
    on_batch: Report | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> Card:
    """Train, write ``output`` and its card, and return the card.

    While it runs, ``output`` with the suffix ``.checkpoint`` holds the last whole epoch.

    Raises:
        EdgecError: ``unfinished-run`` where a checkpoint is there and ``resume`` is not asked for; those of ``train``
            and ``build_network``.
    """
    checkpoint = output.with_suffix(".checkpoint")
    if checkpoint.exists() and not resume:
        hint = "add --resume to continue it, or delete the file"
        raise EdgecError("unfinished-run", f"'{checkpoint}' is left from an unfinished run", hint)
    torch.manual_seed(recipe.seed)
    network = build_network(config)
    output.parent.mkdir(parents=True, exist_ok=True)
    trained = train(network, data.training, data.validation, recipe, checkpoint, on_batch, on_epoch)
    save_weights(trained, output)
    card = describe(trained, config, data, recipe, output.name)
    save_card(card, output.with_suffix(".toml"), remarks(config, data, recipe))
    checkpoint.unlink(missing_ok=True)
    return card


def describe(trained: nn.Module, config: NetworkConfig, data: TrainingData, recipe: TrainingRecipe, file: str) -> Card:
    """The card of ``trained``, whose accuracy is measured here, on the test set or else on the validation set."""
    px = recipe.phases[-1].px
    preprocess = Preprocess("RGB", px, px, (PIXEL_MEAN,) * 3, (PIXEL_STD,) * 3)
    judge, kind = (data.test, "test") if data.test is not None else (data.validation, "validation")
    return Card(
        model=config.model,
        state_dict=file,
        names="edgec",
        padding=config.padding,
        width_multiplier=config.width_multiplier,
        num_classes=config.num_classes,
        accuracy=round(measured_top1(trained, judge, preprocess), 2),
        labels=data.training.classes or None,
        license=data.license,
        source=f"edgec train: float top-1 of these half-precision weights on {len(judge)} {kind} images",
        preprocess=PreprocessTable(
            color=preprocess.color, resize_px=px, crop_px=px, mean=preprocess.mean, std=preprocess.std
        ),
    )


def measured_top1(network: nn.Module, dataset: Dataset, preprocess: Preprocess) -> float:
    """Float top-1 in percent, images read as a build reads them."""
    labels = dataset.labels
    if labels is None:
        raise EdgecError("unlabelled-data", f"'{dataset.root}' has images without a label", "label the test images")
    with torch.inference_mode():
        logits = [network(torch.from_numpy(batch)).numpy() for batch in batches(dataset, preprocess, batch_size=64)]
    return topk_percent(np.concatenate(logits), labels)


def remarks(config: NetworkConfig, data: TrainingData, recipe: TrainingRecipe) -> tuple[str, ...]:
    """How the weights were made, for the head of the card."""
    phases = ", ".join(f"{phase.epochs} epochs at {phase.px} px" for phase in recipe.phases)
    return (
        f"Weights card of {config.model}, trained on {data.name} by edgec train (see docs/parts.md).",
        f"{len(data.training)} training images; {phases}; batch {recipe.batch_size}, AdamW,",
        f"learning rate {recipe.learning_rate:g}, weight decay {recipe.weight_decay:g}, label smoothing",
        f"{recipe.label_smoothing:g}, average {recipe.ema_decay:g}, seed {recipe.seed}, torch {torch.__version__}.",
    )
