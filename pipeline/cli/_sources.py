"""Where each value of a command comes from: the command line, the environment, a file of options, or the default."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click
from click.core import ParameterSource

from edgec.pipeline.cli._config import CACHES, CACHES_META, META, Config

Origin = Literal["command line", "environment", "file", "default", "board"]


@dataclass(frozen=True)
class Source:
    """One value.

    Attributes:
        name: of the option as it is typed, or of what a board states.
        value: as JSON data; None where there is none.
        where: the environment's variable, or file and line.
    """

    name: str
    value: Any
    source: Origin
    where: str | None = None


def explained(root: click.Context, words: tuple[str, ...]) -> tuple[click.Context, tuple[str, ...]]:
    """A command line as it would be parsed, nothing run, and the command's words.

    Args:
        root: context of edgec itself, with its file of options.

    Raises:
        click.UsageError: as the command itself.
    """
    context, rest = root, list(words)
    names: tuple[str, ...] = ()
    command = root.command
    while isinstance(command, click.Group):
        if not rest:
            raise click.UsageError(f"expected a command of '{' '.join(names)}'")
        name, found, rest = command.resolve_command(context, rest)
        if found is None or name is None:
            raise click.UsageError(f"no command '{' '.join((*names, *rest[:1]))}'")
        command, names = found, (*names, name)
        if isinstance(command, click.Group):
            context = click.Context(command, parent=context, info_name=name)
        else:
            context = command.make_context(name, rest, parent=context)
    return context, names


def sources(context: click.Context, words: tuple[str, ...]) -> list[Source]:
    """Every argument and option of a parsed command line, and the store's place."""
    config: Config = context.meta.get(META, Config())
    rows = [
        _source(context, parameter, config, words) for parameter in context.command.params if parameter.expose_value
    ]
    return [*rows, *_caches(context, config)]


def board_facts(context: click.Context) -> list[Source]:
    """What the named boards decide, with file and line.

    Raises:
        EdgecError: as ``load_target``.
    """
    from edgec.pipeline.core.toml_file import key_lines
    from edgec.pipeline.forms.spec import load_target, stated_in

    named = context.params.get("targets") or context.params.get("target") or ()
    found = []
    for name in (named,) if isinstance(named, str) else named:
        target, files = load_target(name), stated_in(name)
        facts = {
            "compiler": target.compiler,
            "scheme": target.scheme.name,
            "precision": target.precision,
            "device.ram_bytes": target.device.ram_bytes,
            "device.flash_bytes": target.device.flash_bytes,
        }
        for fact, value in facts.items():
            words, file = f"{target.name}: {fact}", files.get(fact.partition(".")[0])
            if file is not None and value is not None:
                line = key_lines(file).get(fact.replace("_", "-"))
                found.append(Source(words, value, "board", f"{file}:{line}" if line else str(file)))
            elif value is not None:
                found.append(Source(words, value, "default"))
    return found


def _source(context: click.Context, parameter: click.Parameter, config: Config, words: tuple[str, ...]) -> Source:
    name = max(parameter.opts, key=len) if isinstance(parameter, click.Option) else parameter.human_readable_name
    value, source = _plain(context.params[parameter.name or ""]), context.get_parameter_source(parameter.name or "")
    if source is ParameterSource.ENVIRONMENT:
        return Source(name, value, "environment", str(parameter.envvar))
    if source is ParameterSource.DEFAULT_MAP:
        return Source(name, value, "file", config.place(context.command, parameter, *words))
    return Source(name, value, "command line" if source is ParameterSource.COMMANDLINE else "default")


def _caches(context: click.Context, config: Config) -> Iterator[Source]:
    """Where results are kept, and whose word that is."""
    from edgec.pipeline.core.root import default_root

    found = {"cache": str(default_root()), "shared-cache": os.environ.get(CACHES["shared-cache"])}
    for key, variable in CACHES.items():
        if key in context.meta.get(CACHES_META, ()):
            yield Source(key, found[key], "file", config.where((key,)))
        elif os.environ.get(variable):
            yield Source(key, found[key], "environment", variable)
        else:
            yield Source(key, found[key], "default")


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value
