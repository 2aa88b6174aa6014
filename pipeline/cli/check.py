"""``edgec check``: the gate."""

from __future__ import annotations

from pathlib import Path

import click

from edgec.pipeline.cli._options import FOLDER, Finite, NamedPath, on_option

FORMATS = ("text", "json", "junit", "github", "markdown")
EXIT_STATUS = {"pass": 0, "fail": 3, "inconclusive": 4}


@click.command()
@click.argument("bundles", type=FOLDER, nargs=-1, required=True, metavar="BUNDLE...")
@click.option("--budgets", type=FOLDER, default=Path("budgets.toml"), show_default=True, help="Limits.")
@click.option(
    "--baseline",
    "baselines",
    type=NamedPath(alone_is_path=True),
    multiple=True,
    metavar="[NAME=]PATH",
    help="Bundle, folder of bundles, or a JSON report of this machine, for relative limits.",
)
@click.option("--data", type=FOLDER, help="Labelled images: accuracy is evaluated anew.")
@click.option("--device", help="Whose budget counts; this machine by default.")
@on_option
@click.option("--no-device", is_flag=True, help="Judge only what needs no device.")
@click.option("--budget-s", type=Finite(min=1), default=120.0, show_default=True, help="Time per bundle.")
@click.option("--record", is_flag=True, help="Write verdicts and latency into the bundles.")
@click.option(
    "--format",
    "formats",
    type=NamedPath(alone_is_path=False),
    multiple=True,
    metavar="NAME[=FILE]",
    help=f"One of {', '.join(FORMATS)}; to a file, or to standard output. Repeatable.",
)
@click.option("--json", "as_json", is_flag=True, help="Same as --format json.")
def command(
    bundles: tuple[Path, ...],
    budgets: Path,
    baselines: tuple[str, ...],
    data: Path | None,
    device: str | None,
    on: str | None,
    no_device: bool,
    budget_s: float,
    record: bool,
    formats: tuple[str, ...],
    as_json: bool,
) -> int:
    """Hold BUNDLEs against their budgets: pass (exit 0), fail (3), or inconclusive (4), line by line."""
    from edgec.pipeline.cli._progress import progress_bar
    from edgec.pipeline.gate.budgets import load_budgets
    from edgec.pipeline.gate.check import Conditions, check
    from edgec.pipeline.gate.formats import FORMATS as WRITERS
    from edgec.pipeline.gate.keep import check_unsigned, keep
    from edgec.pipeline.report.output import prepare, write_text

    if on and no_device:
        raise click.UsageError("--on and --no-device exclude each other")
    if record:
        check_unsigned(bundles)
    wanted = _formats(formats or (("json",) if as_json else ("text",)))
    for _, file in wanted:
        if file is not None:
            prepare(file)
    conditions = Conditions(dict(_named(text) for text in baselines), data, device, no_device, budget_s, on)
    with progress_bar():
        report = check(bundles, load_budgets(budgets), conditions)
    for folder in bundles if record else ():
        keep(folder, report)
    for name, file in wanted:
        text = WRITERS[name](report)
        if file is None:
            click.echo(text)
        else:
            write_text(file, f"{text}\n")
    return EXIT_STATUS[report.verdict.value]


def _formats(texts: tuple[str, ...]) -> list[tuple[str, Path | None]]:
    """``junit=report.xml`` and the like."""
    wanted: list[tuple[str, Path | None]] = []
    for text in texts:
        name, _, file = text.partition("=")
        if name not in FORMATS:
            raise click.BadParameter(f"'{name}' is not one of {', '.join(FORMATS)}", param_hint="--format")
        wanted.append((name, Path(file) if file else None))
    return wanted


def _named(text: str) -> tuple[str, Path]:
    """``main=folder``; a folder alone stands for every name."""
    name, equals, path = text.partition("=")
    return (name, Path(path)) if equals else ("", Path(name))
