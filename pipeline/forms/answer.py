"""What one form of a network says about a set of images: a stage, so that it is asked once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.progress import reporter
from edgec.pipeline.core.stage import Artifact
from edgec.pipeline.data.dataset import Dataset, batches
from edgec.pipeline.data.preprocess import Preprocess
from edgec.pipeline.forms.form import Form
from edgec.pipeline.forms.format import Outputs, Predictor
from edgec.pipeline.tasks.task import Kept, Shape, Task


@dataclass(frozen=True)
class Answer:
    """A folder with ``answers.json``, the names, and one ``.npy`` of what the task keeps for each.

    Attributes:
        form: who answers; its identity is part of it.
        outputs: of the float network; those of other forms have the same order.
        images: their content is an input of the stage.
    """

    form: Form
    task: Task
    preprocess: Preprocess
    outputs: tuple[Shape, ...]
    images: Dataset = field(compare=False)

    output: ClassVar[str] = "answers"
    toolchain: ClassVar[tuple[str, ...]] = ("pillow", "numpy")

    @property
    def label(self) -> str:
        """Who answers."""
        return self.form.name

    def run(self, output: Path, *inputs: Artifact) -> None:
        """Ask ``inputs`` = (artifact, test set).

        Raises:
            EdgecError: ``unreadable-image``, and what opening and running the form raise.
        """
        predictor = self.form.open(inputs[0].path)
        kept = ask(predictor, self.images, self.preprocess, self.task, self.outputs, self.form.batch_size)
        output.mkdir()
        (output / "answers.json").write_text(json.dumps(list(kept)), encoding="utf-8")
        for i, values in enumerate(kept.values()):
            np.save(output / f"{i}.npy", values)


def read_answers(folder: Path) -> Kept:
    """What ``Answer`` wrote, mapped into memory."""
    names = json.loads((folder / "answers.json").read_text(encoding="utf-8"))
    return {name: np.load(folder / f"{i}.npy", mmap_mode="r") for i, name in enumerate(names)}


def ask(
    predictor: Predictor,
    images: Dataset,
    preprocess: Preprocess,
    task: Task,
    outputs: Sequence[Shape],
    batch_size: int,
) -> Kept:
    """Everything that the task keeps of one predictor's answers, in the order of the images.

    Raises:
        EdgecError: ``unreadable-image``, ``bad-output``, ``activation-not-finite``, and what the predictor raises.
    """
    names, report, done = [shape.name for shape in outputs], reporter("answer"), 0
    parts: dict[str, list[npt.NDArray[Any]]] = {}
    for batch in batches(images, preprocess, batch_size):
        found = predictor.predict(batch)
        check_outputs(found, names, [sample.file for sample in images.samples[done : done + len(batch)]])
        for name, values in task.keep(found, names).items():
            parts.setdefault(name, []).append(values)
        done += len(batch)
        report(done, len(images))
    return {name: np.concatenate(values) for name, values in parts.items()}


def check_outputs(outputs: Outputs, names: Sequence[str], inputs: Sequence[str]) -> None:
    """Each input has its row, and no figure can be made of NaN or infinity: any comparison would look exact.

    Raises:
        EdgecError: ``bad-output`` names the output; ``activation-not-finite`` the input too.
    """
    for name, values in zip(names, outputs, strict=False):
        if len(values) != len(inputs):
            message = f"output '{name}' has {len(values)} rows for {len(inputs)} images"
            raise EdgecError("bad-output", message, "export it with the batch as its first side")
        wrong = ~np.isfinite(values).reshape(len(values), -1).all(axis=1)
        if wrong.any():
            message = f"output '{name}' is NaN or infinite on '{inputs[int(wrong.argmax())]}'"
            hint = "check the weights, the preprocessing, and operators such as Log and Div at the end"
            raise EdgecError("activation-not-finite", message, hint)


def judged(images: Dataset, task: Task, outputs: Sequence[Shape]) -> Dataset:
    """As many of the images, from the first on, as the task can judge."""
    most = task.most_images(outputs)
    return images if most is None or most >= len(images) else replace(images, samples=images.samples[:most])


def output_shapes(float_onnx: Path) -> tuple[Shape, ...]:
    """Outputs of a float network, in order."""
    import onnx

    outputs = onnx.load(float_onnx, load_external_data=False).graph.output
    return tuple(Shape(v.name, tuple(d.dim_value for d in v.type.tensor_type.shape.dim[1:])) for v in outputs)
