"""``edgec train``: train a network on the bundled data set or on a folder of one's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from edgec.pipeline.cli._options import NAME_OR_FILE, Finite
from edgec.pipeline.cli._progress import progress_bar, tell

if TYPE_CHECKING:
    from edgec.pipeline.network.models.weights import Weights
    from edgec.pipeline.train.curve import Epoch
    from edgec.pipeline.train.recipe import Phase


def int_list(least: int) -> Callable[[click.Context, click.Parameter, str], tuple[int, ...]]:
    """Callback that turns ``"112,160"`` into ``(112, 160)``; a usage error for anything else or below ``least``."""

    def parse(context: click.Context, parameter: click.Parameter, value: str) -> tuple[int, ...]:
        parts = [part.strip() for part in value.split(",")]
        if not all(part.isdecimal() and int(part) >= least for part in parts):
            raise click.BadParameter(f"'{value}': expected whole numbers of at least {least}, separated by commas")
        return tuple(int(part) for part in parts)

    return parse


Parsed = TypeVar("Parsed")

HEAD_EPOCHS, HEAD_RATE = 3, 3e-3
SCRATCH = ((112, 160, 224), (14, 3, 3), (3e-3, 1e-3, 1e-3))
"""Sizes, epochs and learning rates of a run that starts from nothing."""


def optional(
    parse: Callable[[click.Context, click.Parameter, str], Parsed],
) -> Callable[[click.Context, click.Parameter, str | None], Parsed | None]:
    """The same callback for an option that may be left away."""

    def parse_if(context: click.Context, parameter: click.Parameter, value: str | None) -> Parsed | None:
        return None if value is None else parse(context, parameter, value)

    return parse_if


def rates(context: click.Context, parameter: click.Parameter, value: str) -> tuple[float, ...]:
    """Callback that turns ``"3e-3,1e-3"`` into numbers above 0; anything else is a usage error."""
    try:
        numbers = tuple(float(part) for part in value.split(","))
    except ValueError:
        numbers = ()
    if not numbers or not all(0 < number < 1 for number in numbers):
        raise click.BadParameter(f"'{value}': expected numbers between 0 and 1, separated by commas")
    return numbers


@click.command("train")
@click.argument("model")
@click.option(
    "--data",
    type=NAME_OR_FILE,
    default="parts",
    show_default=True,
    metavar="parts|DIR",
    help="The bundled set (scenes with masks for a segmenting network), or labelled images.",
)
@click.option(
    "--px",
    callback=optional(int_list(32)),
    help="Picture size of each phase.  [default: 112,160,224; with --weights theirs]",
)
@click.option(
    "--epochs", callback=optional(int_list(1)), help="Epochs of each phase.  [default: 14,3,3; with --weights 12]"
)
@click.option(
    "--num-images", type=click.IntRange(min=16), help="Training pictures of parts.  [default: 10000, or 4000]"
)
@click.option("--batch-size", type=click.IntRange(min=2), help="[default: 64; 16 with masks]")
@click.option(
    "--learning-rate",
    callback=optional(rates),
    help="Its peak in each phase.  [default: 3e-3,1e-3,1e-3; with --weights 5e-4]",
)
@click.option(
    "--weights",
    type=NAME_OR_FILE,
    help="Start from these: a name, .safetensors, .pth or card .toml.  [default: from scratch]",
)
@click.option(
    "--backbone-weights",
    type=NAME_OR_FILE,
    help="Of the classifying network that a segmenting one is built on; the rest is trained from scratch.",
)
@click.option(
    "--head-epochs",
    type=click.IntRange(min=0),
    help="Epochs of a first phase for the classifier alone.  [default: 3 where --weights have another one]",
)
@click.option(
    "--class-balance",
    type=Finite(0, 1),
    default=0.0,
    show_default=True,
    help="0: every picture counts alike; 1: every class; 0.5: halfway.",
)
@click.option(
    "--patience", type=click.IntRange(min=1), help="End a phase after so many epochs without gain; keep the best epoch."
)
@click.option("--width-multiplier", type=Finite(min=0, min_open=True), help="[default: 1, or the weights']")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="What computes; auto: a GPU where torch sees one.",
)
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads.  [default: all cores]")
@click.option("--resume", is_flag=True, help="Continue an interrupted run after its last whole epoch.")
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), help="The training curve, .svg or .png.")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE.safetensors")
def command(
    model: str,
    data: str,
    px: tuple[int, ...] | None,
    epochs: tuple[int, ...] | None,
    num_images: int | None,
    batch_size: int | None,
    learning_rate: tuple[float, ...] | None,
    weights: str | None,
    backbone_weights: str | None,
    head_epochs: int | None,
    class_balance: float,
    patience: int | None,
    width_multiplier: float | None,
    seed: int,
    device: str,
    threads: int | None,
    resume: bool,
    plot: Path | None,
    output: Path | None,
) -> None:
    """Train MODEL and write its weights with a card, ready for edgec build --weights.

    With --weights of other classes only the classifier is new: it learns alone first, then everything. Validation is
    shown after every epoch; the test images are looked at once, at the end.
    """
    import torch

    from edgec.pipeline.core.plots import check_plot
    from edgec.pipeline.core.progress import reporter
    from edgec.pipeline.core.root import default_root
    from edgec.pipeline.network.models import get
    from edgec.pipeline.network.models.spec import NetworkConfig
    from edgec.pipeline.network.models.weights import resolve_weights
    from edgec.pipeline.train.augment import ANY_SIDE_UP, Augment
    from edgec.pipeline.train.curve import plot_curve
    from edgec.pipeline.train.data import folder_data, parts_data, scenes_data
    from edgec.pipeline.train.device import find_device
    from edgec.pipeline.train.objective import SEGMENTATION, objective_of
    from edgec.pipeline.train.recipe import TrainingRecipe
    from edgec.pipeline.train.weights import begin, train_weights

    if threads is not None:
        torch.set_num_threads(threads)
    if plot is not None:
        check_plot(plot)
    objective, computes = objective_of(model), find_device(device)
    initial = resolve_weights(weights, get(model)) if weights is not None else None
    backbone = backbone_of(model, weights, backbone_weights)
    usual = SCRATCH if initial is None else ((initial.preprocess.shape[1],), (12,), (5e-4,))
    phases = phases_of(px or usual[0], epochs or usual[1], learning_rate or usual[2])
    output = output or Path(f"{model}_{Path(data).resolve().name}.safetensors")
    with progress_bar():
        bundled = scenes_data if objective == SEGMENTATION else parts_data
        drawn = partial(bundled, default_root(), num_images, reporter("draw"))
        sets = drawn() if data == "parts" else folder_data(Path(data), seed)
        config = NetworkConfig(model, input_px=phases[-1].px, num_classes=sets.num_classes)
        if initial is not None:
            config = initial.network_config(input_px=phases[-1].px, num_classes=sets.num_classes)
        if width_multiplier is not None:
            config = replace(config, width_multiplier=width_multiplier)
        if backbone is not None:
            config = replace(config, padding=backbone.padding)
        start = begin(config, initial, sets.training.classes, seed, backbone)
        if initial is not None and start.new_head:
            tell(new_head_words(initial, sets.num_classes))
        recipe = TrainingRecipe(
            phases=with_head(phases, head_epochs, start.new_head and initial is not None),
            batch_size=batch_size or objective.batch_size,
            augment=ANY_SIDE_UP if data == "parts" else Augment(),
            seed=seed,
            class_balance=class_balance,
            patience=patience,
        )
        shown = partial(show_epoch, objective.metric)
        card, trained = train_weights(start, sets, recipe, output, resume, reporter("train"), shown, computes)
    if plot is not None:
        plot_curve(trained.curve, objective.metric, f"{model} on {sets.name}", plot)
    click.echo(f"{output}: {objective.metric} {card.accuracy} % ({card.source})")


def backbone_of(model: str, weights: str | None, argument: str | None) -> Weights | None:
    """What ``--backbone-weights`` names.

    Raises:
        EdgecError: those of ``resolve_weights``; ``weights-mismatch`` for a model without such a backbone.
    """
    from edgec.pipeline.core.errors import EdgecError
    from edgec.pipeline.network.models import get
    from edgec.pipeline.network.models.weights import resolve_weights

    if argument is None:
        return None
    if weights is not None:
        raise click.UsageError("--weights holds the backbone too: give one of the two")
    backbone = get(model).backbone
    if backbone is None:
        message = f"'{model}' is not built on a model that classifies here"
        raise EdgecError("weights-mismatch", message, "leave --backbone-weights away")
    return resolve_weights(argument, get(backbone))


def phases_of(px: tuple[int, ...], epochs: tuple[int, ...], rates: tuple[float, ...]) -> tuple[Phase, ...]:
    """Put the three lists together; lists of different lengths are a usage error."""
    from edgec.pipeline.train.recipe import Phase

    if not len(px) == len(epochs) == len(rates):
        counts = f"{len(px)} sizes, {len(epochs)} numbers of epochs, {len(rates)} learning rates"
        raise click.UsageError(f"--px, --epochs and --learning-rate describe the same phases, but there are {counts}")
    return tuple(Phase(*phase) for phase in zip(px, epochs, rates, strict=True))


def with_head(phases: tuple[Phase, ...], epochs: int | None, is_new: bool) -> tuple[Phase, ...]:
    """A first phase for the classifier alone, at the first size, where it is new or asked for."""
    from edgec.pipeline.train.recipe import Phase

    count = epochs if epochs is not None else HEAD_EPOCHS if is_new else 0
    return (Phase(phases[0].px, count, HEAD_RATE, head_only=True), *phases) if count else phases


def new_head_words(initial: Weights, num_classes: int) -> str:
    """What is said where the weights fit but for the classifier."""
    theirs = f" of {initial.num_classes} classes" if initial.num_classes else ""
    return f"{initial.name}: everything but its classifier{theirs} is taken; a new one of {num_classes} is trained"


def show_epoch(metric: str, epoch: Epoch) -> None:
    """One line per epoch, on standard error."""
    part = "  classifier alone" if epoch.head_only else ""
    figures = f"loss {epoch.loss:.4f}  validation {metric} {epoch.figure:.2f} %"
    tell(f"epoch {epoch.number:3}  {epoch.px} px  {figures}{part}")
