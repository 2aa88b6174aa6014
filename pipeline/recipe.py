"""One immutable request: what, with which weights, on which data, for which target."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.progress import reporter
from edgec.pipeline.data.bundled import bundled_data
from edgec.pipeline.data.dataset import Dataset, open_dataset, open_splits, split_off_deciding
from edgec.pipeline.data.preprocess import Preprocess
from edgec.pipeline.forms.compiler import settings_of
from edgec.pipeline.forms.scheme import Level
from edgec.pipeline.forms.spec import Precision, TargetSpec, load_target, with_precision
from edgec.pipeline.network import models
from edgec.pipeline.network.model_file import describe_onnx as describe_onnx
from edgec.pipeline.network.models.spec import NetworkConfig, Padding, at_resolution
from edgec.pipeline.network.models.weights import Weights, resolve_weights
from edgec.pipeline.quantize.stages import DropLimit

Asked = Literal[Precision, "auto"]
"""A precision, or that edgec is to find out which one pays."""

LEARN_MINUTES = 3.0

RANDOM_NOTE = "random weights: accuracy is agreement with the float network only"


GIVEN_NOTE = "taken as quantized: 'float' is the network with its Q/DQ removed"


@dataclass(frozen=True)
class TorchSource:
    """A network defined in edgec, and its weights."""

    config: NetworkConfig
    weights: Weights


@dataclass(frozen=True)
class OnnxSource:
    """A user's own network.

    Attributes:
        is_quantized: it brings Q/DQ pairs along, whose parameters are kept.
    """

    path: Path
    is_quantized: bool = False


@dataclass(frozen=True)
class Choices:
    """What a user may ask for beside model, target and data; None leaves it to the weights."""

    weights: str | None = None
    width_multiplier: float | None = None
    input_px: int | None = None
    num_classes: int | None = None
    padding: Padding | None = None
    output_stride: int | None = None
    argmax: bool | None = None

    def given(self) -> list[str]:
        """Options that were set, as they are typed."""
        return [f"--{name.replace('_', '-')}" for name, value in vars(self).items() if value is not None]


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a bundle but the machine.

    Attributes:
        name: of the model, as the bundle calls it.
        weights: how ``result.json`` names the weights.
        source: where the float network comes from.
        labels: class names by index; empty where nobody named them.
        labelled: False where labels mean nothing for these weights; accuracy is then agreement with float.
        task: what the outputs are for; None lets them tell.
        quantizer: how much work quantization may do.
        learn_minutes: how long ``best`` learns; None of the other levels.
        limit: of what it may cost before layers go back into float.
        input_notes: what was assumed of how images become inputs, or moved into that.
    """

    name: str
    weights: str
    source: TorchSource | OnnxSource
    target: TargetSpec
    preprocess: Preprocess
    calibration: Dataset
    test: Dataset
    labels: tuple[str, ...] = ()
    labelled: bool = True
    task: str | None = None
    quantizer: Level = "fast"
    learn_minutes: float | None = None
    limit: DropLimit | None = None
    input_notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        given = isinstance(self.source, OnnxSource) and self.source.is_quantized
        scheme = self.target.scheme
        if given and (not scheme.integer_operators or scheme.prefix):
            kept = "its own Q/DQ say what is float" if scheme.prefix else "nothing is"
            message = f"'{self.name}' is quantized, and {kept} in the precision '{self.target.precision}'"
            raise EdgecError("quantizer-does-not-fit", message, "give edgec the float network")

    @property
    def notes(self) -> tuple[str, ...]:
        """What every output must say about this request."""
        random = () if self.labelled else (RANDOM_NOTE,)
        return (*random, *self.input_notes, *((GIVEN_NOTE,) if self.quantizer == "as-given" else ()))

    @cached_property
    def settings(self) -> Any:
        """What the compiler reads of the board: its own frozen dataclass.

        Raises:
            EdgecError: ``bad-board``, ``unknown-compiler``.
        """
        return settings_of(self.target)


@dataclass(frozen=True)
class _Network:
    """The part of a recipe that the model argument decides."""

    name: str
    weights: str
    source: TorchSource | OnnxSource
    preprocess: Preprocess
    labels: tuple[str, ...] = ()
    has_own_data: bool = False
    input_notes: tuple[str, ...] = ()
    task: str | None = None


@dataclass(frozen=True)
class DataFolders:
    """Folders of images as given: one for both purposes, or one each."""

    data: Path | None = None
    calibration: Path | None = None
    test: Path | None = None


def make_recipe(
    model: str,
    target: str,
    folders: DataFolders,
    choices: Choices,
    calibration_samples: int,
    quantizer: Level | None = None,
    precision: Asked | None = None,
    max_drop_pp: float | None = None,
    task: str | None = None,
    learn_minutes: float | None = None,
) -> Recipe:
    """Resolve names and files to a request that can be run; reads no tensor and no image.

    Args:
        quantizer: None is ``fast``, and ``as-given`` for a network that brings Q/DQ pairs along.
        precision: None is the board's own, with which ``auto`` begins.
        learn_minutes: None is ``LEARN_MINUTES`` of ``best``.
        max_drop_pp: limit of the drop; half of the test images then decide, and accuracy is that on the other half.

    Raises:
        EdgecError: ``unknown-model``, ``unknown-target``, ``no-such-file``, ``bad-model-file``, ``data-needed``,
            ``conflicting-data``, ``class-mismatch``, ``option-not-for-onnx``, ``unsupported-precision``,
            ``quantizer-does-not-fit``, ``empty-data`` and what weights and data raise.
    """
    board = load_target(target)
    board = board if precision is None or precision == "auto" else with_precision(board, precision)
    network = _network(model, choices)
    calibration, test = _data(folders, network)
    check_names(network.labels, test)
    level, limit = _level(quantizer, network), None
    minutes = minutes_to_learn(learn_minutes, level)
    if max_drop_pp is not None:
        deciding, test = split_off_deciding(test)
        limit = DropLimit(max_drop_pp, deciding)
    return Recipe(
        name=network.name,
        weights=network.weights,
        source=network.source,
        target=board,
        preprocess=network.preprocess,
        calibration=calibration.take(calibration_samples),
        test=test,
        labels=network.labels or test.classes,
        labelled=network.weights != "random",
        quantizer=level,
        learn_minutes=minutes,
        limit=limit,
        input_notes=network.input_notes,
        task=task or network.task,
    )


