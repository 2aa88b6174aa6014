"""ONNX operators in torch: each takes its attributes and its inputs, None for one that was left out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from edgec.pipeline.quantize.reference import operator_by_reference
from edgec.pipeline.quantize.resample import resized
from edgec.pipeline.quantize.windows import average_pool, conv, conv_transpose, max_pool


def _gemm(a: Mapping[str, Any], x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    x = x.T if a.get("transA") else x
    y: Tensor = a.get("alpha", 1.0) * (x @ (w.T if a.get("transB") else w))
    return y if b is None else y + a.get("beta", 1.0) * b


def _clip(a: Mapping[str, Any], x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    least = a.get("min", -torch.inf) if low is None else low.item()
    return x.clamp(least, a.get("max", torch.inf) if high is None else high.item())


def _reduce_mean(a: Mapping[str, Any], x: Tensor, axes: Tensor | None = None) -> Tensor:
    dims = a.get("axes", []) if axes is None else axes.tolist()
    if not dims and a.get("noop_with_empty_axes"):
        return x
    return x.mean(dim=dims or list(range(x.dim())), keepdim=bool(a.get("keepdims", 1)))


def _reshape(a: Mapping[str, Any], x: Tensor, shape: Tensor) -> Tensor:
    sizes = [x.shape[i] if size == 0 and not a.get("allowzero") else size for i, size in enumerate(shape.tolist())]
    return x.reshape(sizes)


def _squeeze(a: Mapping[str, Any], x: Tensor, axes: Tensor | None = None) -> Tensor:
    dims = a.get("axes") if axes is None else axes.tolist()
    return x.squeeze() if dims is None else x.squeeze(tuple(dims))


def _unsqueeze(a: Mapping[str, Any], x: Tensor, axes: Tensor | None = None) -> Tensor:
    dims = a["axes"] if axes is None else axes.tolist()
    for dim in sorted(dim % (x.dim() + len(dims)) for dim in dims):
        x = x.unsqueeze(dim)
    return x


def _flatten(a: Mapping[str, Any], x: Tensor) -> Tensor:
    axis = int(a.get("axis", 1))
    first = axis if axis >= 0 else axis + x.dim()
    return x.reshape(math.prod(x.shape[:first]), math.prod(x.shape[first:]))


def _batch_norm(a: Mapping[str, Any], x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    return F.batch_norm(x, mean, var, scale, bias, False, 0.0, a.get("epsilon", 1e-5))


def _lp_norm(a: Mapping[str, Any], x: Tensor) -> Tensor:
    y: Tensor = F.normalize(x, float(a.get("p", 2)), int(a.get("axis", -1)))
    return y


def _pad(
    a: Mapping[str, Any], x: Tensor, pads: Tensor, value: Tensor | None = None, axes: Tensor | None = None
) -> Tensor:
    mode = a.get("mode", "constant")
    if mode != "constant" or axes is not None:
        return operator_by_reference("Pad", a, x, pads, value, axes)
    before, after = pads.tolist()[: x.dim()], pads.tolist()[x.dim() :]
    sides = [side for axis in reversed(range(x.dim())) for side in (before[axis], after[axis])]
    return F.pad(x, sides, value=0.0 if value is None else value.item())


def _resize(
    a: Mapping[str, Any],
    x: Tensor,
    roi: Tensor | None = None,
    scales: Tensor | None = None,
    sizes: Tensor | None = None,
) -> Tensor:
    if a.get("mode", "nearest") == "cubic" or a.get("coordinate_transformation_mode") == "tf_crop_and_resize":
        return operator_by_reference("Resize", a, x, roi, scales, sizes)
    return resized(x, a, scales, sizes)


def _slice(
    a: Mapping[str, Any],
    x: Tensor,
    starts: Tensor,
    ends: Tensor,
    axes: Tensor | None = None,
    steps: Tensor | None = None,
) -> Tensor:
    dims = range(len(starts)) if axes is None else axes.tolist()
    strides = [1] * len(starts) if steps is None else steps.tolist()
    index = [slice(None)] * x.dim()
    for dim, start, end, step in zip(dims, starts.tolist(), ends.tolist(), strides, strict=True):
        if step < 0:
            side = x.shape[dim]
            first = min(max(start + side if start < 0 else start, 0), side - 1)
            last = min(max(end + side if end < 0 else end, -1), side - 1)
            x = x.index_select(dim, torch.arange(first, min(first, last), step))
        else:
            index[dim] = slice(start, end, step)
    return x[tuple(index)]


def _layer_norm(a: Mapping[str, Any], x: Tensor, gain: Tensor, offset: Tensor | None = None) -> Tensor:
    axis = a.get("axis", -1)
    return F.layer_norm(x, x.shape[axis:], gain.expand(x.shape[axis:]), offset, a.get("epsilon", 1e-5))


def _lrn(a: Mapping[str, Any], x: Tensor) -> Tensor:
    """In torch, as the evaluator leaves the last channel of each window out."""
    size = int(a["size"])
    squares = F.pad(x * x, [0, 0] * (x.dim() - 2) + [(size - 1) // 2, size // 2]).unfold(1, size, 1).sum(-1)
    y: Tensor = x / (a.get("bias", 1.0) + a.get("alpha", 1e-4) / size * squares) ** a.get("beta", 0.75)
    return y


def _gather(a: Mapping[str, Any], x: Tensor, indices: Tensor) -> Tensor:
    axis = a.get("axis", 0) % x.dim()
    places = indices.reshape(-1).long() % x.shape[axis]
    return x.index_select(axis, places).reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])


def _split(a: Mapping[str, Any], x: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, ...]:
    axis = int(a.get("axis", 0))
    if sizes is not None or "split" in a:
        return torch.split(x, a["split"] if sizes is None else sizes.tolist(), axis)
    return torch.chunk(x, int(a["num_outputs"]), axis)


OPERATORS: Mapping[str, Callable[..., Tensor | tuple[Tensor, ...]]] = {
    "Abs": lambda a, x: x.abs(),
    "Add": lambda a, x, y: x + y,
    "AveragePool": average_pool,
    "BatchNormalization": _batch_norm,
    "Clip": _clip,
    "Concat": lambda a, *xs: torch.cat(xs, a["axis"]),
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "Div": lambda a, x, y: x / y,
    "Elu": lambda a, x: F.elu(x, a.get("alpha", 1.0)),
    "Erf": lambda a, x: x.erf(),
    "Exp": lambda a, x: x.exp(),
    "Flatten": _flatten,
    "Gather": _gather,
    "Gemm": _gemm,
    "GlobalAveragePool": lambda a, x: x.mean(dim=tuple(range(2, x.dim())), keepdim=True),
    "GlobalMaxPool": lambda a, x: x.amax(dim=tuple(range(2, x.dim())), keepdim=True),
    "HardSigmoid": lambda a, x: (a.get("alpha", 0.2) * x + a.get("beta", 0.5)).clamp(0, 1),
    "HardSwish": lambda a, x: F.hardswish(x),
    "Identity": lambda a, x: x,
    "LRN": _lrn,
    "LayerNormalization": _layer_norm,
    "LeakyRelu": lambda a, x: F.leaky_relu(x, a.get("alpha", 0.01)),
    "LpNormalization": _lp_norm,
    "MatMul": lambda a, x, y: x @ y,
    "MaxPool": max_pool,
    "Mul": lambda a, x, y: x * y,
    "Neg": lambda a, x: -x,
    "PRelu": lambda a, x, slope: torch.where(x < 0, slope * x, x),
    "Pad": _pad,
    "Pow": lambda a, x, y: x.pow(y),
    "ReduceMean": _reduce_mean,
    "Relu": lambda a, x: x.relu(),
    "Reshape": _reshape,
    "Resize": _resize,
    "Selu": lambda a, x: a.get("gamma", 1.05070102) * F.elu(x, a.get("alpha", 1.67326319)),
    "Sigmoid": lambda a, x: x.sigmoid(),
    "Slice": _slice,
    "Softmax": lambda a, x: x.softmax(a.get("axis", -1)),
    "Softplus": lambda a, x: F.softplus(x),
    "Split": _split,
    "Sqrt": lambda a, x: x.sqrt(),
    "Squeeze": _squeeze,
    "Sub": lambda a, x, y: x - y,
    "Tanh": lambda a, x: x.tanh(),
    "Transpose": lambda a, x: x.permute(a.get("perm", list(reversed(range(x.dim()))))),
    "Unsqueeze": _unsqueeze,
}
