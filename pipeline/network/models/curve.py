"""How weights were trained, epoch by epoch: part of their card, and shown in the report of a build from them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar

from edgec.pipeline.core.toml_file import STRICT


@dataclass(frozen=True)
class Curve:
    """One value for each epoch that ran.

    Attributes:
        metric: name of the validation figure.
        epoch: numbers from 1; those that were left out are missing.
        px: picture size.
        loss: mean over the training batches.
        validation: the figure, percent.

    Raises:
        ValueError: the lists have different lengths.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    metric: str
    epoch: tuple[int, ...]
    px: tuple[int, ...]
    loss: tuple[float, ...]
    validation: tuple[float, ...]

    def __post_init__(self) -> None:
        lengths = {len(getattr(self, field.name)) for field in fields(self) if field.name != "metric"}
        if len(lengths) != 1:
            raise ValueError(f"lists of {sorted(lengths)} values, expected one for each epoch")
