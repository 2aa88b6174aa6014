"""The shapes that flow through a network, recorded in one forward pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn


LARGE_PX = 320


@dataclass(frozen=True)
class LayerShape:
    """One leaf module in the order of execution. Shapes are ``(N, C, H, W)``, or ``(N, C)`` after pooling."""

    name: str
    module: nn.Module
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]


def layer_shapes(network: nn.Module, input_px: int) -> tuple[LayerShape, ...]:
    """Shapes of every leaf module for one black image ``(1, 3, input_px, input_px)``. Leaves the network as it was.

    Large pictures run on torch's meta device, which has shapes and no numbers, and imports for seconds.
    """
    import torch
    from torch.func import functional_call

    shapes: list[LayerShape] = []

    def recorder(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            shapes.append(LayerShape(name, module, tuple(inputs[0].shape), tuple(output.shape)))

        return hook

    leaves = [(name, module) for name, module in network.named_modules() if not any(module.children())]
    hooks = [module.register_forward_hook(recorder(name)) for name, module in leaves]
    was_training = network.training
    device = "meta" if input_px > LARGE_PX else "cpu"
    state = {name: tensor.to(device) for name, tensor in network.state_dict(keep_vars=True).items()}
    with torch.no_grad():
        functional_call(network.eval(), state, (torch.zeros(1, 3, input_px, input_px, device=device),))
    network.train(was_training)
    for hook in hooks:
        hook.remove()
    return tuple(shapes)
