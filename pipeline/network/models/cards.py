"""Weights cards: a TOML file beside a state dict that says what the numbers need to mean what they meant."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator

from edgec.pipeline.core.toml_file import read_toml, validate
from edgec.pipeline.data.labels import MAX_CLASSES, check_labels
from edgec.pipeline.data.preprocess import Preprocess
from edgec.pipeline.network.models.curve import Curve
from edgec.pipeline.network.models.spec import Padding

Triple = tuple[float, float, float]


class PreprocessTable(BaseModel):
    """``[preprocess]``: see ``Preprocess``, which it becomes and whose rules it has; here no number has a default.

    edgec's own networks take three channels and a square.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    color: str = "RGB"
    resize_px: int
    crop_px: int = Field(ge=32)
    mean: Triple
    std: Triple
    resize: str = "short-side"
    interpolation: str = "bilinear"
    pad_color: tuple[int, int, int] | None = None

    @model_validator(mode="after")
    def _is_possible(self) -> PreprocessTable:
        Preprocess(**self.model_dump())
        return self


class Card(BaseModel):
    """One weights card. Unknown keys are errors.

    Attributes:
        state_dict: file beside the card, ``.safetensors`` or ``.pth``.
        names: ``edgec``, or the definition whose parameter names the file uses, such as ``torchvision:mobilenet_v2``.
        entry: which state dict of a file that holds several, such as ``state_dict_ema``.
        sha256: of the state dict; checked when given.
        accuracy: top-1, or mIoU, in percent on the test images of the data that the weights were trained on.
        labels: class names in the order of the logits.
        curve: of the training.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    state_dict: str
    preprocess: PreprocessTable
    names: str = "edgec"
    entry: str = ""
    padding: Padding = "torch"
    width_multiplier: float = Field(default=1.0, gt=0, le=4)
    num_classes: int = Field(default=1000, ge=1, le=MAX_CLASSES)
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    accuracy: float | None = Field(default=None, ge=0, le=100)
    labels: tuple[str, ...] | None = None
    license: str | None = None
    source: str | None = None
    curve: Curve | None = None

    @model_validator(mode="after")
    def _has_one_label_per_class(self) -> Card:
        if self.labels is not None and len(self.labels) != self.num_classes:
            raise ValueError(f"{len(self.labels)} labels for num_classes {self.num_classes}")
        check_labels(self.labels or ())
        return self

    def preprocessing(self) -> Preprocess:
        """The ``[preprocess]`` table as the pipeline's own type."""
        return Preprocess(**self.preprocess.model_dump())


def read_card(path: Path) -> Card:
    """Read one card.

    Raises:
        EdgecError: ``no-such-file``; ``invalid-card`` with the key and what it expected.
    """
    return validate(Card, read_toml(path, "invalid-card"), path, "invalid-card")
