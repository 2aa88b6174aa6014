"""``edgec cache``: what the store keeps, on this machine and where machines share one."""

from __future__ import annotations

import re
from typing import Any

import click
from click.types import StringParamType

from edgec.pipeline.cli._progress import tell

SIZE = re.compile(r"\s*\d*\.?\d+\s*[a-z]*\s*", re.ASCII | re.IGNORECASE)
SHARED = click.option("--shared", is_flag=True, help="The shared cache, not this machine's store.")


class Bytes(StringParamType):
    """``500MB``, ``20 GiB``, or a number of bytes."""

    name = "size"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        """Bytes."""
        from pydantic import ByteSize, NonNegativeInt, TypeAdapter

        try:
            if not SIZE.fullmatch(str(value)):  # pydantic would take 500,5GB for 500 bytes
                raise ValueError(value)
            return int(TypeAdapter(NonNegativeInt).validate_python(int(TypeAdapter(ByteSize).validate_python(value))))
        except ValueError:
            self.fail(f"'{value}' is no size such as 500MB or 20GiB", parameter, context)


@click.group()
def command() -> None:
    """Show, check, bound or clear the store of finished stages."""


@command.command()
@SHARED
def path(shared: bool) -> None:
    """Print the store's folder, or the shared cache's address."""
    from edgec.pipeline.core.root import default_root
    from edgec.pipeline.core.shared import named_shared

    click.echo(named_shared().url if shared else default_root())


@command.command(name="list")
@SHARED
def list_entries(shared: bool) -> None:
    """List finished stages, largest last."""
    from edgec.pipeline.core.root import default_root
    from edgec.pipeline.core.shared import named_shared
    from edgec.pipeline.core.store import Store
    from edgec.pipeline.core.trim import size_bytes
    from edgec.pipeline.core.words import size_words

    if shared:
        where = named_shared()
        rows = sorted((one.size_bytes, one.key) for one in where.objects())
        for size, key in rows:
            click.echo(f"{size_words(size):>12}  {key[:16]}")
        click.echo(f"{size_words(sum(size for size, _ in rows)):>12} in {len(rows)} results at {where.url}")
        return
    store = Store(default_root())
    sizes = [
        (size_bytes(folder), record["stage"], record["seconds"], folder.name) for record, folder in store.entries()
    ]
    for size, stage, seconds, key in sorted(sizes):
        click.echo(f"{size_words(size):>12}  {seconds:7.1f} s  {stage:<12} {key[:16]}")
    click.echo(f"{size_words(sum(size for size, *_ in sizes)):>12} in {len(sizes)} results under {default_root()}")


@command.command()
@SHARED
@click.option("--repair", is_flag=True, help="Delete what is damaged, and nothing else.")
def verify(shared: bool, repair: bool) -> None:
    """Read every finished stage and name those that are not what was recorded."""
    from edgec.pipeline.core.errors import EdgecError
    from edgec.pipeline.core.root import default_root
    from edgec.pipeline.core.shared import named_shared
    from edgec.pipeline.core.store import Store
    from edgec.pipeline.core.trim import damaged_objects

    root = default_root()
    store, where = Store(root), named_shared().url if shared else f"{root}"
    found = damaged_objects(named_shared(), root) if shared else store.damaged()
    damaged: list[Any] = []
    for which, why in found:
        click.echo(f"{which}: {why}")
        damaged.append(which)
    if not damaged:
        click.echo(f"every result under {where} is what was recorded")
    elif not repair:
        again = "edgec cache verify --shared --repair" if shared else "edgec cache verify --repair"
        message = f"{len(damaged)} results are not what was recorded"
        raise EdgecError("corrupt-artifact", message, f"delete them with '{again}'; check the disk")
    elif shared:
        named_shared().delete(damaged)
        click.echo(f"deleted {len(damaged)} results")
    else:
        click.echo(f"deleted {store.drop(damaged, _say_waiting)} results")


@command.command()
@SHARED
@click.option("--max-bytes", type=Bytes(), required=True, help="What may stay: 500MB, 20GiB.")
def trim(shared: bool, max_bytes: int) -> None:
    """Delete finished stages, the longest unused first, until the rest is no larger.

    In object stores nobody notes the use: there the oldest go first.
    """
    from edgec.pipeline.core.root import default_root
    from edgec.pipeline.core.shared import named_shared
    from edgec.pipeline.core.store import Store
    from edgec.pipeline.core.trim import beyond, longest_unused
    from edgec.pipeline.core.words import size_words

    if shared:
        where = named_shared()
        sizes = [(one.key, one.size_bytes) for one in where.objects()]
        going = beyond(sizes, max_bytes)
        where.delete(going)
        deleted, gone = len(going), set(going)
        left = sum(size for key, size in sizes if key not in gone)
    else:
        kept = longest_unused(default_root())
        folders = beyond(kept, max_bytes)
        deleted = Store(default_root()).drop(folders, _say_waiting) if folders else 0  # nothing to wait for
        left = sum(size for _, size in kept[len(folders) :])
    click.echo(f"deleted {deleted} results; {size_words(left)} are left")


@command.command()
def clear() -> None:
    """Delete every finished stage of this machine and every leftover, once no build uses them."""
    from edgec.pipeline.core.root import default_root
    from edgec.pipeline.core.store import Store

    click.echo(f"deleted {Store(default_root()).clear(_say_waiting)} results")


def _say_waiting() -> None:
    tell("waiting for a build that uses the store")
