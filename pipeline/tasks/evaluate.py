"""Accuracy of the float network, the QDQ reference and the compiled artifact on the same images."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from edgec.pipeline.core.progress import reporter
from edgec.pipeline.core.store import Artifact
from edgec.pipeline.data.dataset import Dataset, batches, check_classes
from edgec.pipeline.data.preprocess import Preprocess
from edgec.pipeline.forms.adapter import Predictor, load_adapter
from edgec.pipeline.forms.ort import OrtRunner
from edgec.pipeline.forms.spec import TargetSpec
from edgec.pipeline.tasks.metrics import agreement_percent, discordant, mcnemar_p, sqnr_db, topk_percent

BATCH_SIZE = 16
IMAGES_PER_PUSH = 128  # a device loads the runtime once per call: few calls, yet bounded memory

Logits = npt.NDArray[np.float32]
Number = float  # inside Accuracy, ``float`` is a field


@dataclass(frozen=True)
class Accuracy:
    """Rates in percent. Without labels the metric is the agreement with the float network and no top-1 is known.

    Attributes:
        metric: ``top1`` or ``agreement``.
        float: top-1 of the float network.
        reference: top-1 of the QDQ file, executed as written.
        target: top-1 of the compiled artifact, or None where it could not run here.
        drop_pp: float minus target (minus reference where the target did not run), in percentage points.
        agreement: same first class as float, of the target (of the reference where the target did not run).
        sqnr_db: of its logits against float; None where they are equal.
        target_agreement: same first class, target against reference.
        only_float_right: images that only the float network gets right.
        only_target_right: images that only the artifact gets right.
        mcnemar_p: two-sided exact McNemar test of those two counts.
    """

    metric: str
    float: Number | None
    reference: Number | None
    target: Number | None
    drop_pp: Number | None
    agreement: Number
    sqnr_db: Number | None
    num_images: int
    top5_float: Number | None = None
    top5_reference: Number | None = None
    top5_target: Number | None = None
    reference_agreement: Number | None = None
    reference_sqnr_db: Number | None = None
    target_agreement: Number | None = None
    only_float_right: int | None = None
    only_target_right: int | None = None
    mcnemar_p: Number | None = None


@dataclass(frozen=True)
class Evaluate:
    """Run three forms of one network over the test images: ``accuracy.json`` and ``logits.npz``.

    Attributes:
        target: names the runner.
        preprocess: how images become inputs.
        images: the test set; its content is an input of the stage.
        labelled: False where labels have no meaning for these weights (random ones).
    """

    target: TargetSpec
    preprocess: Preprocess
    images: Dataset = field(compare=False)
    labelled: bool = True

    version: ClassVar[int] = 2
    output: ClassVar[str] = "evaluation"

    @property
    def toolchain(self) -> tuple[str, ...]:
        """Both runtimes decide the logits."""
        return ("onnxruntime", "pillow", *load_adapter(self.target.compiler).TOOLCHAIN)

    def run(self, output: Path, *inputs: Artifact) -> None:
        """Evaluate ``inputs`` = (float ONNX, QDQ folder, artifact, test set).

        Raises:
            EdgecError: ``class-mismatch``, ``unreadable-image``.
        """
        fp32, qdq, binary, _ = inputs
        adapter, threads = load_adapter(self.target.compiler), os.cpu_count() or 1
        runners: dict[str, Predictor] = {
            "float": OrtRunner(fp32.path, threads),
            "reference": OrtRunner(qdq.path / "model.onnx", threads, as_written=True),
        }
        if adapter.probe(self.target).can_run:
            runners["target"] = adapter.open_runner(binary.path, self.target, threads)
        logits = predict_all(runners, self.images, self.preprocess)
        check_classes(self.images, logits["float"].shape[1])
        labels = self.images.labels if self.labelled else None
        output.mkdir()
        np.savez(output / "logits.npz", **logits)  # type: ignore[arg-type]  # numpy's stub mistakes names for its flag
        (output / "accuracy.json").write_text(json.dumps(asdict(compare(logits, labels)), indent=1))


def predict_all(
    runners: Mapping[str, Predictor], images: Dataset, preprocess: Preprocess, batch_size: int = BATCH_SIZE
) -> dict[str, Logits]:
    """Decode every image once and give it to every runner; logits ``(N, classes)`` by runner's name."""
    outputs: dict[str, list[Logits]] = {name: [] for name in runners}
    report, done = reporter("evaluate"), 0
    for batch in batches(images, preprocess, batch_size):
        for name, runner in runners.items():
            outputs[name].append(runner.predict(batch))
        done += len(batch)
        report(done, len(images))
    return {name: np.concatenate(parts).reshape(len(images), -1) for name, parts in outputs.items()}


def compare(logits: dict[str, Logits], labels: npt.NDArray[np.int64] | None) -> Accuracy:
    """Judge the quantized forms by the float one, and by the labels where there are any."""
    shipped, expected = logits.get("target", logits["reference"]), logits["float"]
    unlabelled = Accuracy(
        metric="agreement",
        float=None,
        reference=None,
        target=None,
        drop_pp=None,
        agreement=agreement_percent(shipped, expected),
        sqnr_db=_finite(sqnr_db(shipped, expected)),
        num_images=len(shipped),
        reference_agreement=agreement_percent(logits["reference"], expected),
        reference_sqnr_db=_finite(sqnr_db(logits["reference"], expected)),
        target_agreement=agreement_percent(shipped, logits["reference"]) if "target" in logits else None,
    )
    if labels is None:
        return unlabelled
    top1 = {name: topk_percent(values, labels) for name, values in logits.items()}
    top5 = {name: topk_percent(values, labels, 5) for name, values in logits.items()}
    only_target, only_float = discordant(shipped, expected, labels)
    return replace(
        unlabelled,
        metric="top1",
        float=top1["float"],
        reference=top1["reference"],
        target=top1.get("target"),
        drop_pp=top1["float"] - top1.get("target", top1["reference"]),
        top5_float=top5["float"],
        top5_reference=top5["reference"],
        top5_target=top5.get("target"),
        only_float_right=only_float,
        only_target_right=only_target,
        mcnemar_p=mcnemar_p(only_target, only_float),
    )


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
