"""``edgec matrix``: models x targets x precisions x data, one table."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgec.pipeline.cli._config import META, Config, command_of
from edgec.pipeline.cli._options import FOLDER, json_option
from edgec.pipeline.cli.build import OVER_A_LIMIT, REFUSED, worst

if TYPE_CHECKING:
    from edgec.pipeline.matrix.table import Row

PROGRAM = ("-m", "edgec.pipeline.cli._cell")
LOG, TABLE = "matrix.json", "matrix.md"
NOT_OF_A_CELL = ("targets", "output", "as_json", "no_measure", "quiet", "verbose")


@click.command()
@click.argument("file", type=FOLDER, metavar="FILE.toml")
@click.option("--output", type=FOLDER, help="Folder of all bundles and the table; ./edgec-out/FILE by default.")
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    help="Cells at a time, each in a process of its own; latency is measured one by one all the same.  "
    "[default: 1; with --scheduler as many as workers]",
)
@click.option(
    "--scheduler",
    metavar="local|ADDRESS",
    help="Run the stages on a Dask cluster, tcp://HOST:PORT, or on processes of this machine that this command starts.",
)
@click.option(
    "--retries",
    type=click.IntRange(min=0),
    default=2,
    show_default=True,
    help="Further tries where a network or a device failed.",
)
@json_option
@click.pass_context
def command(
    context: click.Context,
    file: Path,
    output: Path | None,
    jobs: int | None,
    scheduler: str | None,
    retries: int,
    as_json: bool,
) -> int:
    """Build every cell of FILE.toml: models x targets x precisions x data, one calibration for all, one table.

    A cell whose bundle is there already, whole and of the same request, is not built again; one that is refused does
    not stop the others. The exit status is that of the worst cell.
    """
    from edgec.pipeline.cli._progress import progress_bar, tell
    from edgec.pipeline.core.errors import printable
    from edgec.pipeline.matrix.cluster import cluster_of
    from edgec.pipeline.matrix.plan import read_matrix
    from edgec.pipeline.matrix.run import Plan, WorkApart, run, work_here
    from edgec.pipeline.matrix.table import row_of, waiting_row

    cells = read_matrix(file, _base(context.meta.get(META, Config())))
    folder = (output or Path("edgec-out") / file.stem).absolute()
    rows = {cell.name: waiting_row(cell) for cell in cells}
    _check_replaceable(folder / LOG)
    _write(folder, file.name, rows)

    def say(words: str) -> None:
        with context.scope(cleanup=False):  # in a thread too, where click knows no --quiet otherwise
            tell(words)

    with ExitStack() as cluster, progress_bar():
        address, usual = None, 1
        if scheduler:
            address, usual = cluster.enter_context(cluster_of(scheduler, jobs or os.cpu_count() or 1))
        jobs = jobs or max(usual, 1)
        apart = jobs > 1 or address is not None
        plan = Plan(folder, jobs, retries, WorkApart(PROGRAM, address) if apart else work_here, say)
        for number, outcome in enumerate(run(cells, plan), 1):
            row = rows[outcome.cell.name] = row_of(outcome)
            _write(folder, file.name, rows)
            said = f"{row.verdict}, kept" if row.is_kept else f"{row.verdict} in {row.seconds:.1f} s"
            said = f"{row.verdict}: {row.error['message']}" if row.error else said
            tell(printable(f"[{number}/{len(cells)}] {row.cell}: {said}"))
    if as_json:
        click.echo((folder / LOG).read_text(encoding="utf-8"), nl=False)
    else:
        _show(folder, list(rows.values()))
    return worst(_status(row) for row in rows.values())


def _base(config: Config) -> dict[str, Any]:
    """What a file of options says of ``edgec build``, by the names of a matrix's options."""
    stated = config.defaults(command_of("build"), "build")
    found = {name: value for name, value in stated.items() if name not in NOT_OF_A_CELL}
    return {**found, "measure": not stated["no_measure"]} if "no_measure" in stated else found


def _check_replaceable(log: Path) -> None:
    from edgec.pipeline.core.errors import EdgecError
    from edgec.pipeline.matrix.table import SCHEMA

    if log.exists() and not (log.is_file() and SCHEMA in log.read_text(encoding="utf-8", errors="replace")):
        message = f"'{log}' exists, and edgec did not write it"
        raise EdgecError("output-exists", message, "choose another --output, or remove it")


def _write(folder: Path, name: str, rows: Mapping[str, Row]) -> None:
    """Both tables, each whole or as before."""
    from edgec.pipeline.bundle.folder import output_named
    from edgec.pipeline.core.disk import write_whole
    from edgec.pipeline.matrix.table import as_json, as_markdown

    listed = list(rows.values())
    log = json.dumps(as_json(name, listed), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    for path, text in ((folder / LOG, log), (folder / TABLE, as_markdown(name, listed))):
        with output_named(path):
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(path, partial(Path.write_text, data=text, encoding="utf-8", newline="\n"))


def _show(folder: Path, rows: list[Row]) -> None:
    from rich.markup import escape
    from rich.table import Table

    from edgec.pipeline.cli._tables import output_console
    from edgec.pipeline.core.errors import printable
    from edgec.pipeline.matrix.table import COLUMNS

    table = Table(*COLUMNS, box=None)
    for row in rows:
        table.add_row(*(escape(printable(text)) for text in row.cells))
    output_console().print(table)
    for row in rows:
        if row.error:
            click.echo(printable(f"{row.cell}: error[{row.error['code']}]: {row.error['message']}"))
            click.echo(printable(f"hint: {row.error['hint']}"))
    click.echo(f"table: {folder / TABLE}, {folder / LOG}")


def _status(row: Row) -> int:
    from edgec.pipeline.matrix.table import OVER

    if row.error:
        return REFUSED
    return OVER_A_LIMIT if row.verdict == OVER else 0
