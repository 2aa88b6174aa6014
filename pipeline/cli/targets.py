"""``edgec targets``: the boards edgec knows."""

from __future__ import annotations

import click

from edgec.pipeline.cli._options import json_option


@click.command()
@json_option
def command(as_json: bool) -> None:
    """List the boards: compiler, integer semantics, memory."""
    from edgec.pipeline.forms.spec import load_target, names

    specs = [load_target(name) for name in names()]
    if as_json:
        import json

        from edgec.pipeline.core.stage import plain

        click.echo(json.dumps([plain(spec) for spec in specs], indent=2))
        return
    from rich.markup import escape
    from rich.table import Table

    from edgec.pipeline.cli._tables import output_console

    table = Table(box=None, header_style="bold")
    for column in ("target", "compiler", "scheme"):
        table.add_column(column, no_wrap=True)
    for column in ("RAM", "flash"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("description")
    for spec in specs:
        sizes = (spec.device.ram_bytes, spec.device.flash_bytes)
        ram, flash = (_size(size) if size else "" for size in sizes)
        table.add_row(spec.name, spec.compiler, spec.scheme.name, ram, flash, escape(spec.description))
    output_console().print(table)


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:,.0f} GiB" if num_bytes >= 2**30 else f"{num_bytes / 2**10:,.0f} KiB"
