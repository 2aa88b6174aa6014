"""What a command says on standard error while it works: a bar in a terminal, a line for each stage elsewhere.

Every command has ``--quiet`` (nothing but errors) and ``--verbose`` (also the stages whose results were found).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import click

from edgec.pipeline.core.errors import printable
from edgec.pipeline.core.progress import listening

_QUIET, _VERBOSE = "edgec.quiet", "edgec.verbose"


def add_verbosity(command: click.Command) -> click.Command:
    """Give ``command``, or each command of a group, ``--quiet`` and ``--verbose``; once, however often it is asked."""
    if isinstance(command, click.Group):
        for part in command.commands.values():
            add_verbosity(part)
    elif not any(parameter.name == "quiet" for parameter in command.params):
        command.params.append(_flag("-q", "--quiet", _QUIET, "Say nothing on standard error but errors."))
        command.params.append(_flag("-v", "--verbose", _VERBOSE, "Also name stages whose results were found."))
    return command


def _flag(short: str, name: str, key: str, words: str) -> click.Option:
    def keep(context: click.Context, _parameter: click.Parameter, given: bool) -> None:
        context.meta[key] = given
        if context.meta.get(_QUIET) and context.meta.get(_VERBOSE):
            raise click.UsageError("--quiet and --verbose exclude each other", context)

    return click.Option([short, name], is_flag=True, expose_value=False, callback=keep, help=words)


def _asked(key: str) -> bool:
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get(key))


def tell(words: str) -> None:
    """One line on standard error, unless the user wants none."""
    if not _asked(_QUIET):
        click.echo(printable(words), err=True)


@contextmanager
def progress_bar() -> Iterator[None]:
    """Show what the stages inside the block are at."""
    shown: AbstractContextManager[None] = nullcontext()
    if not _asked(_QUIET):
        shown = _bar(_asked(_VERBOSE)) if sys.stderr.isatty() else _lines(_asked(_VERBOSE))
    with shown:
        yield


@contextmanager
def _lines(verbose: bool) -> Iterator[None]:
    """A line for each stage that runs, as it begins; counts and remaining time are for terminals."""
    started = time.monotonic()

    def on_stage(stage: str, is_found: bool) -> None:
        if verbose or not is_found:
            tell(f"{time.monotonic() - started:6.1f} s  {stage}{': found in the store' if is_found else ''}")

    with listening(lambda _step, _done, _total: None, on_stage, tell):
        yield


@contextmanager
def _bar(verbose: bool) -> Iterator[None]:
    """The stage at hand, alive from the first moment, and below it the steps that count."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeRemainingColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description:<12}"),
        BarColumn(),
        TextColumn("{task.fields[count]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        at_hand = bar.add_task("starting", total=None, count="")
        steps: dict[str, TaskID] = {}

        def on_stage(stage: str, is_found: bool) -> None:
            if not is_found:
                bar.update(at_hand, description=stage)
            elif verbose:
                bar.print(f"{stage}: found in the store", highlight=False, markup=False)

        def listener(step: str, done: int, total: int) -> None:
            if step not in steps:
                steps[step] = bar.add_task(step, total=total, count="")
            bar.update(steps[step], completed=done, total=total, count=f"{done}/{total}")

        def on_remark(words: str) -> None:
            bar.print(printable(words), highlight=False, markup=False)

        with listening(listener, on_stage, on_remark):
            yield
