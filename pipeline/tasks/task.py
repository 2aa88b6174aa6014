"""What a network is for: what its outputs answer, what counts as right, and how that is written and shown."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from functools import cache, partial
from importlib import import_module, resources
from pathlib import Path
from types import FunctionType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edgec.pipeline.core.errors import EdgecError, nearest_hint
from edgec.pipeline.core.extensions import (
    bad_extension,
    check_extension,
    extension_names,
    load_extension,
    refuse_keyless,
    refuse_taken,
)
from edgec.pipeline.data.dataset import Dataset
from edgec.pipeline.data.preprocess import Preprocess
from edgec.pipeline.tasks.accuracy import Accuracy, Drop

GROUP, METRICS = "edgec.tasks", "edgec.metrics"
Outputs = tuple[npt.NDArray[np.float32], ...]
Kept = Mapping[str, npt.NDArray[Any]]
"""What stays of a form's outputs: arrays ``(N, ...)`` by name."""
Labels = npt.NDArray[Any]
"""What is right of each image: classes ``(N,)``, or whatever a task's ``truth`` makes of a data set."""


@dataclass(frozen=True)
class Shape:
    """An output of the float network: its name and its sides without the batch; 0 where a side is not fixed."""

    name: str
    sides: tuple[int, ...]


@dataclass(frozen=True)
class Pairs:
    """Discordant images of two networks.

    Attributes:
        only_before: right in the older (or float) network alone.
        only_after: right in the newer (or compiled) one alone.
    """

    only_before: int
    only_after: int
    num_images: int


@dataclass(frozen=True)
class Reply:
    """What a network says about one image, for people and as JSON.

    Attributes:
        lines: a name and a share each.
        tensors: by name.
        pictures: RGB ``(H, W, 3)`` by name.
    """

    lines: tuple[tuple[str, float], ...] = ()
    tensors: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    pictures: Mapping[str, npt.NDArray[np.uint8]] = field(default_factory=dict)


class Task(Protocol):
    """A frozen dataclass beside this file, or in another package."""

    @property
    def name(self) -> str:
        """As the manifest names it."""

    def takes(self, outputs: Sequence[Shape]) -> bool:
        """A network with these outputs can be for this task."""

    def most_images(self, outputs: Sequence[Shape]) -> int | None:
        """How many images can be judged with bounded memory; None for any number."""

    def keep(self, outputs: Outputs, names: Sequence[str]) -> Kept:
        """What of a batch's outputs, which have these names, is needed later; nobody else sees them whole."""

    def truth(self, images: Dataset, preprocess: Preprocess) -> Labels | None:
        """What is right of each image; None where the data do not say it for all of them."""

    def check(self, images: Dataset, kept: Kept) -> None:
        """Refuse data that the network cannot answer.

        Raises:
            EdgecError: ``class-mismatch``.
        """

    def score(self, kept: Mapping[str, Kept], labels: Labels | None) -> Accuracy:
        """Judge ``reference`` and ``target`` by ``float``, and by the labels where there are any."""

    def pairs(self, before: Kept, after: Kept, labels: Labels) -> Pairs | Drop | None:
        """The paired comparison of two networks on the same images; None where the task has no right answers."""

    def write(
        self, path: Path, kept: Mapping[str, Kept], images: Dataset, preprocess: Preprocess, labelled: bool
    ) -> None:
        """``predictions.csv``: what each form said about each test image; a few as pictures in ``examples/``."""

    def reply(self, kept: Kept, index: int, labels: Sequence[str], top: int, picture: npt.NDArray[np.uint8]) -> Reply:
        """What the network says about one of the images, which is also given as RGB ``(H, W, 3)``."""


@dataclass(frozen=True)
class Metric:
    """One more figure of a task.

    Attributes:
        task: whose answers it reads.
        unit: ``%`` or another; a name for people.
        value: of one form's answers, beside the float network's, and labels where there are any; None for none.
    """

    name: str
    task: str
    unit: str
    value: Callable[[Kept, Kept, Labels | None], float | None]


def task_names() -> tuple[str, ...]:
    """Files beside this one that define ``TASK``, and what other packages bring."""
    return tuple(sorted({*_own(), *extension_names(GROUP)}))


@cache
def load_task(name: str) -> Task:
    """A task by its name.

    Raises:
        EdgecError: ``unknown-task``, ``bad-extension``.
    """
    found: Task
    if name in _own():
        refuse_taken(GROUP, name)
        found = import_module(f"{__package__}.{name}").TASK
    elif name in extension_names(GROUP):
        found = load_extension(GROUP, name)
    else:
        raise EdgecError("unknown-task", f"no task named '{name}'", nearest_hint(name, task_names()))
    check_extension(GROUP, name, found, Task)
    if not is_dataclass(found) or isinstance(found, type) or found.name != name:
        raise bad_extension(GROUP, name, f"is no frozen dataclass whose name is '{name}'")
    refuse_keyless(GROUP, name, found)
    return found


def task_of(name: str | None, outputs: Sequence[Shape]) -> Task:
    """The named task; without a name ``classification`` where it takes the outputs, else ``tensors``.

    Args:
        outputs: none while they are not known (``edgec explain``); a named task is then believed.

    Raises:
        EdgecError: ``unknown-task``; ``wrong-task`` where the named one does not take them.
    """
    if name is None:
        default = load_task("classification")
        return default if default.takes(outputs) else load_task("tensors")
    task = load_task(name)
    if outputs and not task.takes(outputs):
        found = ", ".join(f"'{shape.name}' (N, {', '.join(map(str, shape.sides))})" for shape in outputs)
        hint = "leave the task away, or name another: " + ", ".join(task_names())
        raise EdgecError("wrong-task", f"the task '{name}' does not take the outputs {found}", hint)
    return task


@cache
def metrics_of(task: str) -> tuple[Metric, ...]:
    """Further figures that other packages bring for a task, no two of one name.

    Raises:
        EdgecError: ``bad-extension``.
    """
    found: dict[str, Metric] = {}
    for entry in extension_names(METRICS):
        metric = load_extension(METRICS, entry)
        if not isinstance(metric, Metric) or not isinstance(metric.value, FunctionType | partial):
            raise bad_extension(METRICS, entry, "is no Metric that holds a function")
        if metric.task == task and found.setdefault(metric.name, metric) is not metric:
            raise bad_extension(METRICS, entry, f"defines '{metric.name}', a name that is taken")
    return tuple(found.values())


@cache
def _own() -> tuple[str, ...]:
    folder = resources.files(__package__)
    names = [entry.name for entry in pkgutil.iter_modules([str(folder)])]
    return tuple(name for name in names if "\nTASK: Task = " in (folder / f"{name}.py").read_text(encoding="utf-8"))
