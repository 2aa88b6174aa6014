"""``edgec cache``: what the store keeps."""

from __future__ import annotations

import click

from edgec.pipeline.cli._progress import tell


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

    store = Store(default_root())
    sizes = [
        (
            sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()),
            record["stage"],
            record["seconds"],
            folder.name,
        )
        for record, folder in store.entries()
    ]
    for size, stage, seconds, key in sorted(sizes):
        click.echo(f"{size / 1e6:9.1f} MB  {seconds:7.1f} s  {stage:<12} {key[:16]}")
    click.echo(f"{sum(size for size, *_ in sizes) / 1e6:9.1f} MB in {len(sizes)} results under {default_root()}")


@command.command()
@click.option("--repair", is_flag=True, help="Delete what is damaged, and nothing else.")
def verify(repair: bool) -> None:
    """Read every finished stage and name those that are not what was recorded."""
    from edgec.pipeline.core.errors import EdgecError
    from edgec.pipeline.core.store import Store, default_root

    store = Store(default_root())
    damaged = []
    for folder, why in store.damaged():
        click.echo(f"{folder}: {why}")
        damaged.append(folder)
    if not damaged:
        click.echo(f"every result under {default_root()} is what was recorded")
    elif repair:
        click.echo(f"deleted {store.drop(damaged, _say_waiting)} results")
    else:
        message = f"{len(damaged)} results are not what was recorded"
        raise EdgecError("corrupt-artifact", message, "delete them with 'edgec cache verify --repair'; check the disk")


@command.command()
def clear() -> None:
    """Delete every finished stage and every leftover, once no build uses them."""
    from edgec.pipeline.core.store import Store, default_root

    click.echo(f"deleted {Store(default_root()).clear(_say_waiting)} results")


def _say_waiting() -> None:
    tell("waiting for a build that uses the store")
