"""``edgec sensitivity``: the layers of a network that quantize worst."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgec.pipeline.cli._options import FOLDER, NAME_OR_FILE, choices_of, json_option, network_options


@click.command()
@network_options
@click.option(
    "--scheme",
    required=True,
    type=NAME_OR_FILE,
    help="Integer semantics: openvino, tflite, tflite-native or tensorrt.",
)
@click.option("--data", type=FOLDER, help="Images to calibrate with; the bundled ones of a bundled network.")
@click.option(
    "--calibration-samples", type=click.IntRange(min=1), default=256, show_default=True, help="At most this many."
)
@click.option("--top", type=click.IntRange(min=1), default=20, show_default=True, help="Rows of the table.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw the same rows into this .svg or .png file.")
@click.option("--chaos", is_flag=True, help="Also say how far the quantized network is from itself.")
@json_option
def command(
    model: str,
    scheme: str,
    data: Path | None,
    calibration_samples: int,
    top: int,
    plot: Path | None,
    chaos: bool,
    as_json: bool,
    **choices: Any,
) -> None:
    """Rank the layers of MODEL (a name, an ONNX file or a model.toml) by the noise that each brings to the output."""
    import json
    from dataclasses import asdict

    from edgec.pipeline.cli._progress import progress_bar
    from edgec.pipeline.core.plots import check_plot
    from edgec.pipeline.core.root import default_root
    from edgec.pipeline.core.store import Store
    from edgec.pipeline.quantize import plot as plots
    from edgec.pipeline.quantize_network import chaos as chaos_of
    from edgec.pipeline.quantize_network import rank_layers, scheme_recipe
    from edgec.pipeline.recipe import DataFolders
    from edgec.pipeline.tasks.metrics import finite

    if plot is not None:
        check_plot(plot)
    with progress_bar():
        folders = DataFolders(calibration=data, test=data)
        recipe = scheme_recipe(model, scheme, folders, calibration_samples, choices=choices_of(**choices))
        store = Store(default_root())
        ranked = rank_layers(recipe, store)
        itself = chaos_of(recipe, store) if chaos else None
    if plot is not None:
        plots.plot(ranked, f"{Path(model).stem}, scheme {scheme}", plot, top)
    if as_json:
        layers = [{**asdict(entry.layer), "sqnr_db": finite(entry.sqnr_db)} for entry in ranked]
        click.echo(json.dumps(layers if itself is None else {"layers": layers, "chaos": asdict(itself)}, indent=2))
        return
    from rich.table import Table

    from edgec.pipeline.cli._tables import output_console

    table = Table("layer", "operator", "quantized", "output SQNR dB", box=None, header_style="bold")
    for entry in ranked[:top]:
        parts = " + ".join(
            part for part, name in (("weight", entry.layer.weight), ("tensor", entry.layer.tensor)) if name
        )
        shown = "exact" if finite(entry.sqnr_db) is None else f"{entry.sqnr_db:.1f}"
        table.add_row(entry.layer.name, entry.layer.op, parts, shown)
    output_console().print(table)
    if itself is not None:
        click.echo(itself.words())
