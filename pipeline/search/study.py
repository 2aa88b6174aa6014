"""Which point is tried next: Optuna's tree-structured Parzen estimator on two goals, kept in a journal file.

Akiba et al., 1907.10902; multi-objective TPE: Ozaki et al., JAIR 73, 2022. A search that is run again continues where
the journal ends, and spends its minutes on points that were not tried.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.progress import Report
from edgec.pipeline.search.space import Found, Impossible, Outcome, Point, Space

if TYPE_CHECKING:
    from optuna import Study, Trial

SEED = 0
OUTCOME = "outcome"  # attribute of a trial: the whole outcome as JSON
MOST_REPEATS = 20
"""Suggestions in a row that were tried already, before the first point that was not is taken."""


def require_optuna() -> None:
    """Refuse before the work.

    Raises:
        EdgecError: ``missing-optuna``.
    """
    if find_spec("optuna") is None:
        raise EdgecError("missing-optuna", "a search needs optuna", "pip install 'edgec[search]'")


def search(
    space: Space,
    judge: Callable[[Point], Outcome],
    journal: Path,
    name: str,
    minutes: float,
    clock: Callable[[], float] = time.monotonic,
    report: Report | None = None,
) -> tuple[Outcome, ...]:
    """Try points until the time is over or none is left; the usual one first, and it always.

    Args:
        judge: builds and measures.
        journal: file that remembers; made where it is missing.
        name: of everything that decides an outcome. A journal holds one study for each.
        report: called with (points tried, points in all).

    Returns:
        Everything that is known, in the order in which it was tried.

    Raises:
        EdgecError: ``corrupt-artifact`` for a journal that cannot be read; what ``judge`` raises.
    """
    study, points = _study(journal, name), space.points()
    tried = _remembered(study)
    start = clock()
    while len(tried.keys() & {*points}) < len(points):
        if tried and clock() - start >= 60 * minutes:
            break
        trial, point = _next(study, space, points, tried)
        found = judge(point)
        trial.set_user_attr(OUTCOME, json.dumps(asdict(found)))
        _tell(study, trial, found)
        tried[point] = found
        if report is not None:
            report(len(tried), len(points))
    return tuple(tried[point] for point in tried if point in points)


def _study(journal: Path, name: str) -> Study:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(logging.ERROR)
    try:
        storage = JournalStorage(JournalFileBackend(str(journal)))
        return optuna.create_study(
            storage=storage,
            study_name=name,
            sampler=optuna.samplers.TPESampler(seed=SEED),
            directions=["maximize", "minimize"],
            load_if_exists=True,
        )
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        message = f"'{journal}' is no journal of a search: {error}"
        raise EdgecError("corrupt-artifact", message, "move it away; the search then begins anew") from error


def _remembered(study: Study) -> dict[Point, Outcome]:
    """What earlier runs found; a trial that a killed run left unfinished has nothing."""
    found: dict[Point, Outcome] = {}
    for trial in study.get_trials(deepcopy=False):
        if OUTCOME in trial.user_attrs:
            fields: dict[str, Any] = json.loads(trial.user_attrs[OUTCOME])
            point = Point(**fields.pop("point"))
            found.setdefault(point, Impossible(point, **fields) if "refusal" in fields else Found(point, **fields))
    return found


def _next(study: Study, space: Space, points: tuple[Point, ...], tried: dict[Point, Outcome]) -> tuple[Trial, Point]:
    """A point that was not tried: the usual one first, then what the estimator suggests."""
    left = [point for point in points if point not in tried]
    if len(left) == len(points):
        study.enqueue_trial(_parameters(left[0], space))
    for _ in range(MOST_REPEATS):
        trial = study.ask()
        point = _suggested(trial, space)
        if point not in tried:
            return trial, point
        _tell(study, trial, tried[point])
    study.enqueue_trial(_parameters(left[0], space))
    trial = study.ask()
    return trial, _suggested(trial, space)


def _suggested(trial: Trial, space: Space) -> Point:
    """Optuna knows each field by its place among the choices: paths and sizes stay out of its journal's types."""

    def one(name: str, choices: tuple[Any, ...]) -> Any:
        return choices[trial.suggest_categorical(name, list(range(len(choices))))]

    weights, px = one("weights", space.weights), one("px", space.px)
    precision = one("precision", space.precisions)
    if precision == "fp16":
        return Point(precision, px=px, weights=weights)
    return Point(precision, one("level", space.levels), one("granularity", space.granularities), px, weights)


def _parameters(point: Point, space: Space) -> dict[str, int]:
    places = {"weights": space.weights.index(point.weights), "px": space.px.index(point.px)}
    places["precision"] = space.precisions.index(point.precision)
    if point.precision != "fp16":
        places["level"] = space.levels.index(point.level)
        places["granularity"] = space.granularities.index(point.granularity)
    return places


def _tell(study: Study, trial: Trial, outcome: Outcome) -> None:
    from optuna.trial import TrialState

    if isinstance(outcome, Impossible):
        study.tell(trial, state=TrialState.FAIL)
    else:
        study.tell(trial, [outcome.headline, outcome.cost])
