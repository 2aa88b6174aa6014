"""``edgec train``: train a network on the bundled data set or on a folder of one's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from edgec.pipeline.train.recipe import Phase
    from edgec.pipeline.train.train import Epoch


def int_list(least: int) -> Callable[[click.Context, click.Parameter, str], tuple[int, ...]]:
    """Callback that turns ``"112,160"`` into ``(112, 160)``; a usage error for anything else or below ``least``."""

    def parse(context: click.Context, parameter: click.Parameter, value: str) -> tuple[int, ...]:
        parts = [part.strip() for part in value.split(",")]
        if not all(part.isdecimal() and int(part) >= least for part in parts):
            raise click.BadParameter(f"'{value}': expected whole numbers of at least {least}, separated by commas")
        return tuple(int(part) for part in parts)

    return parse


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
    "--data", default="parts", show_default=True, metavar="parts|DIR", help="The bundled set, or labelled images."
)
@click.option(
    "--px", callback=int_list(32), default="112,160,224", show_default=True, help="Picture size of each phase."
)
@click.option("--epochs", callback=int_list(1), default="14,3,3", show_default=True, help="Epochs of each phase.")
@click.option("--num-images", type=click.IntRange(min=16), help="Training pictures of parts.  [default: 10000]")
@click.option("--batch-size", type=click.IntRange(min=2), default=64, show_default=True)
@click.option(
    "--learning-rate", callback=rates, default="3e-3,1e-3,1e-3", show_default=True, help="Its peak in each phase."
)
@click.option("--weights", help="Start from these: a name, .safetensors, .pth or card .toml.  [default: from scratch]")
@click.option("--width-multiplier", type=click.FloatRange(min=0, min_open=True), default=1.0, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads.  [default: all cores]")
@click.option("--resume", is_flag=True, help="Continue an interrupted run after its last whole epoch.")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE.safetensors")
def command(
    model: str,
    data: str,
    px: tuple[int, ...],
    epochs: tuple[int, ...],
    num_images: int | None,
    batch_size: int,
    learning_rate: tuple[float, ...],
    weights: str | None,
    width_multiplier: float,
    seed: int,
    threads: int | None,
    resume: bool,
    output: Path | None,
) -> None:
    """Train MODEL and write its weights with a card, ready for edgec build --weights.

    Validation accuracy is shown after every epoch; the test images are looked at once, at the end.
    """
    import torch

    from edgec.pipeline.cli._progress import progress_bar
    from edgec.pipeline.core.progress import reporter
    from edgec.pipeline.core.store import default_root
    from edgec.pipeline.network.models import get
    from edgec.pipeline.network.models.spec import NetworkConfig
    from edgec.pipeline.network.models.weights import resolve_weights
    from edgec.pipeline.train.augment import ANY_SIDE_UP, Augment
    from edgec.pipeline.train.data import folder_data, parts_data
    from edgec.pipeline.train.recipe import TrainingRecipe
    from edgec.pipeline.train.weights import train_weights

    if threads is not None:
        torch.set_num_threads(threads)
    recipe = TrainingRecipe(
        phases=phases_of(px, epochs, learning_rate),
        batch_size=batch_size,
        augment=ANY_SIDE_UP if data == "parts" else Augment(),
        seed=seed,
    )
    output = output or Path(f"{model}_{Path(data).resolve().name}.safetensors")
    with progress_bar():
        sets = (
            parts_data(default_root(), num_images, reporter("draw"))
            if data == "parts"
            else folder_data(Path(data), seed)
        )
        initial = resolve_weights(weights, get(model)) if weights is not None else None
        config = NetworkConfig(model, width_multiplier=width_multiplier, input_px=px[-1], num_classes=sets.num_classes)
        if initial is not None:
            config = replace(config, padding=initial.padding)
        card = train_weights(config, sets, recipe, output, initial, resume, reporter("train"), show_epoch)
    click.echo(f"{output}: top-1 {card.accuracy} % ({card.source})")


def phases_of(px: tuple[int, ...], epochs: tuple[int, ...], rates: tuple[float, ...]) -> tuple[Phase, ...]:
    """Put the three lists together; lists of different lengths are a usage error."""
    from edgec.pipeline.train.recipe import Phase

    if not len(px) == len(epochs) == len(rates):
        counts = f"{len(px)} sizes, {len(epochs)} numbers of epochs, {len(rates)} learning rates"
        raise click.UsageError(f"--px, --epochs and --learning-rate describe the same phases, but there are {counts}")
    return tuple(Phase(*phase) for phase in zip(px, epochs, rates, strict=True))


def show_epoch(epoch: Epoch) -> None:
    """One line per epoch, on standard error."""
    click.echo(
        f"epoch {epoch.number:3}  {epoch.px} px  loss {epoch.loss:.4f}  validation top-1 {epoch.top1:.2f} %", err=True
    )
