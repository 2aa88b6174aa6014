"""``edgec cache``: what the store keeps."""

from __future__ import annotations

import click


@click.group()
def command() -> None:
    """Show or clear the store of finished stages."""


@command.command()
def path() -> None:
    """Print the store's folder."""
    from edgec.pipeline.core.store import default_root

    click.echo(default_root())


@command.command(name="list")
def list_entries() -> None:
    """List finished stages, largest last."""
    from edgec.pipeline.core.store import Store, default_root

    sizes = [
        (
            sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()),
            record["stage"],
            record["seconds"],
            folder.name,
        )
        for record, folder in Store(default_root()).entries()
    ]
    for size, stage, seconds, key in sorted(sizes):
        click.echo(f"{size / 1e6:9.1f} MB  {seconds:7.1f} s  {stage:<12} {key[:16]}")
    click.echo(f"{sum(size for size, *_ in sizes) / 1e6:9.1f} MB in {len(sizes)} results under {default_root()}")


@command.command()
def clear() -> None:
    """Delete every finished stage and every leftover."""
    from edgec.pipeline.core.store import Store, default_root

    click.echo(f"deleted {Store(default_root()).clear()} results")
