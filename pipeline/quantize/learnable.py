"""A quantized network whose grids, biases and weights have gradients.

Every stored tensor is rounded as ``simulate.py`` rounds it. Backwards, a rounding passes what is inside its range
straight through (Bengio et al. 2013, arXiv:1308.3432); its scale and zero point have the gradients of LSQ+ (Bhalgat et
al. 2020, arXiv:2004.09576, equations 4 and 5).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from edgec.pipeline.forms.scheme import Scheme
from edgec.pipeline.network.graph import Graph, Node
from edgec.pipeline.quantize.affine import Array, QuantParams
from edgec.pipeline.quantize.executor import Values, compute, run, tensors
from edgec.pipeline.quantize.plan import INT8_MAX, Plan, bounded, is_gate, is_linear, layer_output, pair_reach
from edgec.pipeline.quantize.simulate import quantized_constants
from edgec.pipeline.quantize.ties import ties

KINDS = ("weights", "biases", "rows", "columns", "scales", "zero_points")
"""Of parameters; see ``Learnable``."""

COARSE_STEPS = 100
"""A bias whose layer's output is stored nowhere moves in so many steps of its products."""


class StoredTensor(torch.autograd.Function):
    """A tensor on its grid: ``clamp(round(x / scale), qmin - zero, qmax - zero) * scale``, ``zero`` rounded."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero: Tensor, qmin: int, qmax: int) -> Tensor:
        """``scale`` and ``zero`` broadcast against ``x``."""
        offset = zero.round().clamp(qmin, qmax)
        low, high = qmin - offset, qmax - offset
        if scale.numel() == 1:
            step, least, most = float(scale), float(low), float(high)
            y = x.mul(1 / step).round_().clamp_(least, most).mul_(step)
        else:
            y = x.div(scale).round_().clamp_(low, high).mul_(scale)
        ctx.save_for_backward(x, y, scale, (low - 0.5) * scale, (high + 0.5) * scale)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of ``x``, ``scale`` and ``zero``."""
        (gradient,) = gradients
        x, y, scale, low, high = ctx.saved_tensors
        if scale.numel() == 1:
            inside = torch.ops.aten.hardtanh_backward(gradient, x, float(low), float(high))
        else:
            inside = gradient * ((x > low) & (x < high))
        of_scale = of_zero = None
        if ctx.needs_input_grad[1]:
            of_scale = _summed(gradient * y - inside * x, scale) / scale
        if ctx.needs_input_grad[2]:
            of_zero = _summed(inside - gradient, scale) * scale
        return inside, of_scale, of_zero, None, None


def _summed(x: Tensor, like: Tensor) -> Tensor:
    """Over the axes along which ``like`` was broadcast."""
    if like.numel() == 1:
        return x.sum().reshape(like.shape)
    return x.sum(dim=[axis for axis, size in enumerate(like.shape) if size == 1], keepdim=True)


@dataclass(frozen=True)
class Layer:
    """A linear node that learns.

    Attributes:
        node: itself.
        weight: name of its constant.
        bias: name of its constant; None where it has none.
        axis: of output channels in the weight; None where one scale serves all.
        qmax: of the weight's integers.
        ratio: of the weight's scale to the one that its magnitudes ask for; above 1 where ``bounded`` widened it for
            the bias.
        start_scale: of the weight, shaped to broadcast against it.
        bias_step: in which its bias is counted.
    """

    node: Node
    weight: str
    bias: str | None
    axis: int | None
    qmax: int
    ratio: Tensor
    start_scale: Tensor
    bias_step: float


