"""Options that several commands share, and how they become a recipe."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, get_args

import click
from click.core import ParameterSource
from click.types import StringParamType

from edgec.pipeline.core.toml_file import is_file_name
from edgec.pipeline.forms.scheme import Level

if TYPE_CHECKING:
    from edgec.pipeline.network.models.spec import Padding
    from edgec.pipeline.recipe import Asked, Choices, Recipe

F = TypeVar("F", bound=Callable[..., Any])

FOLDER = click.Path(path_type=Path)


class NameOrFile(StringParamType):
    """A name that edgec knows, or a file."""

    def anchored(self, value: str, beside: Callable[[str], str]) -> str:
        """``value`` with its path, where it is one, as ``beside`` puts it."""
        return beside(value) if is_file_name(value) else value


@dataclass(frozen=True)
class NamedPath(StringParamType):
    """``NAME=PATH``, or one of the two alone.

    Attributes:
        alone_is_path: which one.
    """

    alone_is_path: bool

    def anchored(self, value: str, beside: Callable[[str], str]) -> str:
        """``value`` with its path, where there is one, as ``beside`` puts it."""
        name, equals, path = value.partition("=")
        if equals:
            return f"{name}={beside(path)}"
        return beside(value) if self.alone_is_path else value

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        """The text as it is; an end that is empty is a slip, such as a variable that is not set."""
        if not all(part.strip() for part in str(value).split("=", 1)):
            self.fail(f"'{value}' has an empty name or path", parameter, context)
        return super().convert(value, parameter, context)


class Finite(click.FloatRange):
    """A number of a range, which neither ``nan`` nor ``inf`` is."""

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        """A float."""
        found = super().convert(value, parameter, context)
        if not isfinite(found):
            self.fail(f"{value!r} is no finite number", parameter, context)
        return found


class Words(StringParamType):
    """Text with something in it."""

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        """The text as it is."""
        if not str(value).strip():
            self.fail("it is empty", parameter, context)
        return super().convert(value, parameter, context)


WORDS = Words()
NAME_OR_FILE = NameOrFile()


class OneOrOther(click.Option):
    """An option that makes way for its rivals where these were given nearer to the command line.

    The command line comes before the environment, and this before a file of options: ``--calibration-data`` there puts
    ``data`` of the file out.
    """

    rivals: ClassVar = {
        "data": ("calibration_data", "test_data"),
        "calibration_data": ("data",),
        "test_data": ("data",),
    }

    def consume_value(self, ctx: click.Context, opts: Any) -> tuple[Any, ParameterSource]:
        """As click finds it, or nothing."""
        value, source = super().consume_value(ctx, opts)
        rivals = [option for option in ctx.command.params if option.name in self.rivals.get(self.name or "", ())]
        nearest = [ParameterSource.COMMANDLINE] if any(option.name in opts for option in rivals) else []
        if any(option.value_from_envvar(ctx) is not None for option in rivals):
            nearest.append(ParameterSource.ENVIRONMENT)
        if source in NEARNESS and any(NEARNESS.index(near) < NEARNESS.index(source) for near in nearest):
            return None, ParameterSource.DEFAULT
        return value, source


NEARNESS = (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT, ParameterSource.DEFAULT_MAP)

_MODEL = click.argument("model")

_WEIGHTS = click.option(
    "--weights", type=NAME_OR_FILE, help="Name ('parts', 'imagenet', 'random'), .safetensors, .pth or card .toml."
)

_NETWORK_OPTIONS = (
    click.option("--width-multiplier", type=Finite(min=0.0, min_open=True), help="Factor on every layer's channels."),
    click.option("--input-px", type=click.IntRange(min=32), help="Side of the input image."),
    click.option("--num-classes", type=click.IntRange(min=1), help="Length of the network's answer."),
    click.option("--output-stride", type=click.Choice(["8", "16"]), help="Of a segmentation network's encoder."),
    click.option("--argmax", is_flag=True, default=None, help="Answer with classes inside the graph, not with logits."),
    click.option("--padding", type=click.Choice(["torch", "tf-same"]), help="Where an odd row of padding goes."),
)
"""What ``Choices`` holds beside the weights."""

_FOLDER_OPTIONS = (
    click.option(
        "--data",
        type=FOLDER,
        cls=OneOrOther,
        help="Images for calibration and test: folder per class, labels.csv, or unlabelled.",
    ),
    click.option(
        "--calibration-data", type=FOLDER, cls=OneOrOther, help="Images for calibration only; needs --test-data."
    ),
    click.option(
        "--test-data", type=FOLDER, cls=OneOrOther, help="Images for accuracy only; needs --calibration-data."
    ),
)

_DATA_OPTIONS = (
    *_FOLDER_OPTIONS,
    click.option(
        "--calibration-samples", type=click.IntRange(min=1), default=256, show_default=True, help="At most this many."
    ),
    click.option(
        "--task", help="What the outputs are for: classification, segmentation, tensors; the outputs tell by default."
    ),
)
"""Images, and what is asked of the network about them."""

_QUANTIZER_OPTIONS = (
    click.option(
        "--quantizer", type=click.Choice(get_args(Level)), help="Effort: 'fast', or Q/DQ as given, by default."
    ),
    click.option(
        "--learn-minutes",
        type=Finite(min=0.0),
        help="How long 'best' learns from the calibration images, on one core; 0: not at all.  [default: 3]",
    ),
    click.option(
        "--max-drop-pp",
        type=Finite(min=0.0),
        help="Put sensitive layers back into float until top-1 drops by no more than these points.",
    ),
)

_PRECISION = click.option(
    "--precision",
    type=click.Choice(["int8", "fp16", "mixed", "auto"]),
    help="The board's own by default; 'auto' measures each and ships the one that pays, or lets the board choose.",
)

TARGET_HELP = "Board, by name or as a TOML file; see 'edgec targets'."


def recipe_options(function: F) -> F:
    """MODEL, ``--target`` (``targets``: one board or several, each once), and all else that decides recipes."""
    several = click.option(
        "--target",
        "targets",
        required=True,
        multiple=True,
        type=NAME_OR_FILE,
        callback=_names,
        metavar="BOARD[,BOARD...]",
        help=f"{TARGET_HELP} Several with commas, or the option again.",
    )
    options = (several, _WEIGHTS, *_DATA_OPTIONS, *_QUANTIZER_OPTIONS, _PRECISION, *_NETWORK_OPTIONS)
    return _with(function, _MODEL, *options)


def folder_options(function: F) -> F:
    """Images to calibrate with and to judge by."""
    return _with(function, *_FOLDER_OPTIONS)


def data_options(function: F) -> F:
    """These images, how many of them, and the task."""
    return _with(function, *_DATA_OPTIONS)


def quantizer_options(function: F) -> F:
    """How hard the quantizer tries, and what it may cost."""
    return _with(function, *_QUANTIZER_OPTIONS)


def network_options(function: F) -> F:
    """MODEL and what decides its float network."""
    return _with(function, _MODEL, _WEIGHTS, *_NETWORK_OPTIONS)


def _with(function: F, *options: Callable[[F], F]) -> F:
    """``function`` with these options, which ``--help`` lists in their order."""
    for option in reversed(options):
        function = option(function)
    return function


def _names(context: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    """Every name once, in order."""
    found = tuple(dict.fromkeys(name.strip() for words in given for name in words.split(",") if name.strip()))
    if not found:
        raise click.BadParameter("expected the name of a board")
    return found


def threads_option(function: F) -> F:
    """``--threads``, all cores by default."""
    option = click.option(
        "--threads",
        type=click.IntRange(min=1),
        default=os.cpu_count() or 1,
        show_default="all cores",
        help="Of the measured runtime.",
    )
    return option(function)


def on_option(function: F) -> F:
    """``--on DEVICE``: not here but there."""
    return click.option("--on", help="Device: qemu:cortex-a76, or ssh://user@host[:port]; see 'edgec device'.")(
        function
    )


def json_option(function: F) -> F:
    """``--json``: machine-readable output, and nothing else on standard output."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Print JSON on standard output and nothing else there."
    )(function)


def choices_of(
    *,
    weights: str | None,
    width_multiplier: float | None,
    input_px: int | None,
    num_classes: int | None,
    padding: Padding | None,
    output_stride: str | None,
    argmax: bool | None,
) -> Choices:
    """The options of ``network_options``, MODEL apart."""
    from edgec.pipeline.recipe import Choices

    stride = int(output_stride) if output_stride else None
    return Choices(weights, width_multiplier, input_px, num_classes, padding, stride, argmax)


def recipe_of(
    *,
    model: str,
    target: str,
    data: Path | None,
    calibration_data: Path | None,
    test_data: Path | None,
    calibration_samples: int,
    quantizer: Level | None,
    learn_minutes: float | None,
    max_drop_pp: float | None,
    precision: Asked | None,
    task: str | None,
    **choices: Any,
) -> Recipe:
    """The options of ``recipe_options`` as a recipe.

    Raises:
        EdgecError: what ``make_recipe`` raises.
    """
    from edgec.pipeline.recipe import DataFolders, make_recipe

    return make_recipe(
        model,
        target,
        DataFolders(data, calibration_data, test_data),
        choices_of(**choices),
        calibration_samples,
        quantizer,
        precision,
        max_drop_pp,
        task,
        learn_minutes,
    )
