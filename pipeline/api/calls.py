"""What every function does around its job: check its arguments, report progress, name what the disk refuses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import click

from edgec.pipeline.core.disk import environment_error
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.progress import Listener, StageListener, listening

HELD = ("data", "calibration_data", "test_data")
"""Options whose arguments may lie in memory, and are no values to convert."""


def checked(command: click.Command, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The options among a function's arguments as the command line would take them: converted and bounded.

    Args:
        command: whose options they are, by their names.
        arguments: ``locals()`` of a function that has done nothing yet; None stands for an option that is left away.

    Raises:
        EdgecError: ``bad-argument`` names the argument.
    """
    options = {option.name: option for option in command.params if isinstance(option, click.Option)}
    return {
        name: value if value is None else _taken(options[name], name, value)
        for name, value in arguments.items()
        if name in options and name not in HELD
    }


def _taken(option: click.Option, name: str, value: Any) -> Any:
    return tuple(_converted(option, name, one) for one in value) if option.multiple else _converted(option, name, value)


def _converted(option: click.Option, name: str, value: Any) -> Any:
    if isinstance(value, list | tuple):
        raise bad_argument(f"{name} is {value!r}, expected one value", "call it once for each")
    asked = str(value) if isinstance(option.type, click.Choice | click.types.StringParamType) else value
    try:
        found = option.type.convert(asked, option, None)
    except click.BadParameter as error:
        raise bad_argument(f"{name} is {value!r}: {error.message}") from error
    except TypeError as error:
        raise bad_argument(f"{name} is {value!r}: {error}") from error
    if isinstance(found, int | float) and found != value:
        raise bad_argument(f"{name} is {value!r}, expected a whole number")
    return found


def _stages(progress: Listener) -> StageListener:
    def begins(stage: str, is_found: bool) -> None:
        if not is_found:
            progress(stage, 0, 0)

    return begins


def bad_argument(message: str, hint: str = "see docs/python.md") -> EdgecError:
    """The refusal of a value that a function of the API cannot take."""
    return EdgecError("bad-argument", message, hint)


@contextmanager
def call(progress: Listener | None = None) -> Iterator[None]:
    """Around a job: ``progress`` hears how far it is, and what the file system refuses is one of edgec's errors.

    Args:
        progress: of a stage that begins it hears (stage, 0, 0), of a long step (step, done, total).

    Raises:
        EdgecError: ``disk-full``, ``no-permission``, ``bad-path``, where the job met them unnamed.
    """
    try:
        with listening(progress, _stages(progress)) if progress else nullcontext():
            yield
    except OSError as error:
        named = environment_error(error)
        if named is None:
            raise
        raise named from error
