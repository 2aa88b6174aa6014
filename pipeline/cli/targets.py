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

        from edgec.pipeline.core.store import plain

        click.echo(json.dumps([plain(spec) for spec in specs], indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("target", "compiler", "scheme", "RAM", "flash", "description", box=None, header_style="bold")
    for spec in specs:
        sizes = (spec.device.ram_bytes, spec.device.flash_bytes)
        ram, flash = (f"{size / 1024:,.0f} KiB" if size else "" for size in sizes)
        table.add_row(spec.name, spec.compiler, spec.scheme.name, ram, flash, spec.description)
    Console().print(table)
