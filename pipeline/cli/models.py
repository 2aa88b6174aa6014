"""``edgec models``: the networks edgec defines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgec.pipeline.cli._options import NAME_OR_FILE, Finite, json_option


@click.command()
@click.option("--explain", "explained", metavar="MODEL", help="One network layer by layer: a name, or an ONNX file.")
@click.option(
    "--target", "board", type=NAME_OR_FILE, help="With the roofline of this board, where its rates are known."
)
@click.option("--plot", type=click.Path(path_type=Path), help="Draw the layers into this .svg or .png file.")
@click.option("--width-multiplier", type=Finite(min=0.0, min_open=True), help="Factor on every channel.")
@click.option("--input-px", type=click.IntRange(min=32), help="Side of the input image.")
@click.option("--num-classes", type=click.IntRange(min=1), help="Length of the network's answer.")
@click.option("--padding", type=click.Choice(["torch", "tf-same"]), help="Where an odd row of padding goes.")
@click.option("--depth-multiplier", type=click.IntRange(min=1), help="Depthwise filters for each channel.")
@click.option("--output-stride", type=click.Choice(["8", "16"]), help="Of a segmentation network's encoder.")
@click.option("--groups", type=click.IntRange(min=1), help="Of depthwise layers: from 1, plain, up to the channels.")
@click.option("--residual/--no-residual", default=None, help="Shortcuts around modules.")
@click.option(
    "--intermediate-activation",
    type=click.Choice(["none", "relu", "elu"]),
    help="Between depthwise and pointwise.",
)
@json_option
def command(
    explained: str | None,
    board: str | None,
    plot: Path | None,
    as_json: bool,
    output_stride: str | None,
    **network: Any,
) -> None:
    """List the networks: cost, bundled weights, published accuracy. With --explain, one of them layer by layer.

    MACs, parameters and the saving of depthwise separable over plain convolutions are counted at width 1.0 and 1000
    classes; accuracy is what the named paper states for ImageNet.
    """
    chosen = {name: value for name, value in network.items() if value is not None}
    if output_stride is not None:
        chosen["output_stride"] = int(output_stride)
    if explained is not None:
        _explain(explained, board, plot, as_json, chosen)
        return
    if chosen or board or plot:
        raise click.UsageError("the options of a network, --target and --plot go with --explain MODEL")
    _list(as_json)


def _explain(model: str, board: str | None, plot: Path | None, as_json: bool, chosen: dict[str, Any]) -> None:
    from edgec.pipeline import explain_layers
    from edgec.pipeline.core.plots import check_plot
    from edgec.pipeline.network.layers_plot import plot_layers

    if plot is not None:
        check_plot(plot)
    if model.endswith(".onnx"):
        if chosen:
            raise click.UsageError("an ONNX file is as it is: leave the options of a network away")
        found = explain_layers.explain_onnx(Path(model), board)
    else:
        found = explain_layers.explain_model(explain_layers.config_of(model, chosen), board)
    if plot is not None:
        plot_layers(found.layers, f"{found.name} at {found.input_px[0]} x {found.input_px[1]} px", plot, found.roofline)
    if as_json:
        import json

        click.echo(json.dumps(found.as_json(), indent=2))
    else:
        from edgec.pipeline.cli._layers import print_explained

        print_explained(found)


def _list(as_json: bool) -> None:
    import torch

    from edgec.pipeline.network import models

    torch.set_num_threads(1)  # one image at a time: more threads only wait for each other
    rows = [_row(name) for name in models.names()]
    if as_json:
        import json

        click.echo(json.dumps(rows, indent=2))
    else:
        _print_table(rows)


def _print_table(rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    from edgec.pipeline.cli._tables import output_console

    table = Table(box=None, header_style="bold")
    table.add_column("model", no_wrap=True)
    for column in ("px", "MACs M", "params M", "saving", "top-1 %"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("weights")
    known = {row["name"]: row["published_miou" if row["published_top1"] is None else "published_top1"] for row in rows}
    sources = list(dict.fromkeys(row["published_source"] for row in rows if known[row["name"]] is not None))
    for row in rows:
        cost = (f"{row['macs'] / 1e6:,.0f}", f"{row['params'] / 1e6:.2f}", f"{row['separable_saving']:.1f}x")
        percent = known[row["name"]]
        accuracy = "-" if percent is None else f"{percent:.1f} ({1 + sources.index(row['published_source'])})"
        named = ", ".join(name for name in row["weights"] if name != "random")
        table.add_row(row["name"], str(row["input_px"]), *cost, accuracy, named)
    console = output_console()
    console.print(table)
    console.print("saving: MACs with plain convolutions over MACs with depthwise separable ones", style="dim")
    console.print("top-1: as published, ImageNet validation; segmentation: mIoU on VOC 2012", style="dim")
    console.print("weights: every model also takes a file, a card, or 'random'", style="dim")
    for number, source in enumerate(sources, start=1):
        console.print(f"({number}) {source}", style="dim")


def _row(name: str) -> dict[str, Any]:
    from edgec.pipeline.network import models
    from edgec.pipeline.network.models.complexity import count_complexity
    from edgec.pipeline.network.models.spec import NetworkConfig, shape_network
    from edgec.pipeline.network.models.weights import available

    spec = models.get(name)
    cost = count_complexity(shape_network(NetworkConfig(name, num_classes=spec.num_classes)), spec.input_px)
    return {
        "name": name,
        "description": spec.description,
        "paper": spec.paper,
        "input_px": spec.input_px,
        "macs": cost.macs,
        "params": cost.params,
        "plain_macs": cost.plain_macs,
        "separable_saving": round(cost.separable_saving, 2),
        "weights": list(available(spec)),
        "published_top1": spec.published.top1,
        "published_miou": spec.published.miou,
        "published_macs": spec.published.macs,
        "published_params": spec.published.params,
        "published_source": spec.published.source,
    }
