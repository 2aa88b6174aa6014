"""The shapes that flow through a torch network, and its operators, without the arithmetic.

torch's meta device does the same, but brings in torch's compiler, which takes seconds and makes a folder in TMPDIR.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from edgec.pipeline.network.cost import macs
from edgec.pipeline.network.layers import Step, Window


@dataclass(frozen=True)
class LayerShape:
    """One leaf module in the order of execution. Shapes are ``(N, C, H, W)``, or ``(N, C)`` after pooling."""

    name: str
    module: nn.Module
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]


def layer_shapes(network: nn.Module, input_px: int) -> tuple[LayerShape, ...]:
    """Shapes of every leaf module for one black image ``(1, 3, input_px, input_px)``. Leaves the network as it was."""
    shapes: list[LayerShape] = []

    def recorder(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            shapes.append(LayerShape(name, module, tuple(inputs[0].shape), tuple(output.shape)))

        return hook

    leaves = [(name, module) for name, module in network.named_modules() if not any(module.children())]
    hooks = [module.register_forward_hook(recorder(name)) for name, module in leaves]
    _run(network, input_px, ShapesOnly())
    for hook in hooks:
        hook.remove()
    return tuple(shapes)


def steps(network: nn.Module, input_px: int) -> tuple[Step, ...]:
    """The operators of ``network`` on one image ``(1, 3, input_px, input_px)``; leaves the network as it was."""
    reader = _Reader()
    with reader.following(network):
        _run(network, input_px, reader)
    return tuple(reader.steps)


def _run(network: nn.Module, input_px: int, mode: ShapesOnly) -> None:
    was_training = network.training
    with torch.no_grad(), mode:
        network.eval()(mode.picture(input_px))
    network.train(was_training)


@dataclass(frozen=True)
class _Call:
    """One call of a torch function; arguments are found by place or by name."""

    func: Any
    args: tuple[Any, ...]
    named: Mapping[str, Any]

    def get(self, place: int, name: str, default: Any = None) -> Any:
        given = self.args[place] if len(self.args) > place else self.named.get(name)
        return default if given is None else given

    @property
    def tensors(self) -> Iterator[Tensor]:
        """Given by place, alone or in a list."""
        for value in self.args:
            yield from (
                entry for entry in (value if isinstance(value, list | tuple) else (value,)) if _is_tensor(entry)
            )


def _is_tensor(value: object) -> bool:
    return isinstance(value, Tensor)


class ShapesOnly(TorchFunctionMode):
    """One channel is computed and stands for all; products give zeros; what keeps shapes rests.

    Shapes are as torch makes them, numbers are not. The parameters may lie on the meta device.
    """

    KEEP = (F.batch_norm, F.dropout, F.relu, F.relu6, F.hardtanh, F.hardswish, F.hardsigmoid, F.elu)
    BY_CHANNEL = (F.interpolate, F.max_pool2d, F.avg_pool2d)

    def picture(self, input_px: int) -> Tensor:
        """The network's input."""
        return torch.zeros(1, 3, input_px, input_px)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """What torch calls in place of every function of its own."""
        return self.answer(_Call(func, args, kwargs or {}))

    def answer(self, call: _Call) -> Any:
        """The result of one call, right in its shape."""
        if call.func in self.KEEP:
            return call.args[0]
        if call.func is F.linear:
            return call.args[0].new_zeros(()).expand(*call.args[0].shape[:-1], call.get(1, "weight").shape[0])
        if call.func in self.BY_CHANNEL and isinstance(
            one := call.func(call.args[0][:, :1], *call.args[1:], **call.named), Tensor
        ):
            return one.expand(-1, call.args[0].shape[1], *one.shape[2:])
        if call.func is not F.conv2d:
            return call.func(*call.args, **call.named)
        weight = call.get(1, "weight")
        options = (call.get(3, "stride", 1), call.get(4, "padding", 0), call.get(5, "dilation", 1))
        one = F.conv2d(call.args[0][:, :1], torch.zeros(1, 1, *weight.shape[2:]), None, *options)
        return one.expand(-1, weight.shape[0], -1, -1)


