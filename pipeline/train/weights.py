"""From a recipe and data to weights on disk with a card that states their accuracy as stored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.progress import Report
from edgec.pipeline.core.stage import file_sha256
from edgec.pipeline.data.dataset import Dataset, batches
from edgec.pipeline.data.preprocess import Preprocess
from edgec.pipeline.network.models.cards import Card, PreprocessTable
from edgec.pipeline.network.models.spec import NetworkConfig, build_network
from edgec.pipeline.network.models.weights import Weights, load_backbone, load_fitting
from edgec.pipeline.train.curve import Epoch, curve_of
from edgec.pipeline.train.data import TrainingData
from edgec.pipeline.train.device import device_name
from edgec.pipeline.train.objective import Objective, objective_of
from edgec.pipeline.train.pictures import CPU, SIGNED, at_size
from edgec.pipeline.train.recipe import TrainingRecipe
from edgec.pipeline.train.save_weights import save_card, save_weights
from edgec.pipeline.train.train import Trained, train

BATCH_SIZE = 32
"""Of the final measurement."""


@dataclass(frozen=True)
class Start:
    """What a run begins with.

    Attributes:
        initial: the weights in ``network``; None for a fresh initialisation.
        new_head: the classifier in ``network`` is a fresh one, whatever ``initial`` has.
        backbone: the weights in the backbone of a network that is otherwise a fresh one.
    """

    config: NetworkConfig
    network: nn.Module
    initial: Weights | None = None
    new_head: bool = True
    backbone: Weights | None = None

    @property
    def preprocess(self) -> Preprocess:
        """As the given weights know pictures; their sizes are the recipe's."""
        given = self.initial or self.backbone
        return given.preprocess if given is not None else SIGNED

    @property
    def words(self) -> str:
        """Where the weights come from."""
        if self.backbone is not None:
            return (
                f"backbone from {Path(self.backbone.name).name}, sha256 {self.backbone.sha256}; the rest from scratch"
            )
        if self.initial is None:
            return "started from scratch"
        origin = f"started from {Path(self.initial.name).name}, sha256 {self.initial.sha256}"
        return f"{origin}, with a new classifier" if self.new_head else origin


def begin(
    config: NetworkConfig,
    initial: Weights | None,
    classes: tuple[str, ...],
    seed: int,
    backbone: Weights | None = None,
) -> Start:
    """The network of ``config``, filled from ``initial`` where there is one.

    The classifier is a new one where ``initial`` has another number of classes, or names others than ``classes``.

    Raises:
        EdgecError: those of ``build_network``, ``load_weights`` and ``load_backbone``.
    """
    torch.manual_seed(seed)
    network = build_network(config)
    if initial is None:
        if backbone is not None:
            load_backbone(network, backbone)
        return Start(config, network, backbone=backbone)
    means_others = bool(classes and initial.labels and classes != initial.labels)
    return Start(config, network, initial, load_fitting(network, initial, with_classifier=not means_others))


def train_weights(
    start: Start,
    data: TrainingData,
    recipe: TrainingRecipe,
    output: Path,
    resume: bool = False,
    on_batch: Report | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
    device: torch.device = CPU,
) -> tuple[Card, Trained]:
    """Train, write ``output`` and its card, and return the card and what the run came to.

    While it runs, ``output`` with the suffix ``.checkpoint`` holds the last whole epoch.

    Args:
        resume: continue from the checkpoint, where there is one.
        device: what computes; the card names a GPU.

    Raises:
        EdgecError: ``unfinished-run`` where a checkpoint is there and ``resume`` is not asked for; those of
            ``TrainingData.check``, ``objective_of`` and ``train``.
    """
    data.check()
    objective = objective_of(start.config.model)
    checkpoint = output.with_suffix(".checkpoint")
    if checkpoint.exists() and not resume:
        hint = "add --resume to continue it, or delete the file"
        raise EdgecError("unfinished-run", f"'{checkpoint}' is left from an unfinished run", hint)
    recipe = replace(recipe, is_pretrained=start.initial is not None)
    output.parent.mkdir(parents=True, exist_ok=True)
    trained = train(
        start.network,
        data.training,
        data.validation,
        recipe,
        checkpoint,
        on_batch,
        on_epoch,
        objective,
        start.preprocess,
        device,
    )
    save_weights(trained.network, output)
    card = describe(trained, start, data, recipe, output, objective)
    save_card(card, output.with_suffix(".toml"), remarks(start, data, recipe, trained.curve, device))
    checkpoint.unlink(missing_ok=True)
    return card, trained


def describe(
    trained: Trained, start: Start, data: TrainingData, recipe: TrainingRecipe, file: Path, objective: Objective
) -> Card:
    """The card of ``trained``, stored in ``file``; its accuracy is measured on the test set, or else on validation."""
    config, preprocess = start.config, at_size(start.preprocess, recipe.phases[-1].px)
    judge, kind = (data.test, "test") if data.test is not None else (data.validation, "validation")
    chosen = ", by which the epoch was chosen" if judge is data.validation and recipe.patience is not None else ""
    stored = f"float {objective.metric} of these half-precision weights on {len(judge)} {kind} images{chosen}"
    return Card(
        model=config.model,
        state_dict=file.name,
        sha256=file_sha256(file),
        names="edgec",
        padding=config.padding,
        width_multiplier=config.width_multiplier,
        num_classes=config.num_classes,
        accuracy=round(measured_percent(trained.network, judge, preprocess, objective), 2),
        labels=data.training.classes or None,
        license=data.license,
        source=f"edgec train: {stored}",
        preprocess=PreprocessTable.model_validate(preprocess.stated()),
        curve=curve_of(trained.curve, objective.metric),
    )


def measured_percent(network: nn.Module, dataset: Dataset, preprocess: Preprocess, objective: Objective) -> float:
    """The objective's figure in percent, images read as a build reads them.

    Raises:
        EdgecError: ``unlabelled-data``, ``bad-mask``, ``unreadable-image``.
    """
    truth = torch.split(objective.truth(dataset, preprocess), BATCH_SIZE)
    images = batches(dataset, preprocess, BATCH_SIZE)
    with torch.inference_mode():
        return objective.figure(
            (right.numpy(), network(torch.from_numpy(batch)).numpy())
            for right, batch in zip(truth, images, strict=True)
        )


def remarks(
    start: Start, data: TrainingData, recipe: TrainingRecipe, curve: tuple[Epoch, ...], device: torch.device = CPU
) -> tuple[str, ...]:
    """How the weights were made, for the head of the card."""
    lines = [f"Weights card of {start.config.model}, trained on {data.name} by edgec train (see docs/training.md)."]
    lines.append(start.words)
    lines += [
        f"{phase.epochs} epochs{' of the classifier alone' if phase.head_only else ''} at {phase.px} px, "
        f"learning rate {phase.learning_rate:g}"
        for phase in recipe.phases
    ]
    lines.append(f"{len(data.training)} images, batch {recipe.batch_size}, AdamW, weight decay {recipe.weight_decay:g}")
    lines.append(f"label smoothing {recipe.label_smoothing:g}, average {recipe.ema_decay:g}, seed {recipe.seed}")
    if recipe.class_balance:
        lines.append(f"classes weigh by their share to the power of -{recipe.class_balance:g}")
    if recipe.patience is not None:
        lines.append(f"patience {recipe.patience}: {len(curve)} of {recipe.epochs} epochs ran, the best one is kept")
    lines.append(f"torch {torch.__version__}, {device_name(device)}")
    return tuple(lines)
