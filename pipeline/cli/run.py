"""``edgec run``: what the artifact says about images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgec.pipeline.cli._options import FOLDER, json_option

if TYPE_CHECKING:
    from edgec.pipeline.bundle.use import Answered

BAR_WIDTH = 30


@click.command()
@click.argument("bundle", type=FOLDER)
@click.argument("images", type=FOLDER, nargs=-1, required=True)
@click.option("--top", type=click.IntRange(min=1), default=5, show_default=True, help="Classes per image.")
@click.option("--output", type=FOLDER, help="Folder for raw tensors and overlays.")
@json_option
def command(bundle: Path, images: tuple[Path, ...], top: int, output: Path | None, as_json: bool) -> None:
    """Ask BUNDLE's artifact about IMAGES, files or folders of them: classes, or tensors by name."""
    import json

    from edgec.pipeline.bundle.use import ask_bundle, images_in, save_tensors

    answered = ask_bundle(bundle, images_in(images), top)
    if output is not None:
        save_tensors(output, answered)
    if as_json:
        click.echo(json.dumps([_plain(one) for one in answered], indent=2))
        return
    for one in answered:
        click.echo(one.image)
        for name, share in one.reply.lines:
            bar = "█" * round(share * BAR_WIDTH)
            click.echo(f"  {100 * share:6.2f} % {bar:<{BAR_WIDTH}} {name}")
        for name, values in one.reply.tensors.items():
            if name in one.reply.pictures:
                continue
            shape = " x ".join(map(str, values.shape))
            click.echo(f"  {name}: {shape}, {values.min():.6g} to {values.max():.6g}, mean {values.mean():.6g}")


def _plain(one: Answered) -> dict[str, Any]:
    """As JSON data; tensors as nested lists."""
    classes, shares = ([line[i] for line in one.reply.lines] for i in (0, 1))
    found = {"image": str(one.image), "classes": classes, "probabilities": shares}
    return found | {"tensors": {name: values.tolist() for name, values in one.reply.tensors.items()}}