class _Reader(ShapesOnly):
    """Notes every call that makes an activation of activations."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[Step] = []
        self._known: dict[int, tuple[str, Tensor]] = {}  # by identity; kept alive, so that it stays theirs
        self._modules: list[str] = []

    @contextmanager
    def following(self, network: nn.Module) -> Iterator[None]:
        """Know which module a call comes from."""
        hooks = []
        for name, module in network.named_modules():
            hooks.append(module.register_forward_pre_hook(lambda *_, name=name: self._modules.append(name)))
            hooks.append(module.register_forward_hook(lambda *_: self._modules.pop() and None))
        yield
        for hook in hooks:
            hook.remove()

    def picture(self, input_px: int) -> Tensor:
        """The network's input, the first activation."""
        picture = super().picture(input_px)
        self._known[id(picture)] = ("input", picture)
        return picture

    def answer(self, call: _Call) -> Any:
        """The result of one call, noted."""
        result = super().answer(call)
        read = [self._known[id(tensor)] for tensor in call.tensors if id(tensor) in self._known]
        if call.func is F.batch_norm and read:
            self._fold(read[0][0], call)
        elif read and isinstance(result, Tensor) and id(result) not in self._known:
            name, image = str(len(self.steps)), read[0][1]
            self._known[id(result)] = (name, result)
            inputs = tuple(found for found, _ in read)
            step = Step(self._modules[-1], inputs, name, tuple(image.shape), tuple(result.shape))
            self.steps.append(_described(step, call))
        return result

    def _fold(self, name: str, norm: _Call) -> None:
        """Batch norm's scale and shift count with the layer in front."""
        if name.isdecimal():
            step, params = self.steps[int(name)], _num(norm.get(3, "weight")) + _num(norm.get(4, "bias"))
            self.steps[int(name)] = replace(step, params=step.params + params)


CONVOLUTIONS = (F.conv1d, F.conv2d, F.conv3d)
TRANSPOSED = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
POOLINGS = (F.max_pool2d, F.avg_pool2d)
MEANS = (F.adaptive_avg_pool2d, F.adaptive_max_pool2d, torch.mean, Tensor.mean)


def _described(step: Step, call: _Call) -> Step:
    """What the operator does, besides its shapes."""
    if call.func in (*CONVOLUTIONS, *TRANSPOSED, F.linear):
        return _weighted(step, call)
    if call.func in POOLINGS:
        kernel = call.get(1, "kernel_size")
        return replace(step, window=Window(_pair(kernel), _pair(call.get(2, "stride", kernel))))
    if call.func is F.interpolate:
        smooth, corners = call.get(3, "mode", "nearest") != "nearest", call.get(4, "align_corners", False)
        return replace(step, window=Window.resizing(step.input_shape[2:], step.output_shape[2:], smooth, corners))
    return replace(step, pools_all=call.func in MEANS and prod(step.output_shape[2:]) == 1)


def _weighted(step: Step, call: _Call) -> Step:
    """A transposed convolution applies its weights at the places that go in, everything else at those that come out."""
    weight, backwards = tuple(call.get(1, "weight").shape), call.func in TRANSPOSED
    step = replace(step, weight=weight, params=_num(call.get(1, "weight")) + _num(call.get(2, "bias")))
    if call.func is F.linear:
        return replace(step, macs=macs(weight, step.output_shape[:-1]))
    window, applied = Window(), step.input_shape if backwards else step.output_shape
    if len(weight) == 4:
        dilation = call.get(7 if backwards else 5, "dilation", 1)
        window = Window(_pair(weight[2:]), _pair(call.get(3, "stride", 1)), _pair(dilation))
    return replace(
        step,
        macs=macs(weight, (applied[0], *applied[2:])),
        groups=call.get(6, "groups", 1),
        window=window.backwards if backwards else window,
    )


def _num(parameter: Tensor | None) -> int:
    return 0 if parameter is None else parameter.numel()


def _pair(sides: int | Sequence[int]) -> tuple[int, int]:
    return (sides, sides) if isinstance(sides, int) else (sides[0], sides[-1])
