"""Any outputs at all: no right answer is known, so each output is held against the float network's."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgec.pipeline.data.dataset import Dataset
from edgec.pipeline.data.preprocess import Preprocess
from edgec.pipeline.tasks.accuracy import Accuracy, Fidelity
from edgec.pipeline.tasks.metrics import cosine, finite, sqnr_db
from edgec.pipeline.tasks.task import Kept, Labels, Outputs, Pairs, Reply, Shape, Task

MOST_BYTES = 128 << 20  # of one form's outputs; maps of many classes reach it with a few dozen images


@dataclass(frozen=True)
class Tensors:
    """SQNR, cosine and largest error of every output; no classes, and no top-1."""

    name: str = "tensors"

    def takes(self, outputs: Sequence[Shape]) -> bool:
        """Whatever comes."""
        return True

    def most_images(self, outputs: Sequence[Shape]) -> int | None:
        """As many as ``MOST_BYTES`` hold."""
        elements = sum(math.prod(max(side, 1) for side in shape.sides) for shape in outputs)
        return max(1, MOST_BYTES // (4 * max(elements, 1)))

    def keep(self, outputs: Outputs, names: Sequence[str]) -> Kept:
        """Everything, by the output's name."""
        return dict(zip(names, outputs, strict=True))

    def truth(self, images: Dataset, preprocess: Preprocess) -> Labels | None:
        """Nothing is right or wrong."""
        return None

    def check(self, images: Dataset, kept: Kept) -> None:
        """Labels mean nothing here."""

    def score(self, kept: Mapping[str, Kept], labels: Labels | None) -> Accuracy:
        """The headline is the SQNR of the worst output."""
        shipped = kept.get("target", kept["reference"])
        found = tuple(_fidelity(name, shipped[name], kept["float"][name]) for name in kept["float"])
        reference = [_fidelity(name, kept["reference"][name], kept["float"][name]) for name in kept["float"]]
        return Accuracy(
            task=self.name,
            metric="sqnr",
            float=None,
            reference=None,
            target=None,
            drop_pp=None,
            agreement=None,
            sqnr_db=_worst(found),
            num_images=len(next(iter(shipped.values()))),
            reference_sqnr_db=_worst(reference),
            outputs=found,
        )

    def pairs(self, before: Kept, after: Kept, labels: Labels) -> Pairs | None:
        """Nothing is right or wrong."""
        return None

    def write(
        self, path: Path, kept: Mapping[str, Kept], images: Dataset, preprocess: Preprocess, labelled: bool
    ) -> None:
        """SQNR of each output of each quantized form, image by image; two digits do not depend on the last bits."""
        forms = [form for form in kept if form != "float"]
        names = list(kept["float"])
        with path.open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(["file", *(f"{form}_sqnr_db_{name}" for form in forms for name in names)])
            for i, sample in enumerate(images.samples[: len(kept["float"][names[0]])]):
                found = [sqnr_db(kept[form][name][i], kept["float"][name][i]) for form in forms for name in names]
                rows.writerow([sample.file, *(f"{value:.2f}" for value in found)])

    def reply(self, kept: Kept, index: int, labels: Sequence[str], top: int, picture: npt.NDArray[np.uint8]) -> Reply:
        """The raw tensors of one image."""
        return Reply(tensors={name: np.asarray(values[index], np.float32) for name, values in kept.items()})


def _fidelity(name: str, values: np.ndarray, reference: np.ndarray) -> Fidelity:
    error = float(np.max(np.abs(values.astype(np.float64) - reference), initial=0.0))
    return Fidelity(name, finite(sqnr_db(values, reference)), cosine(values, reference), error)


def _worst(found: Sequence[Fidelity]) -> float | None:
    """The lowest; None where every output is exact."""
    known = [one.sqnr_db for one in found if one.sqnr_db is not None]
    return min(known, default=None)


TASK: Task = Tensors()
