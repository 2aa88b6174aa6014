"""The shapes that flow through a network, recorded in one forward pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class LayerShape:
    """One leaf module in the order of execution. Shapes are ``(N, C, H, W)``, or ``(N, C)`` after pooling."""

    name: str
    module: nn.Module
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]


def layer_shapes(network: nn.Module, input_px: int) -> tuple[LayerShape, ...]:
    """Shapes of every leaf module for one black image ``(1, 3, input_px, input_px)``. Leaves the network as it was.

    It runs in numbers: torch's meta device imports torch's compiler, which makes a folder in TMPDIR.
    """
    import torch

    shapes: list[LayerShape] = []

    def recorder(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            shapes.append(LayerShape(name, module, tuple(inputs[0].shape), tuple(output.shape)))

        return hook

    leaves = [(name, module) for name, module in network.named_modules() if not any(module.children())]
    hooks = [module.register_forward_hook(recorder(name)) for name, module in leaves]
    was_training = network.training
    with torch.no_grad():
        network.eval()(torch.zeros(1, 3, input_px, input_px))
    network.train(was_training)
    for hook in hooks:
        hook.remove()
    return tuple(shapes)
