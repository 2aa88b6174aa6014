"""The layers of a network one by one: what each computes, holds, moves and sees. Read from torch and ONNX alike.

A receptive field grows by ``dilation * (kernel - 1)`` steps of the grid that a layer reads, and a stride makes the
steps longer (arXiv 1603.07285, relationships 6 and 14, applied from the picture on).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, prod
from typing import Literal

from edgec.pipeline.network.cost import macs

Kind = Literal["plain", "pointwise", "grouped", "depthwise", "product"]
Pair = tuple[float, float]


@dataclass(frozen=True)
class Window:
    """Where an operator looks, by height and width, in places of what it reads.

    Attributes:
        stride: places from one output to the next; below 1 where it enlarges.
    """

    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)

    @property
    def backwards(self) -> Window:
        """Of the transposed convolution with these figures: its outputs lie ``stride`` times as dense."""
        axes = list(zip(self.kernel, self.stride, self.dilation, strict=True))
        reads = [ceil((dilation * (kernel - 1) + 1) / stride) for kernel, stride, dilation in axes]
        return Window((reads[0], reads[1]), (1 / self.stride[0], 1 / self.stride[1]))

    @classmethod
    def resizing(cls, before: Sequence[int], after: Sequence[int], smooth: bool, corners: bool) -> Window:
        """Of an interpolation between planes; ``corners`` keeps corners on corners.

        A ``smooth`` one reads on both sides, less than a whole step away: the window is an upper bound.
        """
        ends = int(corners and min(after) > 1)
        kernel = [3 if smooth and side > 1 else 1 for side in before]
        stride = [(old - ends or 1) / (new - ends) for old, new in zip(before, after, strict=True)]
        return cls((kernel[0], kernel[1]), (stride[0], stride[1]))


@dataclass(frozen=True)
class Step:
    """One operator, as the reader of a torch network or an ONNX file found it.

    Attributes:
        inputs: names of the activations that it reads.
        output: name of the activation that it makes.
        weight: shape of its weight: ``(C_out, C_in / groups, H, W)`` of a convolution; empty where it has none.
        macs: of one image.
        params: elements of its weight, its bias and the batch norm behind it.
        pools_all: each output sees the whole of the input, a global pooling say.
    """

    name: str
    inputs: tuple[str, ...]
    output: str
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    weight: tuple[int, ...] = ()
    macs: int = 0
    params: int = 0
    groups: int = 1
    window: Window = Window()
    pools_all: bool = False

    @property
    def kind(self) -> Kind:
        """Which of the five products it is; of use only where there is a weight."""
        if len(self.weight) < 3:
            return "product"
        if self.groups == 1:
            return "pointwise" if set(self.weight[2:]) == {1} else "plain"
        return "depthwise" if self.groups == self.input_shape[1] else "grouped"

    @property
    def sees_all(self) -> bool:
        """Nothing of the picture's plane is left behind it."""
        before, after = prod(self.input_shape[2:]), prod(self.output_shape[2:])
        return self.pools_all or before > after == 1


@dataclass(frozen=True)
class Saving:
    """A layer against one plain convolution that reads and makes the same channels.

    Of a depthwise and a pointwise layer ``weights / plain_weights`` is 1/N + 1/k^2 for N output channels (arXiv
    1704.04861, section 3.1), of a grouped one 1/groups.
    """

    weights: int
    plain_weights: int
    macs: int
    plain_macs: int

    @property
    def times(self) -> float:
        """How many times fewer multiply-accumulates."""
        return self.plain_macs / self.macs


