"""``edgec.check``: bundles against their budgets."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Literal

from edgec.pipeline.api.bundle import Bundle
from edgec.pipeline.api.calls import bad_argument, call, checked
from edgec.pipeline.api.images import Data, folder_or_none
from edgec.pipeline.cli.check import command
from edgec.pipeline.core.errors import nearest_hint
from edgec.pipeline.core.progress import Listener
from edgec.pipeline.gate.budgets import load_budgets
from edgec.pipeline.gate.check import Conditions, Line, Report
from edgec.pipeline.gate.check import check as judge
from edgec.pipeline.gate.formats import FORMATS, as_text
from edgec.pipeline.gate.keep import check_unsigned, keep

Place = str | os.PathLike[str] | Bundle


@dataclass(frozen=True, repr=False)
class Checked:
    """What a check found, limit by limit.

    Attributes:
        report: all of it, as ``edgec check --format json`` writes it.
    """

    report: Report

    @property
    def verdict(self) -> Literal["pass", "fail", "inconclusive"]:
        """The worst line's."""
        return self.report.verdict.value

    @property
    def passed(self) -> bool:
        """Every limit is kept, or waived."""
        return self.verdict == "pass"

    @property
    def lines(self) -> tuple[Line, ...]:
        """One for each limit of each budget."""
        return self.report.lines

    def text(self, format: str = "text") -> str:  # noqa: A002 - as the option is called
        """As ``--format`` writes it: ``text``, ``json``, ``junit``, ``github`` or ``markdown``.

        Raises:
            EdgecError: ``bad-argument``.
        """
        if format not in FORMATS:
            raise bad_argument(f"format is {format!r}", nearest_hint(str(format), FORMATS))
        return FORMATS[format](self.report)

    def __repr__(self) -> str:
        """The table of the command."""
        return as_text(self.report)

    def _repr_html_(self) -> str:
        """The same in a notebook."""
        return f"<pre>{escape(as_text(self.report))}</pre>"


def check(
    bundles: Place | Sequence[Place],
    budgets: str | os.PathLike[str] = "budgets.toml",
    *,
    baseline: Place | Mapping[str, Place] | None = None,
    data: Data | None = None,
    device: str | None = None,
    on: str | None = None,
    no_device: bool = False,
    budget_s: float = 120.0,
    record: bool = False,
    progress: Listener | None = None,
) -> Checked:
    """Hold bundles against their budgets, limit by limit: ``edgec check``, whose options these are.

    Args:
        bundles: one or several.
        baseline: a bundle, a folder of bundles or a JSON report, for relative limits; several by their names.
        data: labelled images; accuracy is then evaluated anew.
        device: whose budget counts; this machine, or the board ``on``, by default.
        on: a board behind ssh that times are measured on, ``ssh://user@host``.
        record: write verdicts and latency into the bundles; open them again to see them.
        progress: called with (step, done, total).

    Raises:
        EdgecError: ``bad-argument``, ``bad-images``, ``bad-budgets``, ``no-budget``, ``bad-baseline``,
            ``signed-bundle``; what opening bundles, data and runtimes raises. A limit that is not kept is no error:
            see ``verdict``.
    """
    given = checked(command, locals())
    folders = [_path(one) for one in ([bundles] if isinstance(bundles, str | os.PathLike | Bundle) else bundles)]
    named = baseline if isinstance(baseline, Mapping) else {} if baseline is None else {"": baseline}
    if on and no_device:
        raise bad_argument("on and no_device exclude each other", "leave one of them out")
    with call(progress), folder_or_none(data) as images:
        if record:
            check_unsigned(folders)
        baselines = {name: _path(one) for name, one in named.items()}
        conditions = Conditions(baselines, images, device, given["no_device"], given["budget_s"], on)
        report = judge(folders, load_budgets(given["budgets"]), conditions)
        for folder in folders if record else ():
            keep(folder, report)
    return Checked(report)


def _path(place: Place) -> Path:
    return place.path if isinstance(place, Bundle) else Path(place)
