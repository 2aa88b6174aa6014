"""``model.toml``: a user's ONNX file and what it needs to mean what it meant; the rest follows from the network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.toml_file import STRICT, read_toml, validate
from edgec.pipeline.data.labels import check_labels
from edgec.pipeline.data.preprocess import CHANNELS, Numbers, Preprocess

if TYPE_CHECKING:
    from edgec.pipeline.network.onnx_input import ImageInput

COLORS = {1: "GRAY", 3: "RGB", 4: "RGBA"}
IMAGENET = Preprocess()
ALPHA = (127.5,)
ASSUMED_NOTE = "preprocessing assumed ({why}): write a model.toml to state it"


@dataclass(frozen=True)
class StatedPreprocess:
    """``[preprocess]`` of a ``model.toml``: the fields of ``Preprocess``, none of which has to be told."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    color: str | None = None
    resize_px: int | None = None
    crop_px: int | None = None
    mean: Numbers | None = None
    std: Numbers | None = None
    height_px: int | None = None
    width_px: int | None = None
    resize: str = "short-side"
    interpolation: str = "bilinear"
    pad_color: tuple[int, ...] | None = None


@dataclass(frozen=True)
class OnnxFile:
    """The file as it is written.

    Attributes:
        onnx: the network, relative to the TOML.
        labels: class names by index.
        task: what the outputs are for; left away, they tell.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    onnx: str
    preprocess: StatedPreprocess = field(default_factory=StatedPreprocess)
    labels: tuple[str, ...] = ()
    task: str | None = None

    def __post_init__(self) -> None:
        check_labels(self.labels)


@dataclass(frozen=True)
class DescribedOnnx:
    """A network and everything that a build asks of it.

    Attributes:
        onnx: from here.
        preprocess: from an image to what the imported network takes.
        notes: what was assumed or moved, in sentences.
    """

    onnx: Path
    preprocess: Preprocess
    labels: tuple[str, ...] = ()
    task: str | None = None
    notes: tuple[str, ...] = ()


def describe_onnx(path: Path) -> DescribedOnnx:
    """What a ``model.toml`` says, or what is assumed of an ONNX file without one.

    Raises:
        EdgecError: ``no-such-file``, ``bad-model-file``, and what ``read_onnx`` and ``take_image`` raise.
    """
    from edgec.pipeline.network.import_onnx import read_onnx
    from edgec.pipeline.network.onnx_input import take_image

    stated, onnx = OnnxFile(str(path)), path
    if path.suffix == ".toml":
        stated = validate(OnnxFile, read_toml(path, "bad-model-file"), path, "bad-model-file")
        onnx = path.parent / stated.onnx
    image, _ = take_image(read_onnx(onnx), onnx)
    _check_sides(stated.preprocess, image, path, onnx)
    try:
        preprocess, assumed = completed(stated.preprocess, image)
        preprocess = image.after(preprocess)
    except ValueError as error:
        raise EdgecError("bad-model-file", f"'{path}': preprocess: {error}", "mend the named fields") from error
    return DescribedOnnx(onnx, preprocess, stated.labels, stated.task, (*assumed, *_moved(image, onnx.name)))


def _moved(image: ImageInput, name: str) -> Iterator[str]:
    """What the network takes otherwise than its file did."""
    if image.layout != "NCHW":
        yield f"'{name}' takes {image.layout}: the network here takes NCHW, and the artifact what its contract says"
    if image.normalises or image.is_uint8:
        yield f"the normalisation of pixels that '{name}' begins with is part of the preprocessing here"


def _check_sides(stated: StatedPreprocess, image: ImageInput, path: Path, onnx: Path) -> None:
    """``crop_px`` is the short side of an input that is no square."""
    _, height, width = image.shape
    expected = {"crop_px": min(height, width), "height_px": height, "width_px": width}
    for name, side in expected.items():
        told = getattr(stated, name)
        if told not in (None, side):
            sides = f"{side} px" if height == width else f"{height} x {width} px (height x width)"
            message = f"'{path}' has preprocess.{name} {told}, and '{onnx}' takes pictures of {sides}"
            raise EdgecError("bad-model-file", message, f"write {name} = {side}, or leave it away")


def completed(stated: StatedPreprocess, image: ImageInput) -> tuple[Preprocess, tuple[str, ...]]:
    """The preprocessing with everything that was left away, and what was assumed for it.

    Raises:
        ValueError: as ``Preprocess``; channels that the network does not take.
    """
    channels, height, width = image.shape
    color = stated.color or COLORS[channels]
    if CHANNELS.get(color, channels) != channels:
        raise ValueError(f"color is {color}, and the network takes {channels} channels: {COLORS[channels]}")
    mean, std, why = _assumed(image)
    three = stated.mean, stated.std
    if channels == 1 and all(len(values or ()) == 3 for values in three):  # a file written for pictures in colour
        mean, std = (_average(values or ()) for values in three)
        stated, why = replace(stated, mean=None, std=None), "one channel: the averages of the mean and std stated"
    made = Preprocess(
        color=color,
        resize_px=_resize_px(stated, min(height, width)) if stated.resize_px is None else stated.resize_px,
        crop_px=height if height == width else None,
        mean=mean if stated.mean is None else stated.mean,
        std=std if stated.std is None else stated.std,
        height_px=None if height == width else height,
        width_px=None if height == width else width,
        resize=stated.resize,
        interpolation=stated.interpolation,
        pad_color=stated.pad_color,
    )
    return made, (ASSUMED_NOTE.format(why=why),) if stated.mean is None or stated.std is None else ()


def _average(values: Numbers) -> Numbers:
    return (round(sum(values) / len(values), 6),)


def _resize_px(stated: StatedPreprocess, short: int) -> int:
    """The ratio of ImageNet's 256 to 224; 256 itself beside a ``crop_px`` for which it will do."""
    if stated.resize != "short-side":
        return short
    if stated.crop_px is not None and short <= IMAGENET.resize_px:
        return IMAGENET.resize_px
    return round(short * 256 / 224)


def _assumed(image: ImageInput) -> tuple[Numbers, Numbers, str]:
    """Mean, deviation, and why these."""
    channels, own = image.shape[0], image.own_units()
    if own is not None:
        return (0.0,) * channels, (own[0],) * channels, own[1]
    if channels == 1:
        return _average(IMAGENET.mean), _average(IMAGENET.std), "the average of ImageNet's means and deviations"
    extra = ALPHA if channels == 4 else ()
    return (*IMAGENET.mean, *extra), (*IMAGENET.std, *extra), "ImageNet mean and deviation"