class Learnable:
    """A plan's network as a function of its parameters.

    Attributes:
        parameters: by kind and name: ``weights`` and ``biases`` in steps of their own grids; logarithms of factors on a
            weight's output and input channels, ``rows`` and ``columns``, and on the ``scales`` of activations; and
            their ``zero_points``.
    """

    def __init__(self, graph: Graph, plan: Plan, scheme: Scheme) -> None:
        self.graph, self.plan, self.scheme = graph, plan, scheme
        self.ties, self.exact = ties(graph, scheme, plan), quantized_constants(graph, plan)
        self.layers = tuple(self._layer(node) for node in graph.nodes if self._learns(node))
        self.parameters: dict[str, dict[str, Tensor]] = self._parameters()

    def _learns(self, node: Node) -> bool:
        linear = is_linear(self.graph, node) and node.inputs[1] in self.plan.weights
        return linear and node.op != "MatMul" and not is_gate(self.graph, node)

    def _layer(self, node: Node) -> Layer:
        params = self.plan.weights[node.inputs[1]]
        weight = self.graph.constants[node.inputs[1]]
        scale = torch.from_numpy(np.asarray(params.shaped(weight.ndim)[0], np.float32))
        start = torch.from_numpy(np.array(weight, np.float32))
        asked = self._asked(node, start, params.axis, params.qmax)
        bias = node.inputs[2] if len(node.inputs) > 2 and node.inputs[2] else None
        stored = self.plan.activations.get(layer_output(self.graph, self.scheme, node))
        source = float(self.plan.activations[node.inputs[0]].scale.max())
        step = float(stored.scale.max()) if stored else COARSE_STEPS * source * float(scale.max())
        ratio = (scale / asked.clamp_min(1e-30)).clamp_min(1.0)
        return Layer(node, node.inputs[1], bias, params.axis, params.qmax, ratio, scale, step)

    def _asked(self, node: Node, weight: Tensor, axis: int | None, qmax: int) -> Tensor:
        """The scale that a weight's magnitudes and pairs ask for, shaped to broadcast."""
        least = _largest(weight, axis) / qmax
        if not self.scheme.needs_safe_pairs:
            return least
        pairs = np.asarray(pair_reach(weight.detach().numpy(), node, axis is not None) / INT8_MAX, np.float32)
        return torch.maximum(least, torch.from_numpy(pairs).reshape(least.shape if pairs.ndim else ()))

    def _parameters(self) -> dict[str, dict[str, Tensor]]:
        constants = tensors(self.graph)
        found: dict[str, dict[str, Tensor]] = {kind: {} for kind in KINDS}
        for layer in self.layers:
            weight = constants[layer.weight].float()
            found["weights"][layer.weight] = weight / layer.start_scale
            if layer.axis is not None:
                rows, columns = [1] * weight.dim(), [1] * weight.dim()
                rows[layer.axis], columns[1 - layer.axis] = weight.shape[layer.axis], weight.shape[1 - layer.axis]
                found["rows"][layer.weight] = torch.zeros(rows)
                if weight.shape[1 - layer.axis] > 1:
                    found["columns"][layer.weight] = torch.zeros(columns)
            if layer.bias is not None:
                found["biases"][layer.bias] = constants[layer.bias].float() / layer.bias_step
        for name in self.ties.scales.values():
            found["scales"][name] = torch.zeros(self.plan.activations[name].scale.shape)
        for name in self.ties.zero_points.values():
            params = self.plan.activations[name]
            found["zero_points"][name] = torch.from_numpy(np.array(params.zero_point, np.float32))
        return found

    def is_vector(self, weight: str) -> bool:
        """The layer's output has one position: a classifier, or a squeeze."""
        (node,) = (node for node in self.graph.nodes if weight in node.inputs)
        shape = self.graph.shapes.get(node.output, ())
        return all(side == 1 for side in shape[2:])

    def tensors(self, images: Tensor, names: Iterable[str]) -> dict[str, Tensor]:
        """The named tensors for ``(N, C, H, W)``, each on its grid."""
        wanted, found = set(names), dict[str, Tensor]()

        def after(name: str, value: Tensor) -> Tensor:
            value = self.stored(name, value)
            if name in wanted:
                found[name] = value
            return value

        run(self.graph, {self.graph.inputs[0]: images}, after, self.constants(), self.compute)
        return found

    def constants(self) -> Values:
        """Those that learn as they are now, each weight on its grid."""
        found = dict(self.exact)
        for layer in self.layers:
            weight = self.weight(layer)
            with torch.no_grad():
                step = self._asked(layer.node, weight, layer.axis, layer.qmax) * layer.ratio
                step = torch.where(step > 0, step, layer.start_scale)
                rounding = (weight / step).round_().clamp_(-layer.qmax, layer.qmax).mul_(step).sub_(weight)
            found[layer.weight] = weight + rounding
            if layer.bias is not None:
                found[layer.bias] = self.bias(layer)
        return found

    def weight(self, layer: Layer) -> Tensor:
        """Before it is rounded."""
        weight = self.parameters["weights"][layer.weight] * layer.start_scale
        for kind in ("rows", "columns"):
            if layer.weight in self.parameters[kind]:
                weight = weight * self.parameters[kind][layer.weight].exp()
        return weight

    def bias(self, layer: Layer) -> Tensor:
        """It goes with the factors of the weight's rows."""
        bias = self.parameters["biases"][str(layer.bias)] * layer.bias_step
        if layer.weight in self.parameters["rows"]:
            bias = bias * self.parameters["rows"][layer.weight].exp().reshape(-1)
        return bias

    def stored(self, name: str, x: Tensor) -> Tensor:
        """``x`` on the grid of the tensor ``name``; itself where it stays in float."""
        params = self.plan.activations.get(name)
        if params is None:
            return x
        shape = [1] * x.dim() if params.axis is None else [-1 if i == params.axis else 1 for i in range(x.dim())]
        scale = torch.from_numpy(np.array(params.scale))
        if name in self.ties.scales:
            scale = scale * self.parameters["scales"][self.ties.scales[name]].exp()
        zero = torch.from_numpy(np.array(params.zero_point, np.float32))
        if name in self.ties.zero_points:
            zero = self.parameters["zero_points"][self.ties.zero_points[name]]
        return StoredTensor.apply(x, scale.reshape(shape), zero.reshape(shape), params.qmin, params.qmax)  # type: ignore[no-any-return, no-untyped-call]

    def compute(self, node: Node, values: Mapping[str, Tensor]) -> Iterable[Tensor]:
        """As ``compute``, with one kernel for a clamp and its gradient."""
        if node.op == "Clip" and len(node.inputs) == 3 and all(node.inputs):
            low, high = (float(values[name]) for name in node.inputs[1:])
            return (F.hardtanh(values[node.inputs[0]], low, high),)
        if node.op == "HardSigmoid":
            slope, offset = node.attributes.get("alpha", 0.2), node.attributes.get("beta", 0.5)
            return (F.hardtanh(slope * values[node.inputs[0]] + offset, 0.0, 1.0),)
        if is_gate(self.graph, node):
            weight, bias = (values[name].reshape(1, -1, 1, 1) for name in node.inputs[1:3])
            return (torch.addcmul(bias, values[node.inputs[0]], weight),)
        return compute(node, values)

    @torch.no_grad()
    def learned(self) -> tuple[Graph, Plan]:
        """The graph with its constants as they are now, and their plan."""
        constants: dict[str, Array] = {}
        weights = dict(self.plan.weights)
        for layer in self.layers:
            weight = self.weight(layer)
            constants[layer.weight] = weight.numpy()
            if layer.bias is not None:
                constants[layer.bias] = self.bias(layer).numpy()
            params = weights[layer.weight]
            asked = self._asked(layer.node, weight, layer.axis, layer.qmax)
            step = (asked * layer.ratio).reshape(params.scale.shape)
            start = torch.from_numpy(np.array(params.scale))
            weights[layer.weight] = replace(params, scale=torch.where(step > 0, step, start).numpy())
        activations = {name: self._grid(name, params) for name, params in self.plan.activations.items()}
        graph = self.graph.with_constants(constants)
        return graph, bounded(graph, self.scheme, Plan(activations, weights, self.plan.floats))

    def _grid(self, name: str, params: QuantParams) -> QuantParams:
        if name in self.ties.scales:
            factor = self.parameters["scales"][self.ties.scales[name]].exp().numpy()
            params = replace(params, scale=(params.scale * factor).astype(np.float32))
        if name in self.ties.zero_points:
            zero = self.parameters["zero_points"][self.ties.zero_points[name]].round().clamp(params.qmin, params.qmax)
            params = replace(params, zero_point=zero.numpy().astype(np.int32))
        return params


def _largest(weight: Tensor, axis: int | None) -> Tensor:
    """Magnitude, of each channel, shaped to broadcast; of all where ``axis`` is None."""
    if axis is None:
        return weight.abs().max()
    return weight.abs().amax([other for other in range(weight.dim()) if other != axis], keepdim=True)
