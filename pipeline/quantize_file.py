"""``edgec quantize``: float ONNX in, QDQ ONNX out, judged on images that did not calibrate it."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.store import Artifact, Store, source
from edgec.pipeline.data.dataset import check_classes, open_splits, split_off_deciding
from edgec.pipeline.forms.adapter import Predictor
from edgec.pipeline.forms.ort import OrtRunner
from edgec.pipeline.forms.scheme import load_scheme
from edgec.pipeline.network.import_onnx import ImportOnnx
from edgec.pipeline.network.simplify import Simplify
from edgec.pipeline.quantize.stages import Calibrate, DropLimit, Quantize
from edgec.pipeline.recipe import ASSUMED_NOTE, Level, check_names, describe_onnx
from edgec.pipeline.tasks.evaluate import Logits, compare, predict_all
from edgec.pipeline.tasks.metrics import topk_percent


@dataclass(frozen=True)
class Fidelity:
    """One way to execute the quantized network, against the float network; rates in percent.

    Attributes:
        agreement: images with the same first class.
        sqnr_db: of the logits; None where they are equal.
        top1: None without labels.
        drop_pp: float's top-1 minus this one, in percentage points; None without labels.
    """

    agreement: float
    sqnr_db: float | None
    top1: float | None
    drop_pp: float | None


@dataclass(frozen=True)
class QuantizedFile:
    """What was written and what it is worth.

    Attributes:
        output: the QDQ file.
        num_calibration: images that calibrated.
        num_images: other images, on which it was judged.
        top1_float: in percent; None without labels.
        reference: the file executed as written.
        vnni_off: the file on x86 without VNNI; None where it was not asked for.
        float_layers: ``{"layer": ..., "reason": ...}`` of each node left in float.
    """

    output: str
    scheme: str
    quantizer: Level
    num_calibration: int
    num_images: int
    top1_float: float | None
    reference: Fidelity
    vnni_off: Fidelity | None
    float_layers: list[dict[str, str]]
    notes: tuple[str, ...]


def quantize_file(
    model: Path,
    scheme: str,
    level: Level,
    data: Path,
    output: Path,
    store: Store,
    calibration_samples: int = 256,
    vnni_off: bool = False,
    max_drop_pp: float | None = None,
) -> QuantizedFile:
    """Quantize ``model`` (ONNX or ``model.toml``) with one part of ``data`` and compare on the other.

    Args:
        output: the QDQ file to write.
        vnni_off: execute it as x86 without VNNI as well.
        max_drop_pp: put layers back into float until top-1 (agreement where images have no labels) drops by no more
            than this. Half of the other part of ``data`` decides, and the figures are of the other half.

    Raises:
        EdgecError: ``unknown-scheme``, ``drop-not-held``, ``output-is-input``, ``output-not-writable``,
            ``class-mismatch``, and what ``describe_onnx``, ``open_splits`` and the stages raise.
    """
    rules, description = load_scheme(scheme), describe_onnx(model)
    if output.resolve() == Path(description.onnx).resolve():
        raise EdgecError("output-is-input", f"'{output}' is the float network", "name another file with --output")
    everything, test = open_splits(data)
    check_names(description.labels, test)
    calibration, preprocess = everything.take(calibration_samples), description.preprocess
    images = calibration.artifact()

    fp32 = store.run(Simplify(), store.run(ImportOnnx(), source(Path(description.onnx))))
    statistics = store.run(Calibrate(preprocess, calibration), fp32, images)
    limit: DropLimit | None = None
    others: tuple[Artifact, ...] = ()
    if max_drop_pp is not None:
        deciding, test = split_off_deciding(test)
        limit, others = DropLimit(max_drop_pp, deciding), (deciding.artifact(),)
    quantize = Quantize(rules, level, preprocess, calibration, description.labels or test.classes, limit)
    qdq = store.run(quantize, fp32, statistics, images, *others).path

    logits = predict_all(_runners(fp32.path, qdq / "model.onnx", vnni_off), test, preprocess)
    check_classes(test, logits["float"].shape[1])
    labels = test.labels
    _copy(qdq / "model.onnx", output)
    return QuantizedFile(
        output=str(output),
        scheme=rules.name,
        quantizer=level,
        num_calibration=len(calibration),
        num_images=len(test),
        top1_float=None if labels is None else topk_percent(logits["float"], labels),
        reference=_fidelity(logits, "reference", labels),
        vnni_off=_fidelity(logits, "vnni_off", labels) if vnni_off else None,
        float_layers=json.loads((qdq / "report.json").read_text())["float_layers"],
        notes=() if model.suffix == ".toml" else (ASSUMED_NOTE,),
    )


def _runners(fp32: Path, qdq: Path, vnni_off: bool) -> dict[str, Predictor]:
    threads = os.cpu_count() or 1
    runners: dict[str, Predictor] = {
        "float": OrtRunner(fp32, threads),
        "reference": OrtRunner(qdq, threads, as_written=True),
    }
    if vnni_off:
        from edgec.pipeline.quantize.vnni import SaturatingRunner

        runners["vnni_off"] = SaturatingRunner(qdq)
    return runners


def _copy(qdq: Path, output: Path) -> None:
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(qdq, output)
    except OSError as error:
        message = f"cannot write '{output}': {error.strerror}"
        raise EdgecError("output-not-writable", message, "choose another --output") from error


def _fidelity(logits: dict[str, Logits], name: str, labels: npt.NDArray[np.int64] | None) -> Fidelity:
    accuracy = compare({"float": logits["float"], "reference": logits[name]}, labels)
    return Fidelity(accuracy.agreement, accuracy.sqnr_db, accuracy.reference, accuracy.drop_pp)
