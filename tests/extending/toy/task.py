"""A task: is it bright or dark? Brought by the entry point ``edgec.tasks``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgec.pipeline.data.dataset import Dataset
from edgec.pipeline.data.preprocess import Preprocess
from edgec.pipeline.tasks.accuracy import Accuracy
from edgec.pipeline.tasks.task import Kept, Labels, Metric, Outputs, Pairs, Reply, Shape


@dataclass(frozen=True)
class Brightness:
    """The answer is the sign of the sum of the outputs."""

    name: str = "brightness"

    def takes(self, outputs: Sequence[Shape]) -> bool:
        return len(outputs) == 1

    def most_images(self, outputs: Sequence[Shape]) -> int | None:
        return None

    def keep(self, outputs: Outputs, names: Sequence[str]) -> Kept:
        return {"sum": outputs[0].reshape(len(outputs[0]), -1).sum(axis=1)}

    def truth(self, images: Dataset, preprocess: Preprocess) -> Labels | None:
        return images.labels

    def check(self, images: Dataset, kept: Kept) -> None: ...

    def score(self, kept: Mapping[str, Kept], labels: Labels | None) -> Accuracy:
        bright = {name: values["sum"] > 0 for name, values in kept.items()}
        shipped = bright.get("target", bright["reference"])
        same = 100.0 * float(np.mean(shipped == bright["float"]))
        return Accuracy(self.name, "agreement", None, None, None, None, same, 30.0, len(shipped))

    def pairs(self, before: Kept, after: Kept, labels: Labels) -> Pairs | None:
        return None

    def write(
        self, path: Path, kept: Mapping[str, Kept], images: Dataset, preprocess: Preprocess, labelled: bool
    ) -> None:
        lines = [
            f"{sample.file},{value:.1f}" for sample, value in zip(images.samples, kept["float"]["sum"], strict=True)
        ]
        path.write_text("\n".join(["file,brightness", *lines]) + "\n")

    def reply(self, kept: Kept, index: int, labels: Sequence[str], top: int, picture: np.ndarray) -> Reply:
        return Reply((("bright" if kept["sum"][index] > 0 else "dark", 1.0),))


TASK = Brightness()


def mean_sum(kept: Kept, reference: Kept, labels: Labels | None) -> float | None:
    """A metric is one function."""
    return float(np.mean(kept["sum"]))


METRIC = Metric("mean brightness", "brightness", "", mean_sum)


def two_best(kept: Kept, reference: Kept, labels: Labels | None) -> float | None:
    """A metric of edgec's own task: the label is among the two first."""
    if labels is None:
        return None
    order = np.argsort(-kept["logits"], axis=1, kind="stable")[:, :2]
    return 100.0 * float(np.mean((order == labels[:, None]).any(axis=1)))


TOP2 = Metric("top-2 %", "classification", "%", two_best)