def network_recipe(model: str, choices: Choices) -> Recipe:
    """A request without images or a board, for what needs the float network alone.

    Raises:
        EdgecError: as ``make_recipe``, data apart.
    """
    network, none = _network(model, choices), Dataset(Path(), ())
    return Recipe(
        name=network.name,
        weights=network.weights,
        source=network.source,
        target=load_target("onnxruntime"),
        preprocess=network.preprocess,
        calibration=none,
        test=none,
        labels=network.labels,
        task=network.task,
    )


def _network(model: str, choices: Choices) -> _Network:
    return _onnx(Path(model), choices) if Path(model).suffix in (".onnx", ".toml") else _torch(model, choices)


def _level(asked: Level | None, network: _Network) -> Level:
    """How hard the quantizer tries: not at all where the network is quantized."""
    given = isinstance(network.source, OnnxSource) and network.source.is_quantized
    if given and asked not in (None, "as-given"):
        message = f"--quantizer {asked} would change the parameters that '{network.name}' brings along"
        hint = "leave --quantizer away: its own are kept; or give edgec the float network"
        raise EdgecError("quantizer-does-not-fit", message, hint)
    if asked == "as-given" and not given:
        message = f"'{network.name}' brings no Q/DQ pairs along that could be kept"
        raise EdgecError("quantizer-does-not-fit", message, "leave --quantizer away, or choose 'fast'")
    return "as-given" if given else asked or "fast"


def minutes_to_learn(asked: float | None, level: Level) -> float | None:
    """How long a level learns; None where it does not.

    Raises:
        EdgecError: ``quantizer-does-not-fit``.
    """
    if level == "best":
        return LEARN_MINUTES if asked is None else asked
    if asked is not None:
        message = f"--learn-minutes {asked:g} says how long the quantizer 'best' learns; this is '{level}'"
        raise EdgecError("quantizer-does-not-fit", message, "add --quantizer best, or leave --learn-minutes away")
    return None


def _torch(model: str, choices: Choices) -> _Network:
    spec = models.get(model)
    weights = resolve_weights(choices.weights, spec, progress=reporter("download"))
    config = weights.network_config(
        width_multiplier=choices.width_multiplier,
        input_px=choices.input_px,
        num_classes=choices.num_classes,
        padding=choices.padding,
        output_stride=choices.output_stride,
        argmax=bool(choices.argmax),
    )
    preprocess = weights.preprocess
    if config.input_px is not None and config.input_px != preprocess.shape[1]:
        preprocess = at_resolution(preprocess, config.input_px)
    return _Network(
        name=spec.name,
        weights=weights.name,
        source=TorchSource(config, weights),
        preprocess=preprocess,
        labels=weights.labels or (),
        has_own_data=weights.kind in ("bundled", "random"),
        task=spec.task,
    )


def _onnx(path: Path, choices: Choices) -> _Network:
    if given := choices.given():
        hint = "an ONNX file carries its own weights and shape"
        raise EdgecError("option-not-for-onnx", f"{given[0]} does not apply to '{path}'", hint)
    from edgec.pipeline.network.import_onnx import has_pairs

    description = describe_onnx(path)
    return _Network(
        path.stem,
        str(description.onnx),
        OnnxSource(description.onnx, has_pairs(description.onnx)),
        description.preprocess,
        description.labels,
        input_notes=description.notes,
        task=description.task,
    )


def _data(folders: DataFolders, network: _Network) -> tuple[Dataset, Dataset]:
    if (folders.calibration is None) != (folders.test is None) or (folders.data and folders.calibration):
        raise EdgecError(
            "conflicting-data",
            "data folders do not fit together",
            "give --data, or --calibration-data with --test-data",
        )
    if folders.calibration and folders.test:
        return open_dataset(folders.calibration, "calibration"), open_dataset(folders.test)
    if folders.data:
        return open_splits(folders.data)
    if not network.has_own_data:
        hint = "give images as data (--data); unlabelled ones will do for calibration and agreement"
        own = "" if isinstance(network.source, OnnxSource) else f" with weights '{network.weights}'"
        raise EdgecError("data-needed", f"no images are bundled for '{network.name}'{own}", hint)
    return bundled_data(network.task)


def check_names(labels: tuple[str, ...], test: Dataset) -> None:
    """Where both network and data name their classes, the names must be the same in the same order.

    Raises:
        EdgecError: ``class-mismatch``.
    """
    for index, (ours, theirs) in enumerate(zip(labels, test.classes, strict=False)):
        if theirs and ours != theirs:
            raise EdgecError(
                "class-mismatch",
                f"class {index} is '{ours}' for the weights and '{theirs}' in '{test.root}'",
                "use weights trained for these classes, or a data set of the network's classes",
            )
