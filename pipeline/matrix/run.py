"""Runs the cells: what is kept is not built, what can pass is tried again, and no failure stops the rest."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.matrix.cell import build_cell, is_kept, prepare_cell, recipe_of, wants_quiet
from edgec.pipeline.matrix.plan import Cell

PASSING = ("connection-lost", "corrupt-upload", "download-failed", "host-unreachable", "offline", "remote-timeout")
"""Refusals that another try may not meet: of networks and devices."""

FIRST_WAIT_S = 2.0  # doubled with every further try

How = Literal["built", "kept", "failed", "prepared"]


@dataclass(frozen=True)
class Outcome:
    """What became of a cell.

    Attributes:
        folder: of its bundle, whether it is there or not.
        how: ``prepared`` where its stages ran and its bundle is still to be written.
        tries: that were needed, or spent.
    """

    cell: Cell
    folder: Path
    how: How
    error: EdgecError | None = None
    tries: int = 1
    seconds: float = 0.0


class Works(Protocol):
    """Where a cell is built."""

    def __call__(self, cell: Cell, folder: Path, only_stages: bool) -> None:
        """Build the bundle at ``folder``, or run the stages only.

        Raises:
            EdgecError: what a build raises; ``cell-crashed``.
        """


def work_here(cell: Cell, folder: Path, only_stages: bool, scheduler: str | None = None) -> None:
    """In this process; where a ``scheduler`` is named its cluster runs the stages, and the bundle is written here."""
    if only_stages or scheduler is not None:
        prepare_cell(cell, scheduler)
    if not only_stages:
        build_cell(cell, folder)


@dataclass(frozen=True)
class WorkApart:
    """In a process of its own, which may run out of memory, or be killed, alone.

    Attributes:
        program: takes a request as JSON on standard input, and answers with a refusal or nothing on the other side.
        scheduler: of a cluster that runs the stages; the process itself where None.
    """

    program: tuple[str, ...]
    scheduler: str | None = None

    def __call__(self, cell: Cell, folder: Path, only_stages: bool) -> None:
        """As ``Works``."""
        asked = {"cell": asdict(cell), "folder": str(folder), "only_stages": only_stages, "scheduler": self.scheduler}
        request = json.dumps(asked)
        command = [sys.executable, *self.program]
        done = subprocess.run(command, input=request, capture_output=True, text=True, errors="replace", check=False)
        try:
            answer = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None
        except (ValueError, IndexError):
            answer = None
        if not isinstance(answer, dict):
            raise _crash(cell, done)
        if answer.get("error"):
            raise EdgecError(*answer["error"])


def _crash(cell: Cell, done: subprocess.CompletedProcess[str]) -> EdgecError:
    if done.returncode < 0:
        killed = signal.Signals(-done.returncode).name
        message = f"the process of '{cell.name}' was killed by {killed}"
        hint = "where memory ran out, give fewer --jobs; 'dmesg' says so" if killed == "SIGKILL" else "build it alone"
        return EdgecError("cell-crashed", message, hint)
    last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1][:300]
    message = f"the process of '{cell.name}' ended with status {done.returncode}: {last}"
    return EdgecError("cell-crashed", message, "build it alone to see more")


@dataclass(frozen=True)
class Plan:
    """How cells are run.

    Attributes:
        jobs: cells at a time.
        retries: further tries of a cell after a refusal of ``PASSING``.
        work: builds one; in processes of their own where there are several at a time.
        tell: told what somebody who waits should know.
    """

    output: Path
    jobs: int
    retries: int
    work: Works
    tell: Callable[[str], None]


def run(cells: Sequence[Cell], plan: Plan) -> Iterator[Outcome]:
    """Each cell's outcome as it is known. With several jobs, cells that measure first run their stages side by side.

    Their bundles are then written one after the other, so that nothing disturbs a clock or a device.
    """
    if plan.jobs == 1:
        yield from (_outcome(cell, plan, only_stages=False) for cell in cells)
        return
    with ThreadPoolExecutor(plan.jobs) as pool:
        waiting = [pool.submit(_outcome, cell, plan, only_stages=True) for cell in cells]
        prepared = []
        try:
            for outcome in (done.result() for done in as_completed(waiting)):
                if outcome.how == "prepared":
                    prepared.append(outcome)
                else:
                    yield outcome
        finally:
            for one in waiting:
                one.cancel()  # where nobody asks for more
    for outcome in sorted(prepared, key=lambda one: cells.index(one.cell)):
        last = _tried(outcome.cell, plan, only_stages=False)
        yield replace(last, tries=max(last.tries, outcome.tries), seconds=last.seconds + outcome.seconds)


def _outcome(cell: Cell, plan: Plan, only_stages: bool) -> Outcome:
    """Found, built, prepared or refused.

    Args:
        only_stages: of cells that must be alone with the machine while they measure.
    """
    folder = plan.output / cell.name
    with suppress(EdgecError):  # the build meets it again, or replaces the bundle that is damaged
        recipe = recipe_of(cell)
        only_stages = only_stages and wants_quiet(cell, recipe)
        if is_kept(cell, recipe, folder):
            return Outcome(cell, folder, "kept", tries=0)
    return _tried(cell, plan, only_stages)


def _tried(cell: Cell, plan: Plan, only_stages: bool) -> Outcome:
    folder, started, tries = plan.output / cell.name, time.monotonic(), 0
    while True:
        tries += 1
        try:
            plan.work(cell, folder, only_stages)
            error = None
        except EdgecError as refused:
            error = refused
        seconds = round(time.monotonic() - started, 1)
        if error is None:
            return Outcome(cell, folder, "prepared" if only_stages else "built", None, tries, seconds)
        if error.code not in PASSING or tries > plan.retries:
            return Outcome(cell, folder, "failed", error, tries, seconds)
        wait_s = FIRST_WAIT_S * 2 ** (tries - 1)
        plan.tell(f"{cell.name}: {error.code}, try {tries + 1} of {plan.retries + 1} in {wait_s:g} s")
        time.sleep(wait_s)