@dataclass(frozen=True)
class Layer:
    """One layer with weights, for one image.

    Attributes:
        activations: elements that it reads and makes.
        weights: elements of its weight.
        receptive_field_px: height and width of the window on the picture; shifts by uneven padding are not followed,
            and behind an interpolation it is an upper bound.
        sees_all: the whole picture acts on it by a global pooling or a product over places, beside the window.
        saving: stands at the layer that ends it, the pointwise one of a separable convolution.
    """

    name: str
    kind: Kind
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    kernel: tuple[int, ...]
    groups: int
    macs: int
    params: int
    weights: int
    activations: int
    receptive_field_px: tuple[int, int]
    sees_all: bool
    saving: Saving | None

    @property
    def macs_per_element(self) -> float:
        """Arithmetic intensity: multiply-accumulates for each weight and activation moved once."""
        return self.macs / (self.weights + self.activations)


@dataclass(frozen=True)
class _Sight:
    """What one activation sees, and which depthwise layers nothing but weightless operators part it from."""

    size: Pair = (1, 1)
    jump: Pair = (1, 1)
    all: bool = False
    depthwise: frozenset[Step] = frozenset()

    def through(self, step: Step) -> _Sight:
        window = step.window
        axes = zip(self.size, self.jump, window.kernel, window.dilation, strict=True)
        height, width = (size + dilation * (kernel - 1) * jump for size, jump, kernel, dilation in axes)
        tall, wide = (jump * stride for jump, stride in zip(self.jump, window.stride, strict=True))
        behind = self.depthwise
        if step.weight or step.sees_all:
            behind = frozenset((step,) if step.weight and step.kind == "depthwise" else ())
        return _Sight((height, width), (tall, wide), self.all or step.sees_all, behind)


def layers_of(steps: Iterable[Step]) -> tuple[Layer, ...]:
    """The layers with weights in the order of ``steps``, which are in topological order."""
    seen: dict[str, _Sight] = {}
    halves: set[Step] = set()
    layers = []
    for step in steps:
        before = _joined([seen.get(name, _Sight()) for name in step.inputs])
        seen[step.output] = after = before.through(step)
        if step.weight:
            half = None
            if step.kind == "pointwise":
                half = next((found for found in before.depthwise if found not in halves and _alike(found, step)), None)
                halves.update((half,) if half else ())
            layers.append(_layer(step, after, _saving(step, half)))
    return tuple(layers)


def _joined(sights: Sequence[_Sight]) -> _Sight:
    """The widest of each: centres are taken as one."""
    if len(sights) < 2:
        return sights[0] if sights else _Sight()
    sizes, jumps = zip(*(sight.size for sight in sights), strict=True), zip(*(s.jump for s in sights), strict=True)
    (height, width), (tall, wide) = (tuple(max(axis) for axis in axes) for axes in (sizes, jumps))
    behind = frozenset[Step]().union(*(sight.depthwise for sight in sights))
    return _Sight((height, width), (tall, wide), any(sight.all for sight in sights), behind)


def _alike(depthwise: Step, pointwise: Step) -> bool:
    """The pointwise layer reads the depthwise one's map."""
    return depthwise.output_shape[1:] == pointwise.input_shape[1:]


def _saving(step: Step, half: Step | None) -> Saving | None:
    if half is not None:
        channels = (step.output_shape[1], half.input_shape[1])
        plain = (*channels, *half.weight[2:])
        weights = prod(half.weight) + prod(step.weight)
        return Saving(weights, prod(plain), half.macs + step.macs, macs(plain, step.output_shape[2:]))
    if step.kind == "grouped":
        weights = prod(step.weight)
        return Saving(weights, weights * step.groups, step.macs, step.macs * step.groups)
    return None


def _layer(step: Step, sight: _Sight, saving: Saving | None) -> Layer:
    return Layer(
        name=step.name,
        kind=step.kind,
        input_shape=step.input_shape[1:],
        output_shape=step.output_shape[1:],
        kernel=step.weight[2:],
        groups=step.groups,
        macs=step.macs,
        params=step.params,
        weights=prod(step.weight),
        activations=prod(step.input_shape[1:]) + prod(step.output_shape[1:]),
        receptive_field_px=(ceil(sight.size[0]), ceil(sight.size[1])),
        sees_all=sight.all,
        saving=saving,
    )
