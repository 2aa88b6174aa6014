"""One class for each pixel: mean IoU against masks, and how the pixels of two forms agree."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.data.dataset import Dataset, Sample, read_image
from edgec.pipeline.data.masks import VOID, ClassMap, fitted, read_truth
from edgec.pipeline.data.preprocess import Preprocess
from edgec.pipeline.tasks import metrics
from edgec.pipeline.tasks.accuracy import Accuracy, Drop, Fidelity
from edgec.pipeline.tasks.class_map import Picture, colored, difference, overlay, strip
from edgec.pipeline.tasks.classification import class_name
from edgec.pipeline.tasks.iou import Counts, boundary_counted, counted, drop_spread
from edgec.pipeline.tasks.resampling import mean_spread
from edgec.pipeline.tasks.task import Kept, Labels, Outputs, Reply, Shape, Task

CLASSES, LOGITS = "classes", "logits"
GRID = 16  # logits are kept at every this many-th of an output's rows and columns: enough for a ratio in dB
MOST_BYTES = 256 << 20  # of one form's class maps
NUM_EXAMPLES = 4


@dataclass(frozen=True)
class Segmentation:
    """One output: logits ``(N, C, H, W)``, or a class map ``(N, H, W)`` where ArgMax lies inside the network.

    Of logits with one channel the sign answers. Kept are class maps and a grid of logits.
    """

    name: str = "segmentation"

    def takes(self, outputs: Sequence[Shape]) -> bool:
        """One output that has rows and columns."""
        return len(outputs) == 1 and len(outputs[0].sides) in (2, 3)

    def most_images(self, outputs: Sequence[Shape]) -> int | None:
        """As many class maps as ``MOST_BYTES`` hold."""
        height, width = outputs[0].sides[-2:] if outputs else (1, 1)
        return max(1, MOST_BYTES // max(height * width, 1))

    def keep(self, outputs: Outputs, names: Sequence[str]) -> Kept:
        """The class of every pixel ``(N, H, W)`` uint8, and logits ``(N, C, h, w)`` of a grid where there are any.

        Raises:
            EdgecError: ``wrong-task`` for more classes than a map of 8 bits can name.
        """
        values = outputs[0]
        highest = values.max(initial=0) if values.ndim == 3 else values.shape[1] - 1
        if highest >= VOID:
            message = f"'{names[0]}' names class {int(highest)}, expected fewer than {VOID} classes"
            raise EdgecError("wrong-task", message, "judge it as 'tensors'")
        if values.ndim == 3:
            return {CLASSES: values.astype(np.uint8)}
        sampled = np.ascontiguousarray(values[:, :, GRID // 2 :: GRID, GRID // 2 :: GRID])
        return {CLASSES: metrics.answers(values).astype(np.uint8), LOGITS: sampled}

    def truth(self, images: Dataset, preprocess: Preprocess) -> Labels | None:
        """Masks ``(N, H, W)`` as the network sees their pictures; None where an image has none.

        Raises:
            EdgecError: ``bad-mask``.
        """
        if not images.has_masks:
            return None

        def read(sample: Sample) -> ClassMap:
            return read_truth(images.root, sample.file, sample.mask or "", images.coding, preprocess)

        with ThreadPoolExecutor(2) as pool:
            found = np.stack(list(pool.map(read, images.samples)))
        if (found == VOID).all():
            raise EdgecError("bad-mask", f"the masks of '{images.root}' are void alone", "check what their values mean")
        if set(np.unique(found).tolist()) == {0, VOID} and not images.coding.classes:
            message = f"the masks of '{images.root}' hold 0 and {VOID} alone, and {VOID} is void"
            hint = "if 255 is a class, say so in palette.csv: name,red,green,blue"
            raise EdgecError("bad-mask", message, hint)
        return found

    def check(self, images: Dataset, kept: Kept) -> None:
        """The network has a channel for every class of the data.

        Raises:
            EdgecError: ``class-mismatch``.
        """
        channels = max(kept[LOGITS].shape[1], 2) if LOGITS in kept else VOID
        if len(images.classes) > channels:
            message = f"'{images.root}' has {len(images.classes)} classes, and the network answers {channels}"
            raise EdgecError("class-mismatch", message, "use a network of these classes; a class named void counts not")

    def score(self, kept: Mapping[str, Kept], labels: Labels | None) -> Accuracy:
        """Mean IoU with masks; pixels that agree with the float network always.

        Raises:
            EdgecError: ``class-mismatch`` where a mask has a class that the network does not know.
        """
        maps = {form: values[CLASSES] for form, values in kept.items()}
        shipped = "target" if "target" in maps else "reference"
        alike = {form: _alike(values, maps["float"]) for form, values in maps.items()}
        number = _num_classes(kept["float"], maps, labels)
        near = {form: counted(maps["float"], values, number) for form, values in maps.items() if form != "float"}
        values = {form: float(found.mean_iou()[0]) for form, found in near.items()}
        unlabelled = Accuracy(
            task=self.name,
            metric="agreement",
            float=None,
            reference=None,
            target=None,
            drop_pp=None,
            agreement=float(alike[shipped].mean()),
            sqnr_db=None,
            num_images=len(maps["float"]),
            reference_agreement=float(alike["reference"].mean()),
            target_agreement=float(_alike(maps["target"], maps["reference"]).mean()) if shipped == "target" else None,
            agreement_spread=mean_spread(alike[shipped]),
            metrics={"mIoU with the float network %": values},
        )
        unlabelled = _with_fidelity(unlabelled, kept, shipped)
        return unlabelled if labels is None else _labelled(unlabelled, maps, labels, number, shipped)

    def pairs(self, before: Kept, after: Kept, labels: Labels) -> Drop | None:
        """The mean IoU that is lost from one to the other, with its interval."""
        maps = {"before": before[CLASSES], "after": after[CLASSES]}
        number = _num_classes(before, maps, labels)
        one, other = (counted(labels, said, number) for said in maps.values())
        return _drop(one, other)

    def write(
        self, path: Path, kept: Mapping[str, Kept], images: Dataset, preprocess: Preprocess, labelled: bool
    ) -> None:
        """Of each image its mean IoU by form and the pixels that agree; beside it ``examples/`` of a few images."""
        maps = {form: values[CLASSES] for form, values in kept.items()}
        images = replace(images, samples=images.samples[: len(maps["float"])])
        labels = self.truth(images, preprocess) if labelled else None
        number = _num_classes(kept["float"], maps, labels)
        columns: dict[str, list[float]] = {}
        if labels is not None:
            for form, said in maps.items():
                found = counted(labels, said, number)
                columns[f"{form}_miou"] = found.mean_iou(np.eye(len(said))).tolist()
        for form in maps.keys() - {"float"}:
            columns[f"{form}_pixel_agreement"] = _alike(maps[form], maps["float"]).tolist()
        names = sorted(columns)
        with path.open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(["file", "mask", *names])
            for i, sample in enumerate(images.samples):
                said_ = [f"{columns[name][i]:.4f}" if np.isfinite(columns[name][i]) else "" for name in names]
                rows.writerow([sample.file, sample.mask or "", *said_])
        _write_examples(path.parent / "examples", maps, images, preprocess, labels)

    def reply(self, kept: Kept, index: int, labels: Sequence[str], top: int, picture: Picture) -> Reply:
        """The share of pixels of the most frequent classes, the map, and the map over the picture."""
        said = kept[CLASSES][index]
        count = np.bincount(said.reshape(-1))
        order = [int(i) for i in np.argsort(-count, kind="stable")[:top] if count[i]]
        lines = tuple((class_name(i, labels), float(count[i] / said.size)) for i in order)
        pictures = {"classes": colored(said), "overlay": overlay(picture, said)}
        return Reply(lines, {CLASSES: said}, pictures)


def _alike(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Percent of equal pixels of each image ``(N,)``."""
    return np.array([100.0 * float(np.mean(a == b)) for a, b in zip(one, other, strict=True)])


