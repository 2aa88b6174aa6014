"""From a recipe and data to weights on disk with a card that states their accuracy as stored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.progress import Report
from edgec.pipeline.core.store import file_sha256
from edgec.pipeline.data.dataset import Dataset, batches
from edgec.pipeline.data.preprocess import Preprocess
from edgec.pipeline.network.models.cards import Card, PreprocessTable
from edgec.pipeline.network.models.spec import NetworkConfig, build_network
from edgec.pipeline.network.models.weights import Weights, load_weights
from edgec.pipeline.tasks.metrics import topk_percent
from edgec.pipeline.train.data import TrainingData
from edgec.pipeline.train.recipe import TrainingRecipe
from edgec.pipeline.train.save_weights import save_card, save_weights
from edgec.pipeline.train.train import PIXEL_MEAN, PIXEL_STD, Epoch, train


def train_weights(
    config: NetworkConfig,
    data: TrainingData,
    recipe: TrainingRecipe,
    output: Path,
    initial: Weights | None = None,
    resume: bool = False,
    on_batch: Report | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> Card:
    """Train, write ``output`` and its card, and return the card.

    While it runs, ``output`` with the suffix ``.checkpoint`` holds the last whole epoch.

    Args:
        initial: weights to start from, of the same network; None for a fresh initialisation by the recipe's seed.
        resume: continue from the checkpoint, where there is one.

    Raises:
        EdgecError: ``unfinished-run`` where a checkpoint is there and ``resume`` is not asked for; those of
            ``TrainingData.check``, ``train``, ``build_network`` and ``load_weights``.
    """
    data.check()
    checkpoint = output.with_suffix(".checkpoint")
    if checkpoint.exists() and not resume:
        hint = "add --resume to continue it, or delete the file"
        raise EdgecError("unfinished-run", f"'{checkpoint}' is left from an unfinished run", hint)
    torch.manual_seed(recipe.seed)
    network = build_network(config)
    if initial is not None:
        load_weights(network, initial)
    output.parent.mkdir(parents=True, exist_ok=True)
    trained = train(network, data.training, data.validation, recipe, checkpoint, on_batch, on_epoch)
    save_weights(trained, output)
    card = describe(trained, config, data, recipe, output)
    save_card(card, output.with_suffix(".toml"), remarks(config, data, recipe, initial))
    checkpoint.unlink(missing_ok=True)
    return card


def describe(trained: nn.Module, config: NetworkConfig, data: TrainingData, recipe: TrainingRecipe, file: Path) -> Card:
    """The card of ``trained``, stored in ``file``; its accuracy is measured on the test set, or else on validation."""
    px = recipe.phases[-1].px
    preprocess = Preprocess("RGB", px, px, (PIXEL_MEAN,) * 3, (PIXEL_STD,) * 3)
    judge, kind = (data.test, "test") if data.test is not None else (data.validation, "validation")
    return Card(
        model=config.model,
        state_dict=file.name,
        sha256=file_sha256(file),
        names="edgec",
        padding=config.padding,
        width_multiplier=config.width_multiplier,
        num_classes=config.num_classes,
        accuracy=round(measured_top1(trained, judge, preprocess), 2),
        labels=data.training.classes or None,
        license=data.license,
        source=f"edgec train: float top-1 of these half-precision weights on {len(judge)} {kind} images",
        preprocess=PreprocessTable.model_validate(preprocess.stated()),
    )


def measured_top1(network: nn.Module, dataset: Dataset, preprocess: Preprocess) -> float:
    """Float top-1 in percent, images read as a build reads them."""
    labels = dataset.labels
    if labels is None:
        raise EdgecError("unlabelled-data", f"'{dataset.root}' has images without a label", "label the test images")
    with torch.inference_mode():
        logits = [network(torch.from_numpy(batch)).numpy() for batch in batches(dataset, preprocess, batch_size=64)]
    return topk_percent(np.concatenate(logits), labels)


def remarks(
    config: NetworkConfig, data: TrainingData, recipe: TrainingRecipe, initial: Weights | None
) -> tuple[str, ...]:
    """How the weights were made, for the head of the card."""
    lines = [f"Weights card of {config.model}, trained on {data.name} by edgec train (see docs/parts.md)."]
    lines.append(
        f"started from {Path(initial.name).name}, sha256 {initial.sha256}" if initial else "started from scratch"
    )
    lines += [
        f"{phase.epochs} epochs at {phase.px} px, learning rate {phase.learning_rate:g}" for phase in recipe.phases
    ]
    lines.append(f"{len(data.training)} images, batch {recipe.batch_size}, AdamW, weight decay {recipe.weight_decay:g}")
    lines.append(f"label smoothing {recipe.label_smoothing:g}, average {recipe.ema_decay:g}, seed {recipe.seed}")
    lines.append(f"torch {torch.__version__}")
    return tuple(lines)
