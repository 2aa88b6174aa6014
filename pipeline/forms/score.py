"""From answers to accuracy: a stage."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, replace
from numbers import Real
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.foreign import foreign
from edgec.pipeline.core.stage import Artifact
from edgec.pipeline.data.dataset import Dataset
from edgec.pipeline.data.preprocess import Preprocess
from edgec.pipeline.forms.answer import read_answers
from edgec.pipeline.forms.form import instruction_set, saturates
from edgec.pipeline.tasks.accuracy import Accuracy, Form
from edgec.pipeline.tasks.metrics import sqnr_db
from edgec.pipeline.tasks.task import Kept, Labels, Metric, Task

LEAST_ALIKE = 0.5  # of answers that are no numbers
LEAST_SQNR_DB = 5.0  # integer kernels round differently; below this the artifact computes something else


@dataclass(frozen=True)
class Score:
    """``accuracy.json`` of the forms that answered.

    Attributes:
        forms: their names, in the order of the inputs.
        metrics: further figures of the task.
        images: the test set; its content is an input of the stage.
        preprocess: how images become inputs, and what is right of them with them.
        labelled: False where labels have no meaning for these weights (random ones).
    """

    task: Task
    forms: tuple[str, ...]
    metrics: tuple[Metric, ...]
    images: Dataset = field(compare=False)
    preprocess: Preprocess
    labelled: bool = True

    output: ClassVar[str] = "accuracy.json"
    toolchain: ClassVar[tuple[str, ...]] = ("numpy", "scipy")

    def run(self, output: Path, *inputs: Artifact) -> None:
        """Score ``inputs`` = (answers of each form, test set).

        Raises:
            EdgecError: ``class-mismatch``, ``bad-extension``; ``compile-mismatch`` where the artifact answers unlike
                the reference.
        """
        kept = {name: read_answers(artifact.path) for name, artifact in zip(self.forms, inputs, strict=False)}
        if "target" in kept:
            check_alike(kept["target"], kept["reference"])
        self.task.check(self.images, kept["float"])
        labels = self.task.truth(self.images, self.preprocess) if self.labelled else None
        accuracy = scored(self.task, kept, labels, self.metrics)
        output.write_text(json.dumps(asdict(accuracy), indent=1), encoding="utf-8")


def scored(task: Task, kept: dict[str, Kept], labels: Labels | None, metrics: tuple[Metric, ...]) -> Accuracy:
    """The task's own record and the further figures of each form."""
    if labels is not None:
        labels = labels[: len(next(iter(kept["float"].values())))]
    further = {
        metric.name: {form: figure(metric, values, kept["float"], labels) for form, values in kept.items()}
        for metric in metrics
    }
    found = task.score(kept, labels)
    shipped: Form = "target" if "target" in kept else "reference"
    return replace(found, metrics={**found.metrics, **further}, shipped=shipped)


def figure(metric: Metric, values: Kept, reference: Kept, labels: Labels | None) -> float | None:
    """What a metric's function gives, which another package wrote: a finite number, or None.

    Raises:
        EdgecError: ``bad-extension``.
    """

    def refused(why: str) -> EdgecError:
        message = f"the metric '{metric.name}' of '{metric.task}' gave {why}, expected a finite number or None"
        return EdgecError("bad-extension", message, "mend or remove the package that brings it")

    with foreign(refused):
        found: object = metric.value(values, reference, labels)
    if found is None or (isinstance(found, Real | np.number) and math.isfinite(found)):
        return None if found is None else float(found)
    raise refused(repr(found))


def check_alike(target: Kept, reference: Kept) -> None:
    """The artifact computes what the QDQ file says, but for roundings.

    Raises:
        EdgecError: ``compile-mismatch`` names the output.
    """
    for name, expected in reference.items():
        if expected.dtype.kind in "iu":
            _check_equal(name, target[name], expected)
            continue
        found_db = sqnr_db(target[name], expected)
        if found_db < LEAST_SQNR_DB:
            message = (
                f"the artifact answers unlike the QDQ reference: '{name}' has {found_db:.1f} dB on {len(expected)} "
                f"images, expected at least {LEAST_SQNR_DB:.0f}"
            )
            raise EdgecError("compile-mismatch", message, _what_to_try())


def _what_to_try() -> str:
    report = "compare tensor by tensor with 'edgec sensitivity', and report the model"
    if not saturates(instruction_set()):
        return report
    return (
        "x86 without VNNI saturates sums of products: try safe_pairs = true in [scheme] where it is false, or "
        f"--quantizer fast in place of the network's own parameters; else {report}"
    )


def _check_equal(name: str, target: npt.NDArray[Any], reference: npt.NDArray[Any]) -> None:
    """Classes have no ratio in dB: most of them must be equal."""
    share = float(np.mean(target == reference))
    if share < LEAST_ALIKE:
        message = f"the artifact answers unlike the QDQ reference: {100 * share:.1f} % of '{name}' are equal"
        raise EdgecError("compile-mismatch", message, _what_to_try())


def read_accuracy(path: Path) -> Accuracy:
    """What ``Score`` wrote."""
    from edgec.pipeline.core.toml_file import validate

    return validate(Accuracy, json.loads(path.read_text(encoding="utf-8")), path, "corrupt-artifact")