def _num_classes(kept: Kept, maps: Mapping[str, npt.NDArray[Any]], labels: Labels | None) -> int:
    """Channels of the network, or where ArgMax hides them the classes that occur."""
    said = 1 + max(int(values.max(initial=0)) for values in maps.values())
    asked = 0 if labels is None else 1 + int(labels.max(initial=0, where=labels != VOID))
    if LOGITS not in kept:
        return max(said, asked)
    channels = max(int(kept[LOGITS].shape[1]), 2)
    if asked > channels:
        message = f"the masks have class {asked - 1}, expected fewer than {channels} classes"
        raise EdgecError("class-mismatch", message, "use a network that was trained for these classes")
    return max(channels, said)


def _with_fidelity(accuracy: Accuracy, kept: Mapping[str, Kept], shipped: str) -> Accuracy:
    """The ratio of signal to noise on the grid of logits; nothing where the network gives classes alone."""
    if LOGITS not in kept["float"]:
        return accuracy
    expected = kept["float"][LOGITS]
    sqnr = {form: metrics.finite(metrics.sqnr_db(values[LOGITS], expected)) for form, values in kept.items()}
    distance = np.abs(kept[shipped][LOGITS].astype(np.float64) - expected)
    cosine = metrics.cosine(kept[shipped][LOGITS], expected)
    fidelity = Fidelity(LOGITS, sqnr[shipped], cosine, float(distance.max(initial=0.0)))
    return replace(accuracy, sqnr_db=sqnr[shipped], reference_sqnr_db=sqnr["reference"], outputs=(fidelity,))


