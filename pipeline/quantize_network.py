"""``edgec quantize`` and ``edgec sensitivity``: the stages of a build up to the QDQ file, and what it is worth."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgec.pipeline.build import Build
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.json_file import read_record
from edgec.pipeline.core.stage import Artifact
from edgec.pipeline.core.store import Store
from edgec.pipeline.data.dataset import batches
from edgec.pipeline.forms.answer import Answer, judged, read_answers
from edgec.pipeline.forms.form import FLOAT, REFERENCE, Form, float_form, reference_form
from edgec.pipeline.forms.ort import OrtRunner
from edgec.pipeline.forms.scheme import Level, load_scheme
from edgec.pipeline.forms.spec import load_target
from edgec.pipeline.quantize.record import FloatLayer, QuantizationRecord
from edgec.pipeline.quantize.sensitivity import Sensitivity
from edgec.pipeline.quantize.stages import read_ranking
from edgec.pipeline.quantize.vnni import SaturatingForm
from edgec.pipeline.recipe import Choices, DataFolders, OnnxSource, Recipe, make_recipe
from edgec.pipeline.tasks.accuracy import Accuracy
from edgec.pipeline.tasks.metrics import answers, finite, right_percent, sqnr_db
from edgec.pipeline.tasks.task import Kept


@dataclass(frozen=True)
class Fidelity:
    """One execution of the quantized network beside the float one.

    Attributes:
        agreement: same answer, in percent; None for tensors.
        sqnr_db: of the worst output; None where equal.
        top1: in percent; None without labels.
        drop_pp: float's top-1 minus this one, in percentage points; None without labels.
    """

    agreement: float | None
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
        float_layers: each node left in float.
    """

    output: str
    scheme: str
    quantizer: Level
    num_calibration: int
    num_images: int
    top1_float: float | None
    reference: Fidelity
    vnni_off: Fidelity | None
    float_layers: tuple[FloatLayer, ...]
    notes: tuple[str, ...]


def scheme_recipe(
    model: str,
    scheme: str,
    folders: DataFolders,
    calibration_samples: int,
    level: Level | None = None,
    max_drop_pp: float | None = None,
    *,
    choices: Choices | None = None,
    task: str | None = None,
    learn_minutes: float | None = None,
) -> Recipe:
    """The request of a build for no board: the scheme alone decides. Arguments as those of ``make_recipe``.

    Raises:
        EdgecError: ``unknown-scheme``; what ``make_recipe`` raises.
    """
    rules, board = load_scheme(scheme), load_target("onnxruntime")
    recipe = make_recipe(
        model,
        board.name,
        folders,
        choices or Choices(),
        calibration_samples,
        level,
        None,
        max_drop_pp,
        task,
        learn_minutes,
    )
    return replace(recipe, target=replace(board, scheme=rules))


def usual_file(recipe: Recipe, scheme: str) -> Path:
    """What is written when nobody says where.

    Args:
        scheme: by name or as a TOML file.
    """
    return Path("edgec-out") / f"{recipe.name}-{Path(scheme).stem}.onnx"


