"""Trained weights as two files: half-precision safetensors, and the card that ``--weights`` reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edgec.pipeline.core.disk import write_whole
from edgec.pipeline.network.models.cards import Card

if TYPE_CHECKING:
    from torch import Tensor, nn


def half_precision(network: nn.Module) -> dict[str, Tensor]:
    """The state dict as stored: convolution and dense weights as float16, biases and batch norm as float32.

    Running variances span more decades than float16 has, and the vectors are a small share of the file.
    """
    import torch

    state = {name: tensor for name, tensor in network.state_dict().items() if tensor.is_floating_point()}
    kinds = {name: torch.float16 if tensor.ndim > 1 else torch.float32 for name, tensor in state.items()}
    return {name: tensor.to(kinds[name]).contiguous() for name, tensor in state.items()}


def save_weights(network: nn.Module, path: Path) -> None:
    """Write ``path`` (safetensors, our parameter names); an older file is replaced only by a whole one.

    ``network`` itself is rounded to what the file holds, so that it can be measured as it will be used.
    """
    from safetensors.torch import save_file

    stored = half_precision(network)
    write_whole(path, lambda half_made: save_file(stored, half_made))
    network.load_state_dict({name: tensor.float() for name, tensor in stored.items()}, strict=False)


def save_card(card: Card, path: Path, remarks: tuple[str, ...] = ()) -> None:
    """Write ``card`` as TOML, with ``remarks`` as comment lines at its head."""
    values = card.model_dump(mode="json", exclude_none=True)
    tables = {name: value for name, value in values.items() if isinstance(value, dict)}
    lines = [f"# {remark}" for remark in remarks]
    lines += toml_lines({name: value for name, value in values.items() if name not in tables})
    for name, table in tables.items():
        lines += ["", f"[{name}]", *toml_lines(table)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def toml_lines(values: Mapping[str, object]) -> list[str]:
    """``key = value`` lines: JSON's strings, numbers and lists of them are TOML's too."""
    return [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in values.items()]
