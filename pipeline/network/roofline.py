"""What a board could reach at best, layer by layer (Williams, Waterman, Patterson: Roofline, CACM 2009)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.forms.spec import Gpu, TargetSpec, load_target, names
from edgec.pipeline.network.layers import Layer


@dataclass(frozen=True)
class Roofline:
    """A board's two ceilings in its own precision.

    Attributes:
        gmacs_s: 10^9 multiply-accumulates a second, half of its operations.
        bandwidth_gb_s: of its memory.
        element_bytes: of a weight or an activation.
    """

    board: str
    precision: Literal["int8", "fp16"]
    gmacs_s: float
    bandwidth_gb_s: float
    element_bytes: int

    @property
    def ridge(self) -> float:
        """Multiply-accumulates for each element moved from which on arithmetic is the limit."""
        return self.gmacs_s / self.bandwidth_gb_s * self.element_bytes

    def limit(self, layer: Layer) -> Literal["compute", "memory"]:
        """What holds the layer back."""
        return "compute" if layer.macs_per_element >= self.ridge else "memory"

    def reachable_gmacs_s(self, macs_per_element: float) -> float:
        """The height of the roof above an arithmetic intensity."""
        return self.gmacs_s * min(1.0, macs_per_element / self.ridge)

    def microseconds(self, layer: Layer) -> float:
        """Of the layer alone at the roof, each weight and activation moved once."""
        return layer.macs / self.reachable_gmacs_s(layer.macs_per_element) / 1e3


def roofline_of(board: TargetSpec) -> Roofline:
    """Of a board whose rates are known.

    Raises:
        EdgecError: ``no-board-rates`` names the boards that have them.
    """
    found = _rates(board)
    if found is None:
        having = ", ".join(name for name in names() if _rates(load_target(name)))
        message = f"of '{board.name}' no rates of arithmetic and memory are known"
        hint = f"take {having}; or a file of your own with int8_tops, fp16_tflops and bandwidth_gb_s in [device.gpu]"
        raise EdgecError("no-board-rates", message, hint)
    rate, bandwidth = found
    precision: Literal["int8", "fp16"] = "fp16" if board.precision == "fp16" else "int8"
    return Roofline(board.name, precision, 1e3 * rate / 2, bandwidth, 2 if precision == "fp16" else 1)


def _rates(board: TargetSpec) -> tuple[float, float] | None:
    """10^12 operations and 10^9 bytes a second."""
    gpu = board.device.gpu or Gpu()
    rate = gpu.fp16_tflops if board.precision == "fp16" else gpu.int8_tops
    return (rate, gpu.bandwidth_gb_s) if rate and gpu.bandwidth_gb_s else None
