"""``edgec.toml`` in the working folder, or ``[tool.edgec]`` in ``pyproject.toml``: options that a project repeats.

Click does the rest: what the file states is a command's ``default_map``, so that the command line wins over the
environment, the environment over the file, and the file over defaults. ``docs/config.md`` is the page for users.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import click
from click.types import FloatParamType, IntParamType

from edgec.pipeline.cli._options import NamedPath, NameOrFile, OneOrOther
from edgec.pipeline.cli._progress import add_verbosity
from edgec.pipeline.core.errors import EdgecError, nearest_hint
from edgec.pipeline.core.toml_file import key_lines, read_toml

FILE, PYPROJECT, TABLE = Path("edgec.toml"), Path("pyproject.toml"), "tool.edgec"
META = "edgec.config"  # where click's contexts keep it
ENVIRONMENT = "EDGEC"
CACHES = {"cache": "EDGEC_CACHE", "shared-cache": "EDGEC_SHARED_CACHE"}
"""Where results are kept: keys of a file, and the variables that say the same and go before it."""
CACHES_META = "edgec.caches"  # those of CACHES that the file decides

COMMANDS = tuple(
    sorted(module.name for module in iter_modules([str(Path(__file__).parent)]) if not module.name.startswith("_"))
)

COMMON = (
    *("calibration-data", "calibration-samples", "data", "max-drop-pp", "on", "precision", "quantizer"),
    *("target", "task", "test-data", "threads"),
)
"""Options that may stand outside the tables: every command that has one takes it."""

OWN_TABLE_ONLY = ("check", "models", "train")
"""Commands where such an option means something else, or asks for more work: they read their own tables alone."""


@dataclass(frozen=True)
class Config:
    """One file of options; empty where there is none.

    Attributes:
        path: as given, or found in the working folder.
        stated: its tables and common options, keys as in the file.
        lines: of each dotted key, as far as they can be told.
    """

    path: Path | None = None
    stated: Mapping[str, Any] = field(default_factory=dict)
    lines: Mapping[str, int] = field(default_factory=dict)

    def cache(self, key: str) -> str | None:
        """A place of ``CACHES``: a folder, or an address as it is written."""
        stated = next((value for name, value in self.stated.items() if _key(name) == key), None)
        return stated if stated is None or "://" in stated else self._beside(stated)

    def defaults(self, command: click.Command, *words: str) -> dict[str, Any]:
        """Click's ``default_map`` of a command, its subcommands' within.

        Args:
            words: of the command, which are those of its table.

        Raises:
            EdgecError: ``bad-config``.
        """
        found = {option.name or "": value for option, _, value in self._found(command, words)}
        for name, below in _below(command).items():
            found[name] = self.defaults(below, *words, name)
        return found

    def place(self, command: click.Command, option: click.Parameter, *words: str) -> str:
        """File and line of an option that the file states."""
        places = {stated.name: place for stated, place, _ in self._found(command, words)}
        return self.where(places.get(option.name, ()))

    def where(self, place: Sequence[str]) -> str:
        """``edgec.toml:3``, or the file alone."""
        line = self.lines.get(".".join(map(_key, place)))
        return f"{self.path}:{line}" if line else str(self.path)

    def _found(self, command: click.Command, words: tuple[str, ...]) -> Iterator[tuple[click.Option, Place, Any]]:
        """Each option that the command takes from the file, where it stands, and its value as click takes it."""
        own = {_key(key): ((*words, key), value) for key, value in self._table(words).items()}
        common: dict[str, tuple[Place, Any]] = {}
        if words[0] not in OWN_TABLE_ONLY:
            stated = {_key(key): ((key,), value) for key, value in self.stated.items()}
            common = {key: stated[key] for key in COMMON if key in stated and not own.keys() & _rivals(key)}
        for key, (place, value) in {**common, **own}.items():
            option = _options(command).get(key)
            if option is not None and (_takes_list(option) or not isinstance(value, list)):
                yield option, place, self._checked(command, option, place, value)

    def _table(self, words: tuple[str, ...]) -> Mapping[str, Any]:
        table: Any = self.stated
        for word in words:
            table = table.get(word, {}) if isinstance(table, dict) else {}
        return table if isinstance(table, dict) else {}

    def _checked(self, command: click.Command, option: click.Option, place: Place, value: Any) -> Any:
        """``value`` with its paths beside the file, proven to be one that the option takes."""
        try:
            plain = self._plain(option, value)
            option.process_value(click.Context(command, info_name=command.name), plain)
        except click.UsageError as error:
            message = f"'{self.where(place)}': {'.'.join(place)}: {error.message}"
            raise EdgecError(
                "bad-config", message, "mend the named key, or leave the file out with --no-config"
            ) from error
        return plain

    def _plain(self, option: click.Option, value: Any) -> Any:
        if not isinstance(value, list):
            one = self._one(option, value)
            return [one] if option.multiple else one
        several = [self._one(option, each) for each in value]
        return several if option.multiple else ",".join(map(str, several))

    def _one(self, option: click.Option, value: Any) -> Any:
        if isinstance(option.type, click.Choice) and type(value) is int:
            value = str(value)  # of --output-stride
        if option.callback is not None and option.type is click.STRING and type(value) in (int, float):
            return value  # of a list with commas
        if not isinstance(value, _types(option)) or (isinstance(value, bool) and not option.is_flag):
            raise click.BadParameter(f"expected {_expected(option)}, got {_said(value)}")
        if isinstance(value, str) and isinstance(option.type, NameOrFile | NamedPath):
            return option.type.anchored(value, self._beside)
        return self._beside(value) if isinstance(value, str) and isinstance(option.type, click.Path) else value

    def _beside(self, path: str) -> str:
        """A path of the file is relative to the file; ``~`` is what a shell makes of it."""
        folder, path = self.path.parent if self.path else Path(), os.path.expanduser(path)
        return path if folder == Path() else str(folder / path)


Place = tuple[str, ...]


def read_config(chosen: Path | None) -> Config:
    """The file that was named, or the one of the working folder; every table of it is checked.

    Args:
        chosen: ``edgec.toml`` by any name, or a ``pyproject.toml``.

    Raises:
        EdgecError: ``bad-config`` names the key; ``no-such-file`` where one was named.
    """
    config = _read(chosen)
    _check_spelling(config, (), config.stated)
    for key, value in config.stated.items():
        if key in COMMANDS and isinstance(value, dict):
            _check_table(config, command_of(key), (key,))
        elif _key(key) not in (*COMMON, *CACHES):
            _refuse(config, (key,), (*COMMON, *CACHES, *COMMANDS))
        elif _key(key) in CACHES and not isinstance(value, str):
            message = f"'{config.where((key,))}': {key}: expected text, got {_said(value)}"
            raise EdgecError("bad-config", message, "name the folder of the store")
    return config


def command_of(name: str) -> click.Command:
    """The command of one file, its options with the names of their environment variables."""
    command: click.Command = add_verbosity(import_module(f"{__package__}.{name}").command)
    name_environment(command, name)
    return command


def name_environment(command: click.Command, *words: str) -> None:
    """``EDGEC_BUILD_TARGET`` for ``edgec build --target``, and so on."""
    for key, option in _options(command).items():
        if option.envvar is None:
            option.envvar = "_".join((ENVIRONMENT, *words, key)).replace("-", "_").upper()
    for name, below in _below(command).items():
        name_environment(below, *words, name)


def _read(chosen: Path | None) -> Config:
    if chosen is not None:
        return _of_pyproject(chosen) if chosen.name == PYPROJECT.name else _of_file(chosen)
    found = [_of_file(FILE)] if FILE.is_file() else []
    if PYPROJECT.is_file() and (other := _of_pyproject(PYPROJECT)).stated:
        found.append(other)
    if len(found) > 1:
        message = f"'{FILE}' and [{TABLE}] of '{PYPROJECT}' both state options"
        raise EdgecError("bad-config", message, "keep one of them, or choose with --config FILE")
    return found[0] if found else Config()


def _of_file(path: Path) -> Config:
    return Config(path, read_toml(path, "bad-config"), key_lines(path))


def _of_pyproject(path: Path) -> Config:
    tool = read_toml(path, "bad-config").get("tool", {})
    stated = tool.get("edgec", {}) if isinstance(tool, dict) else {}
    if not isinstance(stated, dict):
        raise EdgecError("bad-config", f"'{path}': {TABLE} is no table", f"write [{TABLE}]")
    within = f"{TABLE}."
    lines = {key.removeprefix(within): line for key, line in key_lines(path).items() if key.startswith(within)}
    return Config(path, stated, lines)


def _check_table(config: Config, command: click.Command, words: tuple[str, ...]) -> None:
    table, options, below = config._table(words), _options(command), _below(command)
    for key, value in table.items():
        if key in below and isinstance(value, dict):
            _check_table(config, below[key], (*words, key))
        elif _key(key) not in options:
            _refuse(config, (*words, key), (*options, *below))
        elif isinstance(value, list) and not _takes_list(options[_key(key)]):
            message = f"'{config.where((*words, key))}': {'.'.join((*words, key))} takes one value, got a list"
            raise EdgecError("bad-config", message, "mend the named key")
    _check_spelling(config, words, table)
    config.defaults(command, *words)


def _check_spelling(config: Config, words: Place, table: Mapping[str, Any]) -> None:
    twice = [key for key in table if _key(key) != key and _key(key) in table]
    if twice:
        message = f"'{config.where((*words, twice[0]))}': {twice[0]} and {_key(twice[0])} are one option"
        raise EdgecError("bad-config", message, "keep one of them")


def _refuse(config: Config, place: Place, known: Sequence[str]) -> None:
    message = f"'{config.where(place)}': no option '{'.'.join(place)}'"
    raise EdgecError("bad-config", message, nearest_hint(_key(place[-1]), known))


def _options(command: click.Command) -> dict[str, click.Option]:
    """By the name that is typed, without its dashes."""
    found = {}
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            found[max(parameter.opts, key=len).lstrip("-")] = parameter
    return found


def _below(command: click.Command) -> dict[str, click.Command]:
    return dict(command.commands) if isinstance(command, click.Group) else {}


def _takes_list(option: click.Option) -> bool:
    """Several values, or one of many parts with commas: a common list leaves other commands alone."""
    return option.multiple or (option.callback is not None and not option.is_flag)


def _key(key: str) -> str:
    return key.replace("_", "-")


def _rivals(key: str) -> set[str]:
    """What puts a common option out where a command's own table states it."""
    return {_key(rival) for rival in OneOrOther.rivals.get(key.replace("-", "_"), ())}


def _types(option: click.Option) -> tuple[type, ...]:
    if option.is_flag:
        return (bool,)
    if isinstance(option.type, FloatParamType):
        return (int, float)
    return (int,) if isinstance(option.type, IntParamType) else (str,)


def _expected(option: click.Option) -> str:
    if isinstance(option.type, click.Choice):
        return "one of " + ", ".join(map(str, option.type.choices))
    return {bool: "true or false", int: "a number", str: "text"}[_types(option)[0]]


def _said(value: Any) -> str:
    kinds = {bool: str(value).lower(), dict: "a table", list: "a list"}
    return kinds.get(type(value), repr(value))
