"""``edgec train``: train a network on the bundled data set or on a folder of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from edgec.pipeline.train import Epoch, Phase


class IntList(click.ParamType):
    """Whole numbers separated by commas, none below ``least``."""

    name = "N,N,..."

    def __init__(self, least: int) -> None:
        self.least = least

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """``"112,160"`` to ``(112, 160)``; anything else is a usage error."""
        parts = value.split(",")
        if not all(part.strip().isdecimal() and int(part) >= self.least for part in parts):
            self.fail(f"'{value}': expected whole numbers of at least {self.least}, separated by commas", param, ctx)
        return tuple(int(part) for part in parts)


@click.command("train")
@click.argument("model")
@click.option(
    "--data", default="parts", show_default=True, metavar="parts|DIR", help="The bundled set, or labelled images."
)
@click.option("--px", type=IntList(32), default="112,160,224", show_default=True, help="Picture size of each phase.")
@click.option("--epochs", type=IntList(1), default="16,3,1", show_default=True, help="Epochs of each phase.")
@click.option("--num-images", type=click.IntRange(min=16), help="Training pictures of parts.  [default: 10000]")
@click.option("--batch-size", type=click.IntRange(min=2), default=64, show_default=True)
@click.option(
    "--learning-rate", type=click.FloatRange(min=0, min_open=True), default=3e-3, show_default=True, help="Peak."
)
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
    learning_rate: float,
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

    from edgec.pipeline.augment import ANY_SIDE_UP, Augment
    from edgec.pipeline.cli._progress import progress_bar
    from edgec.pipeline.models.spec import NetworkConfig
    from edgec.pipeline.progress import reporter
    from edgec.pipeline.store import default_root
    from edgec.pipeline.train import TrainingRecipe
    from edgec.pipeline.train_weights import train_weights
    from edgec.pipeline.training_data import folder_data, parts_data

    if threads is not None:
        torch.set_num_threads(threads)
    recipe = TrainingRecipe(
        phases=phases_of(px, epochs),
        batch_size=batch_size,
        learning_rate=learning_rate,
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
        config = NetworkConfig(model, width_multiplier=width_multiplier, input_px=px[-1], num_classes=sets.num_classes)
        card = train_weights(config, sets, recipe, output, resume, reporter("train"), show_epoch)
    click.echo(f"{output}: top-1 {card.accuracy} % ({card.source})")


def phases_of(px: tuple[int, ...], epochs: tuple[int, ...]) -> tuple[Phase, ...]:
    """Pair the two lists; lists of different lengths are a usage error."""
    from edgec.pipeline.train import Phase

    if len(px) != len(epochs):
        raise click.BadParameter(f"{len(epochs)} numbers of epochs for {len(px)} picture sizes", param_hint="--epochs")
    return tuple(Phase(size, count) for size, count in zip(px, epochs, strict=True))


def show_epoch(epoch: Epoch) -> None:
    """One line per epoch, on standard error."""
    click.echo(
        f"epoch {epoch.number:3}  {epoch.px} px  loss {epoch.loss:.4f}  validation top-1 {epoch.top1:.2f} %", err=True
    )
