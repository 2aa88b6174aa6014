"""Runs an ONNX graph in torch, node by node, so that passes can look at, change and differentiate through it.

Operators outside the table run in ONNX's reference evaluator, or ONNX Runtime: correct, slow, and without gradients.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from edgec.pipeline.network.export import OPSET
from edgec.pipeline.network.graph import Graph, Node
from edgec.pipeline.network.models.padding import same_pads
from edgec.pipeline.quantize.resample import resized

Values = dict[str, Tensor]
After = Callable[[str, Tensor], Tensor]
"""Sees each activation under its name as it is made, the network's inputs included, and may replace it."""
Operator = Callable[[Node, Mapping[str, Tensor]], Iterable[Tensor]]
"""The outputs of a node, given its inputs by name."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch sums in another order with another number of threads: one gives the same bits on machines of any size."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def run(
    graph: Graph,
    feeds: Mapping[str, Tensor],
    after: After | None = None,
    constants: Mapping[str, Tensor] | None = None,
    operator: Operator | None = None,
) -> Values:
    """Execute the graph and return its outputs by name.

    Args:
        feeds: the network's inputs, ``(N, C, H, W)``.
        after: hook on every activation.
        constants: as from ``tensors(graph)``; entries may be differentiable.
        operator: computes a node instead of ``compute``.
    """
    operator = operator or compute
    values = dict(constants) if constants is not None else tensors(graph)
    remaining = {name: len(nodes) for name, nodes in graph.consumers.items()}
    for name, feed in feeds.items():
        values[name] = after(name, feed) if after is not None else feed
    for node in graph.nodes:
        for name, value in zip(node.outputs, operator(node, values), strict=False):
            values[name] = after(name, value) if after is not None else value
        for name in dict.fromkeys(node.inputs):
            remaining[name] = remaining.get(name, 1) - 1
            if remaining[name] == 0 and name not in graph.constants and name not in graph.outputs:
                values.pop(name, None)
    return {name: values[name] for name in graph.outputs}


def tensors(graph: Graph) -> Values:
    """The graph's constants as torch tensors that share memory with nothing."""
    return {name: torch.from_numpy(np.array(array)) for name, array in graph.constants.items()}


def compute(node: Node, values: Mapping[str, Tensor]) -> Iterable[Tensor]:
    """The outputs of one node, given at least its inputs."""
    inputs = [values[name] if name else None for name in node.inputs]
    operator = _TABLE.get(node.op) if node.domain in ("", "ai.onnx") else None
    if operator is None:
        return _reference(node, inputs)
    parts = {"num_outputs": len(node.outputs)} if node.op == "Split" else {}
    result = operator({**node.attributes, **parts}, *inputs)
    return (result,) if isinstance(result, Tensor) else result


def _reference(node: Node, inputs: list[Tensor | None]) -> tuple[Tensor, ...]:
    from onnx.reference import ReferenceEvaluator
    from onnx.reference.op_run import RuntimeContextError, RuntimeImplementationError

    feeds = {name: value.detach().numpy() for name, value in zip(node.inputs, inputs, strict=True) if value is not None}
    try:
        results = ReferenceEvaluator(node.proto(), opsets={"": OPSET}).run(None, feeds)
    except (NotImplementedError, RuntimeContextError, RuntimeImplementationError):
        results = _in_runtime(node, feeds)
    return tuple(torch.from_numpy(np.array(result)) for result in results)


