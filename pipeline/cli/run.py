"""``edgec run``: what the artifact says about images."""

from __future__ import annotations

from pathlib import Path

import click

from edgec.pipeline.cli._options import FOLDER, json_option

BAR_WIDTH = 30


@click.command()
@click.argument("bundle", type=FOLDER)
@click.argument("images", type=FOLDER, nargs=-1, required=True)
@click.option("--top", type=click.IntRange(min=1), default=5, show_default=True, help="Classes per image.")
@json_option
def command(bundle: Path, images: tuple[Path, ...], top: int, as_json: bool) -> None:
    """Classify IMAGES with BUNDLE's artifact."""
    import json
    from dataclasses import asdict

    from edgec.pipeline.use_bundle import classify

    answers = classify(bundle, images, top)
    if as_json:
        click.echo(json.dumps([asdict(answer) | {"image": str(answer.image)} for answer in answers], indent=2))
        return
    for answer in answers:
        click.echo(answer.image)
        for name, probability in zip(answer.classes, answer.probabilities, strict=True):
            bar = "█" * round(probability * BAR_WIDTH)
            click.echo(f"  {100 * probability:6.2f} % {bar:<{BAR_WIDTH}} {name}")
