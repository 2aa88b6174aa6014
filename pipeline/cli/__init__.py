"""The command line: the only place that prints and the only place that catches ``EdgecError``.

One file per command; the file's name is the command's. A command imports what it needs inside its function, so that
``edgec --help`` loads neither torch nor onnx.
"""

from __future__ import annotations

import json
import os
import sys
from functools import partial
from io import TextIOWrapper
from pathlib import Path

import click

from edgec.pipeline.cli._config import CACHES, CACHES_META, META, Config, command_of, read_config
from edgec.pipeline.cli._config import COMMANDS as COMMANDS
from edgec.pipeline.cli._ending import KEPT, end_cleanly
from edgec.pipeline.cli._options import FOLDER
from edgec.pipeline.cli._report import check_surroundings, translated
from edgec.pipeline.core.errors import EdgecError, printable


class _CommandFiles(click.Group):
    """A group whose commands are the files beside this one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command, config = command_of(cmd_name), ctx.meta.get(META, Config())
        ctx.default_map = {cmd_name: config.defaults(command, cmd_name)}
        return command


def _configure(context: click.Context, _parameter: click.Parameter, chosen: Path | None) -> Path | None:
    """What the file states becomes what options default to, and the store's place."""
    if context.resilient_parsing:  # completing a word
        return chosen
    left_out = context.params.get("no_config", False)
    if left_out and chosen:
        raise click.UsageError("--config and --no-config exclude each other")
    config = Config() if left_out else read_config(chosen)
    context.meta[META] = config
    stated = {key: config.cache(key) for key, variable in CACHES.items() if not os.environ.get(variable)}
    context.meta[CACHES_META] = {key for key, place in stated.items() if place is not None}
    for key in context.meta[CACHES_META]:  # processes that this one starts share the store
        os.environ[CACHES[key]] = str(stated[key])
        context.call_on_close(partial(os.environ.pop, CACHES[key], None))
    return chosen


@click.group(cls=_CommandFiles, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="edgec")
@click.option("--no-config", is_flag=True, is_eager=True, help="Read no file of options.")
@click.option(
    "--config",
    type=FOLDER,
    is_eager=True,
    callback=_configure,
    expose_value=False,
    help="Options; ./edgec.toml, or [tool.edgec] of ./pyproject.toml by default.",
)
def group(no_config: bool) -> None:
    """Compile small CNNs to measured INT8 artifacts for edge devices."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; with ``--json`` a refusal is ``{"error": {code, message, hint}}`` on standard output as well.

    Exit status: 0 done, 1 refused, 2 usage, 3 over a budget, 4 inconclusive; 130 interrupted, 143
    ended by SIGTERM or SIGHUP.

    Args:
        arguments: for a caller in this process, which keeps its signals; None for the process's own.
    """
    if arguments is None:
        end_cleanly()
        os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "1")  # to look for some, pydantic reads all distributions
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # a name that the locale cannot say is no reason to stop
    given = sys.argv[1:] if arguments is None else arguments
    try:
        return _run(given)
    except EdgecError as error:
        click.echo(printable(str(error)), err=True)
        _in_json(given, error.code, error.message, error.hint)
        return 1
    except click.ClickException as error:
        error.show()
        asked = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "edgec"
        _in_json(given, "usage", error.format_message(), f"see '{asked} --help'")
        return error.exit_code
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except KeyboardInterrupt:
        click.echo(f"interrupted; {KEPT}", err=True)
        return 130


def _in_json(arguments: list[str], code: str, message: str, hint: str) -> None:
    """Looked for among the words: those of a command line that is not understood ask for it too."""
    if "--json" in arguments:
        click.echo(json.dumps({"error": {"code": code, "message": message, "hint": hint}}, indent=2))


def _run(arguments: list[str]) -> int:
    """The one place that turns what is no ``EdgecError`` into one: ``internal``, which is our bug."""
    try:
        check_surroundings(arguments)
        status = group.main(arguments, prog_name="edgec", standalone_mode=False)
        return status if isinstance(status, int) else 0
    except click.Abort as error:
        cause = error.__cause__ or error.__context__
        if isinstance(cause, EOFError):  # click takes any for the end of a user's typing; edgec asks nothing
            raise translated(cause, arguments) from cause
        raise KeyboardInterrupt from error
    except (EdgecError, click.ClickException, BrokenPipeError):
        raise
    except Exception as error:
        raise translated(error, arguments) from error