def _in_runtime(node: Node, feeds: Mapping[str, npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
    """One node in ONNX Runtime, for what the evaluator lacks, GlobalLpPool say, or ONNX itself does."""
    import onnxruntime
    from onnx import ValueInfoProto, helper

    types = {name: helper.np_dtype_to_tensor_dtype(value.dtype) for name, value in feeds.items()}
    given = [helper.make_tensor_value_info(name, types[name], value.shape) for name, value in feeds.items()]
    graph = helper.make_graph([node.proto()], "node", given, [ValueInfoProto(name=name) for name in node.outputs])
    domains = [helper.make_opsetid("", OPSET), *([helper.make_opsetid(node.domain, 1)] if node.domain else [])]
    model = helper.make_model(graph, opset_imports=domains, ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    answers: list[npt.NDArray[Any]] = session.run(None, dict(feeds))
    return answers


def _by_reference(op: str, a: Mapping[str, Any], *inputs: Tensor | None) -> Tensor:
    names = tuple("" if tensor is None else f"input{index}" for index, tensor in enumerate(inputs))
    return _reference(Node(op, names, ("output",), a, op), list(inputs))[0]


def padded(x: Tensor, attributes: Mapping[str, Any], kernel: Iterable[int], value: float) -> tuple[Tensor, Any]:
    """Split ONNX pads into what torch takes symmetrically, returned per axis, and an explicit pad before it."""
    kernel = list(kernel)
    rank = len(kernel)
    strides = attributes.get("strides", [1] * rank)
    dilations = attributes.get("dilations", [1] * rank)
    pads = list(attributes.get("pads", [0] * 2 * rank))
    if attributes.get("auto_pad", "NOTSET").startswith("SAME"):
        lower = attributes["auto_pad"] == "SAME_LOWER"
        for axis in range(rank):
            before, after = same_pads(x.shape[2 + axis], kernel[axis], strides[axis], dilations[axis])
            pads[axis], pads[axis + rank] = (after, before) if lower else (before, after)
    if pads[:rank] == pads[rank:] and value == 0.0:
        return x, pads[:rank]
    if any(pads):
        x = F.pad(x, [pad for axis in reversed(range(rank)) for pad in (pads[axis], pads[axis + rank])], value=value)
    return x, [0] * rank


def _conv(a: Mapping[str, Any], x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    x, padding = padded(x, a, w.shape[2:], 0.0)
    convolve = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}[w.dim()]
    rank = w.dim() - 2
    strides, dilations = a.get("strides", [1] * rank), a.get("dilations", [1] * rank)
    return convolve(x, w, b, strides, padding, dilations, a.get("group", 1))


def _conv_transpose(a: Mapping[str, Any], x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    """What no pad cuts off, cut to the sides that pads, ``auto_pad`` or ``output_shape`` ask for."""
    rank = x.dim() - 2
    strides, dilations = a.get("strides", [1] * rank), a.get("dilations", [1] * rank)
    convolve = {3: F.conv_transpose1d, 4: F.conv_transpose2d, 5: F.conv_transpose3d}[x.dim()]
    y: Tensor = convolve(x, w, None, strides, 0, 0, a.get("group", 1), dilations)
    for axis, (first, side) in enumerate(_transposed_sides(a, x, y)):
        more = first + side - y.shape[2 + axis]
        y = F.pad(y, [0, 0] * (rank - 1 - axis) + [0, max(more, 0)]).narrow(2 + axis, first, side)
    return y if b is None else y + b.reshape(-1, *[1] * rank)


def _transposed_sides(a: Mapping[str, Any], x: Tensor, whole: Tensor) -> Iterator[tuple[int, int]]:
    """Where the result begins along each axis, and its length."""
    rank, auto = x.dim() - 2, a.get("auto_pad", "NOTSET")
    pads, strides = a.get("pads", [0] * 2 * rank), a.get("strides", [1] * rank)
    asked, more = a.get("output_shape", [])[-rank:], a.get("output_padding", [0] * rank)
    if auto.startswith("SAME") and not asked:
        sides = zip(x.shape[2:], strides, whole.shape[2:], more, strict=True)
        asked = [min(side * stride, most + extra) for side, stride, most, extra in sides]
    for axis, extra in enumerate(more):
        full = whole.shape[2 + axis] + extra
        cut = full - asked[axis] if asked else 0
        first = cut // 2 if auto == "SAME_UPPER" else cut - cut // 2
        yield (max(first, 0), asked[axis]) if asked else (pads[axis], full - pads[axis] - pads[axis + rank])


def _gemm(a: Mapping[str, Any], x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    x = x.T if a.get("transA") else x
    y: Tensor = a.get("alpha", 1.0) * (x @ (w.T if a.get("transB") else w))
    return y if b is None else y + a.get("beta", 1.0) * b


def _clip(a: Mapping[str, Any], x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    least = a.get("min", -torch.inf) if low is None else low.item()
    return x.clamp(least, a.get("max", torch.inf) if high is None else high.item())


def _pool_sides(a: Mapping[str, Any], x: Tensor) -> list[tuple[int, int, int]]:
    """Along each axis what is padded in front and behind, and what lies behind that under the last window.

    Under ``ceil_mode`` no window starts behind the input. What no window sees is negative: it is cut off.
    """
    kernel = a["kernel_shape"]
    rank = len(kernel)
    strides, dilations = a.get("strides", [1] * rank), a.get("dilations", [1] * rank)
    pads, auto, found = a.get("pads", [0] * 2 * rank), a.get("auto_pad", "NOTSET"), []
    for axis, side in enumerate(x.shape[2:]):
        before, after = pads[axis], pads[axis + rank]
        if auto.startswith("SAME"):
            before, after = same_pads(side, kernel[axis], strides[axis], 1)
            before, after = (after, before) if auto == "SAME_LOWER" else (before, after)
        reach, whole = dilations[axis] * (kernel[axis] - 1) + 1, side + before + after
        steps = (whole - reach) // strides[axis]
        if a.get("ceil_mode", 0) and (whole - reach) % strides[axis] and (steps + 1) * strides[axis] < side + before:
            steps += 1
        found.append((before, after, steps * strides[axis] + reach - whole))
    return found


def _around(x: Tensor, sides: list[tuple[int, int]], value: float) -> Tensor:
    return F.pad(x, [side for pair in reversed(sides) for side in pair], value=value)


def _max_pool(a: Mapping[str, Any], x: Tensor) -> Tensor:
    x = _around(x, [(before, after + more) for before, after, more in _pool_sides(a, x)], -torch.inf)
    pool = {3: F.max_pool1d, 4: F.max_pool2d, 5: F.max_pool3d}[x.dim()]
    rank = x.dim() - 2
    y: Tensor = pool(x, a["kernel_shape"], a.get("strides", [1] * rank), 0, a.get("dilations", [1] * rank))
    return y


def _average_pool(a: Mapping[str, Any], x: Tensor) -> Tensor:
    sides, counted = _pool_sides(a, x), float(bool(a.get("count_include_pad", 0)))
    pool = {3: F.avg_pool1d, 4: F.avg_pool2d, 5: F.avg_pool3d}[x.dim()]
    ones = _around(torch.ones_like(x[:1, :1]), [(before, after) for before, after, _ in sides], counted)
    ones = _around(ones, [(0, more) for *_, more in sides], 0.0)
    x = _around(x, [(before, after + more) for before, after, more in sides], 0.0)
    strides = a.get("strides", [1] * (x.dim() - 2))
    y: Tensor = pool(x, a["kernel_shape"], strides) / pool(ones, a["kernel_shape"], strides)
    return y


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
        return _by_reference("Pad", a, x, pads, value, axes)
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
        return _by_reference("Resize", a, x, roi, scales, sizes)
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


_TABLE: Mapping[str, Callable[..., Tensor | tuple[Tensor, ...]]] = {
    "Abs": lambda a, x: x.abs(),
    "Add": lambda a, x, y: x + y,
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Clip": _clip,
    "Concat": lambda a, *xs: torch.cat(xs, a["axis"]),
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
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
    "MaxPool": _max_pool,
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
