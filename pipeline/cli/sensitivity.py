"""``edgec sensitivity``: the layers of a network that quantize worst."""

from __future__ import annotations

from pathlib import Path

import click

from edgec.pipeline.cli._options import FOLDER, json_option


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--scheme", required=True, help="Integer semantics: openvino, tflite, tflite-native or tensorrt.")
@click.option("--data", type=FOLDER, required=True, help="Images to calibrate with.")
@click.option(
    "--calibration-samples", type=click.IntRange(min=1), default=256, show_default=True, help="At most this many."
)
@click.option("--top", type=click.IntRange(min=1), default=20, show_default=True, help="Rows of the table.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw the same rows into this .svg or .png file.")
@json_option
def command(
    model: Path, scheme: str, data: Path, calibration_samples: int, top: int, plot: Path | None, as_json: bool
) -> None:
    """Rank the layers of MODEL, a float ONNX file or a model.toml, by the noise that each brings to the output."""
    import json
    from dataclasses import asdict

    from edgec.pipeline import sensitivity_file
    from edgec.pipeline.cli._progress import progress_bar
    from edgec.pipeline.core.store import Store, default_root

    if plot is not None:
        sensitivity_file.check_can_plot()
    with progress_bar():
        ranked = sensitivity_file.sensitivity_file(model, scheme, data, Store(default_root()), calibration_samples)
    if plot is not None:
        sensitivity_file.plot(ranked, f"{model.stem}, scheme {scheme}", plot, top)
    if as_json:
        click.echo(json.dumps([{**asdict(entry.layer), "sqnr_db": entry.sqnr_db} for entry in ranked], indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("layer", "operator", "quantized", "output SQNR dB", box=None, header_style="bold")
    for entry in ranked[:top]:
        parts = " + ".join(
            part for part, name in (("weight", entry.layer.weight), ("tensor", entry.layer.tensor)) if name
        )
        table.add_row(entry.layer.name, entry.layer.op, parts, f"{entry.sqnr_db:.1f}")
    Console(highlight=False).print(table)