def quantize_network(recipe: Recipe, output: Path, store: Store, vnni_off: bool = False) -> QuantizedFile:
    """Quantize, write the QDQ file, and compare it with the float network on the test images.

    Args:
        output: the QDQ file to write.
        vnni_off: execute it as x86 without VNNI as well.

    Raises:
        EdgecError: ``output-is-input``, ``output-not-writable``, and whatever a stage raises.
    """
    if isinstance(recipe.source, OnnxSource) and output.resolve() == recipe.source.path.resolve():
        raise EdgecError("output-is-input", f"'{output}' is the network itself", "name another file with --output")
    made = Build(recipe, store)
    images = judged(recipe.test, made.task, made.outputs)
    forms: dict[str, tuple[Form, Artifact]] = {
        FLOAT: (float_form(), made.fp32),
        REFERENCE: (reference_form(), made.qdq),
    }
    if vnni_off:
        forms["vnni_off"] = (SaturatingForm(), made.qdq)
    kept: dict[str, Kept] = {}
    for name, (form, network) in forms.items():
        answer = Answer(form, made.task, recipe.preprocess, made.outputs, images)
        kept[name] = read_answers(store.run(answer, network, images.artifact()).path)
    made.task.check(images, kept[FLOAT])
    labels = made.task.truth(images, recipe.preprocess) if recipe.labelled else None
    found = {
        name: made.task.score({FLOAT: kept[FLOAT], REFERENCE: said}, labels)
        for name, said in kept.items()
        if name != FLOAT
    }
    record = read_record(QuantizationRecord, made.qdq.path / "report.json", "corrupt-artifact")
    _copy(made.qdq.path / "model.onnx", output)
    return QuantizedFile(
        output=str(output),
        scheme=recipe.target.scheme.name,
        quantizer=recipe.quantizer,
        num_calibration=len(recipe.calibration),
        num_images=len(images),
        top1_float=found[REFERENCE].float,
        reference=_fidelity(found[REFERENCE]),
        vnni_off=_fidelity(found["vnni_off"]) if vnni_off else None,
        float_layers=record.float_layers,
        notes=(*recipe.notes, *(told.words() for told in (record.kept, record.given) if told)),
    )


def rank_layers(recipe: Recipe, store: Store) -> tuple[Sensitivity, ...]:
    """Every layer with the output's SQNR where it alone is quantized, the worst first.

    Raises:
        EdgecError: whatever a stage raises.
    """
    return read_ranking(Build(recipe, store).ranking.path)


@dataclass(frozen=True)
class Chaos:
    """How far a quantized network is from itself: the same file by two arithmetics that no runtime tells apart.

    Roundings that fall the other way grow from layer to layer; no figure of an artifact is surer than this.

    Attributes:
        sqnr_db: of the worst output; None where both give the same.
        agreement: images with the same first class, in percent; None for other tasks than classification.
        num_images: calibration images that were asked.
    """

    sqnr_db: float | None
    agreement: float | None
    num_images: int

    def words(self) -> str:
        """For people."""
        if self.sqnr_db is None:
            return f"under equivalent arithmetic it answers the same, on {self.num_images} images"
        agreed = "" if self.agreement is None else f", {self.agreement:.1f} % of the answers are the same"
        return (
            f"under equivalent arithmetic it is {self.sqnr_db:.1f} dB from itself{agreed}, on {self.num_images} images"
        )


CHAOS_IMAGES = 64


def chaos(recipe: Recipe, store: Store) -> Chaos:
    """Execute the QDQ file as written, its scales in front of the sums and behind them, on calibration images.

    Raises:
        EdgecError: whatever a stage raises.
    """
    made = Build(recipe, store)
    images = np.concatenate(list(batches(recipe.calibration.take(CHAOS_IMAGES), recipe.preprocess)))
    path = made.qdq.path / "model.onnx"
    one, other = (OrtRunner(path, as_written=True, integer_sums=sums).predict(images) for sums in (True, False))
    worst = min(sqnr_db(ours, theirs) for ours, theirs in zip(one, other, strict=True))
    same = None
    if made.task.name == "classification":
        said = [answers(outputs[0].reshape(len(images), -1)) for outputs in (one, other)]
        same = right_percent(*said)
    return Chaos(finite(worst), same, len(images))


def _copy(qdq: Path, output: Path) -> None:
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(qdq, output)
    except OSError as error:
        message = f"cannot write '{output}': {error.strerror}"
        raise EdgecError("output-not-writable", message, "choose another --output") from error


def _fidelity(accuracy: Accuracy) -> Fidelity:
    return Fidelity(accuracy.agreement, accuracy.sqnr_db, accuracy.reference, accuracy.drop_pp)
