"""Puts the fewest layers back into float that keep the accuracy drop within what was asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import onnx

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.data.dataset import Dataset
from edgec.pipeline.data.preprocess import Preprocess
from edgec.pipeline.forms.answer import ask
from edgec.pipeline.forms.form import FLOAT, REFERENCE, Form, float_form, reference_form
from edgec.pipeline.quantize.quantizer import QuantizedModel
from edgec.pipeline.quantize.sensitivity import Sensitivity
from edgec.pipeline.tasks.task import Kept, Labels, Shape, Task


@dataclass(frozen=True)
class Fallback:
    """What had to stay in float.

    Attributes:
        floats: nodes by name and why.
        drop_pp: of the network with them, on the images that decided.
        num_layers: of the ranking; a layer takes the readers of its tensor with it.
        held: whether the drop is within the limit; False only where even the whole ranking in float does not hold it.
    """

    floats: Mapping[str, str]
    drop_pp: float
    num_layers: int
    held: bool


def fall_back(
    ranked: Sequence[Sensitivity],
    drop_pp: Callable[[Mapping[str, str]], float],
    max_drop_pp: float,
) -> Fallback:
    """Exclude the most sensitive layers: 0, 1, 2, 4, ... until the drop holds, then the fewest between the last two.

    Args:
        ranked: most sensitive first; empty where no layer may be in float.
        drop_pp: accuracy lost with these nodes in float; each call quantizes and evaluates.
    """
    tried: dict[int, float] = {}

    def drop(count: int) -> float:
        if count not in tried:
            tried[count] = drop_pp(excluded(ranked[:count]))
        return tried[count]

    low, high = -1, 0
    while drop(high) > max_drop_pp and high < len(ranked):
        low, high = high, min(max(1, 2 * high), len(ranked))
    while high - low > 1 and drop(high) <= max_drop_pp:
        middle = (low + high) // 2
        low, high = (low, middle) if drop(middle) <= max_drop_pp else (middle, high)
    return Fallback(excluded(ranked[:high]), drop(high), high, drop(high) <= max_drop_pp)


def excluded(ranked: Sequence[Sensitivity]) -> dict[str, str]:
    """The nodes to keep in float for these layers: their own, and those that read the tensor they store."""
    floats: dict[str, str] = {}
    for entry in ranked:
        reason = f"sensitive: alone it leaves {entry.sqnr_db:.1f} dB at the output"
        if entry.layer.op != "input":
            floats[entry.layer.name] = reason
        for reader in entry.layer.readers:
            floats.setdefault(reader, f"reads '{entry.layer.tensor}', which {entry.layer.name} leaves in float")
    return floats


@dataclass
class Judge:
    """Top-1 that a quantized network loses on the deciding images; disagreement with float where they have no labels.

    Attributes:
        fp32: float ONNX.
        scratch: where a quantized network is put to be executed.
        images: neither calibrating nor testing.
    """

    fp32: Path
    scratch: Path
    images: Dataset
    preprocess: Preprocess
    task: Task
    outputs: tuple[Shape, ...]
    _expected: Kept | None = field(default=None, init=False)
    _labels: Labels | None = field(default=None, init=False)

    def drop_pp(self, model: onnx.ModelProto) -> float:
        """Percentage points, each Q/DQ executed as written.

        Raises:
            EdgecError: ``no-drop`` for tasks without right answers.
        """
        if self._expected is None:
            self._expected = self._ask(float_form(), self.fp32)
            self._labels = self.task.truth(self.images, self.preprocess)
        onnx.save(model, self.scratch)
        actual = self._ask(reference_form(), self.scratch)
        accuracy = self.task.score({FLOAT: self._expected, REFERENCE: actual}, self._labels)
        if accuracy.agreement is None:
            hint = "leave --max-drop-pp away"
            raise EdgecError("no-drop", f"the task '{self.task.name}' knows no drop that could be held", hint)
        return 100.0 - accuracy.agreement if accuracy.drop_pp is None else accuracy.drop_pp

    def _ask(self, form: Form, network: Path) -> Kept:
        return ask(form.open(network), self.images, self.preprocess, self.task, self.outputs, form.batch_size)


def hold_drop(
    quantize: Callable[[Mapping[str, str]], QuantizedModel],
    ranked: Sequence[Sensitivity],
    judge: Judge,
    max_drop_pp: float,
) -> tuple[QuantizedModel, Fallback]:
    """Quantize with the fewest sensitive layers in float that hold the drop.

    Args:
        quantize: makes the network with these nodes in float.
        ranked: as in ``fall_back``.

    Raises:
        EdgecError: ``drop-not-held``.
    """
    found = fall_back(ranked, lambda floats: judge.drop_pp(quantize(floats).model), max_drop_pp)
    if not found.held:
        form = "all layers in float" if ranked else "all in integers, as the target computes"
        message = f"the drop is {found.drop_pp:.2f} pp with {form}, expected at most {max_drop_pp:g}"
        hint = "allow more with --max-drop-pp, give more images, or try --quantizer accurate"
        raise EdgecError("drop-not-held", message, hint)
    return quantize(found.floats), found
