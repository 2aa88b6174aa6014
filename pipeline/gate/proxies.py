"""Costs without noise: counts that repeat exactly and need no device. They gate always."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from edgec.pipeline.bundle.read import Bundle
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.forms.compiler import Placement, load_compiler
from edgec.pipeline.forms.device import open_device
from edgec.pipeline.forms.format import size_bytes

if TYPE_CHECKING:
    import onnx

PLACEMENT = (
    "num_operators",
    "num_transposes",
    "num_reformats",
    "num_float_layers",
    "delegate_pieces",
    "arena_bytes",
)


@dataclass(frozen=True)
class Proxies:
    """Counts of one bundle, each found when asked for."""

    bundle: Bundle

    def count(self, name: str) -> int:
        """One count by the name of its limit.

        Raises:
            EdgecError: ``no-count`` says what is missing here.
        """
        if name == "size_bytes":
            return size_bytes(self.bundle.artifact)
        if name in ("macs", "params"):
            return self._cost[name == "params"]
        if name == "instructions":
            return _instructions(self.bundle)
        value: int | None = getattr(self._placement, name)
        if value is None:
            target = self.bundle.target.name
            raise EdgecError(
                "no-count", f"'{target}' gives no '{name}' here", "delete the limit, or see 'edgec doctor'"
            )
        return value

    def known(self) -> dict[str, int]:
        """All counts that this machine can give, instructions apart: they take an emulated core."""
        counted = {name: getattr(self._placement, name) for name in PLACEMENT}
        macs, params = self._cost
        found = {"size_bytes": size_bytes(self.bundle.artifact), "macs": macs, "params": params, **counted}
        return {name: value for name, value in found.items() if value is not None}

    @cached_property
    def _cost(self) -> tuple[int, int]:
        return network_cost(self.bundle.float_onnx)

    @cached_property
    def _placement(self) -> Placement:
        return load_compiler(self.bundle.target.compiler).placement(self.bundle.artifact, self.bundle.settings)


def network_cost(path: Path) -> tuple[int, int]:
    """(multiply-accumulates, parameters) of a float ONNX file for one image.

    Counts convolutions and matrix products with constant weights, as the papers do; parameters are the elements of all
    float constants.
    """
    import onnx
    from onnx import numpy_helper, shape_inference

    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    weights = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    shapes = _shapes(shape_inference.infer_shapes(model, data_prop=True))
    macs = sum(_macs(node, weights, shapes) for node in model.graph.node)
    constants = [numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    return macs, sum(value.size for value in constants if value.dtype.kind == "f")


def _shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    values = (*model.graph.value_info, *model.graph.output)
    return {v.name: tuple(d.dim_value or 1 for d in v.type.tensor_type.shape.dim) for v in values}


def _macs(node: onnx.NodeProto, weights: dict[str, tuple[int, ...]], shapes: dict[str, tuple[int, ...]]) -> int:
    """Output elements times the products summed for each."""
    weight = weights.get(node.input[1]) if len(node.input) > 1 else None
    if weight is None or node.op_type not in ("Conv", "Gemm", "MatMul"):
        return 0
    if node.op_type == "Conv":
        return prod(shapes[node.output[0]]) * prod(weight[1:])
    return prod(weight) * prod(shapes[node.output[0]][:-1])


def _instructions(bundle: Bundle) -> int:
    """Guest instructions of one inference on the board's emulated core.

    Raises:
        EdgecError: ``no-count``; what opening the core and counting raise.
    """
    core = bundle.target.device.emulated_as
    if core is None:
        raise EdgecError("no-count", f"'{bundle.target.name}' has no emulated core to count on", "delete the limit")
    adapter, device = load_compiler(bundle.target.compiler), open_device(f"qemu:{core}")
    counted = adapter.on_device(device, bundle.artifact, bundle.settings, 1).cost().instructions
    if counted is None:
        raise EdgecError("no-count", f"'{device.name}' counts no instructions", "delete the limit")
    return counted
