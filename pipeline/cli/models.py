"""``edgec models``: the networks edgec defines."""

from __future__ import annotations

from typing import Any

import click

from edgec.pipeline.cli._options import json_option


@click.command()
@json_option
def command(as_json: bool) -> None:
    """List the networks: cost, bundled weights, published accuracy.

    MACs, parameters and the saving of depthwise separable over plain convolutions are counted at width 1.0 and 1000
    classes; accuracy is what the named paper states for ImageNet.
    """
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
    from rich.console import Console
    from rich.table import Table

    from edgec.pipeline.cli._tables import print_table

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
    console = Console(highlight=False)
    print_table(table, console)
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