def _labelled(
    accuracy: Accuracy, maps: Mapping[str, npt.NDArray[Any]], labels: Labels, number: int, shipped: str
) -> Accuracy:
    counts = {form: counted(labels, said, number) for form, said in maps.items()}
    mean = {form: float(found.mean_iou()[0]) for form, found in counts.items()}
    edges = {form: float(boundary_counted(labels, said, number).mean_iou()[0]) for form, said in maps.items()}
    drop = _drop(counts["float"], counts[shipped])
    return replace(
        accuracy,
        metric="miou",
        float=mean["float"],
        reference=mean["reference"],
        target=mean.get("target"),
        drop_pp=drop.drop_pp,
        drop_spread=drop.spread,
        class_iou={form: tuple(found.iou()) for form, found in counts.items()},
        metrics={**accuracy.metrics, "boundary mIoU %": edges},
    )


def _drop(before: Counts, after: Counts) -> Drop:
    lost = float(before.mean_iou()[0] - after.mean_iou()[0])
    return Drop(lost, drop_spread(before, after), len(before.both))


def _write_examples(
    folder: Path,
    maps: Mapping[str, npt.NDArray[Any]],
    images: Dataset,
    preprocess: Preprocess,
    labels: Labels | None,
) -> None:
    """Input, truth where it is known, float, the shipped form and where these two differ, as one PNG each."""
    from PIL import Image

    shipped = maps.get("target", maps["reference"])
    folder.mkdir()
    for i, sample in enumerate(images.samples[:NUM_EXAMPLES]):
        picture = preprocess.rgb(read_image(images.root / sample.file, preprocess))
        shape = shipped[i].shape
        right = [] if labels is None else [colored(fitted(labels[i], shape))]
        panels = [picture, *right, colored(maps["float"][i]), colored(shipped[i])]
        panels.append(difference(maps["float"][i], shipped[i]))
        Image.fromarray(strip(panels)).save(folder / f"{i + 1}.png", optimize=True)


TASK: Task = Segmentation()
