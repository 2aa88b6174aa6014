"""A network explained layer by layer, for ``edgec models --explain``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.forms.spec import load_target
from edgec.pipeline.network import models
from edgec.pipeline.network.layers import Kind, Layer, Step, layers_of
from edgec.pipeline.network.models.spec import NetworkConfig, shape_network
from edgec.pipeline.network.roofline import Roofline, roofline_of


@dataclass(frozen=True)
class Share:
    """What all layers of a kind hold of the whole network."""

    kind: Kind
    num_layers: int
    macs: int
    params: int


@dataclass(frozen=True)
class Explained:
    """A network's layers and, of a board, its roof.

    Attributes:
        input_px: height and width of the picture.
    """

    name: str
    input_px: tuple[int, int]
    layers: tuple[Layer, ...]
    roofline: Roofline | None = None

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)

    @property
    def params(self) -> int:
        return sum(layer.params for layer in self.layers)

    @property
    def shares(self) -> tuple[Share, ...]:
        """By kind, as table 2 of arXiv 1704.04861."""
        kinds = ((kind, [layer for layer in self.layers if layer.kind == kind]) for kind in get_args(Kind))
        return tuple(
            Share(kind, len(found), sum(layer.macs for layer in found), sum(layer.params for layer in found))
            for kind, found in kinds
            if found
        )

    def as_json(self) -> dict[str, Any]:
        """Everything, with the properties that a reader would have to compute."""
        return {
            "name": self.name,
            "input_px": self.input_px,
            "macs": self.macs,
            "params": self.params,
            "kinds": [asdict(share) for share in self.shares],
            "layers": [self._row(layer) for layer in self.layers],
            "roofline": None if self.roofline is None else {**asdict(self.roofline), "ridge": self.roofline.ridge},
        }

    def _row(self, layer: Layer) -> dict[str, Any]:
        row = {**asdict(layer), "macs_per_element": layer.macs_per_element}
        if self.roofline is not None:
            row |= {"limit": self.roofline.limit(layer), "at_least_us": self.roofline.microseconds(layer)}
        return row


def config_of(model: str, chosen: Mapping[str, Any]) -> NetworkConfig:
    """The network with some fields of ``NetworkConfig`` chosen, the others as the model has them.

    Raises:
        EdgecError: ``unknown-model``, ``bad-extension``.
    """
    return replace(NetworkConfig(model, num_classes=models.get(model).num_classes), **chosen)


def explain_model(config: NetworkConfig, board: str | None = None) -> Explained:
    """A network that edgec defines.

    Raises:
        EdgecError: what ``build_network``, ``load_target`` and ``roofline_of`` raise.
    """
    from edgec.pipeline.network.models.shapes import steps

    roofline = _roofline(board)
    px = config.input_px or models.get(config.model).input_px
    return Explained(config.model, (px, px), _explained(steps(shape_network(config), px), config.model), roofline)


def explain_onnx(path: Path, board: str | None = None) -> Explained:
    """A float or QDQ ONNX file.

    Raises:
        EdgecError: ``no-count``, and what ``read_onnx``, ``load_target`` and ``roofline_of`` raise.
    """
    from edgec.pipeline.network.import_onnx import read_onnx
    from edgec.pipeline.network.onnx_layers import onnx_steps

    roofline, steps = _roofline(board), onnx_steps(read_onnx(path))
    sides = next((step.input_shape[2:4] for step in steps if len(step.input_shape) == 4), (1, 1))
    return Explained(path.name, (sides[0], sides[1]), _explained(steps, path.name), roofline)


def _explained(steps: Iterable[Step], name: str) -> tuple[Layer, ...]:
    layers = layers_of(steps)
    if not layers:
        raise EdgecError("no-count", f"'{name}' has no convolution and no product", "see 'edgec inspect'")
    return layers


def _roofline(board: str | None) -> Roofline | None:
    return None if board is None else roofline_of(load_target(board))
