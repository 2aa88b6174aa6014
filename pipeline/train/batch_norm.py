"""Statistics of batch norm: measured for averaged weights, and restated for weights that come from elsewhere."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from edgec.pipeline.train.pictures import Pictures, spread_batches

BATCH_SIZE, NUM_BATCHES = 64, 32


def norms_of(network: nn.Module) -> list[nn.BatchNorm2d]:
    """Every batch norm, in a fixed order."""
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


@torch.no_grad()
def measure_batch_norm(
    network: nn.Module, pictures: Pictures, batch_size: int = BATCH_SIZE, num_batches: int = NUM_BATCHES
) -> None:
    """Replace the running statistics by the plain mean over evenly spread pictures, seen as at inference.

    Averaged weights never had statistics of their own (SWA does the same, 1803.05407 section 3.2).
    """
    network.eval()
    norms = norms_of(network)
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch: None means the plain average
        norm.train()
    for batch in spread_batches(len(pictures), batch_size, num_batches):
        network(pictures.inputs(batch))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


@torch.no_grad()
def restate_batch_norm(
    network: nn.Module, pictures: Pictures, batch_size: int = BATCH_SIZE, num_batches: int = NUM_BATCHES
) -> None:
    """Give batch norm the statistics of these pictures, its scale and shift changed so that the function stays.

    Weights that were folded, or trained on other pictures, state a mean and a variance that batches here do not have:
    the first step in training mode would compute another network. ``network`` is left in evaluation mode.
    """
    network.eval()
    norms = norms_of(network)
    seen: list[list[Tensor]] = [[] for _ in norms]
    hooks = [norm.register_forward_pre_hook(partial(_take, found)) for norm, found in zip(norms, seen, strict=True)]
    for batch in spread_batches(len(pictures), batch_size, num_batches):
        network(pictures.inputs(batch))
    for hook in hooks:
        hook.remove()
    for norm, found in zip(norms, seen, strict=True):
        means, variances = torch.stack(found).double().unbind(dim=1)
        _restate(norm, means.mean(dim=0), variances.mean(dim=0) + means.var(dim=0, correction=0))


def _take(found: list[Tensor], norm: nn.Module, arguments: tuple[Tensor]) -> None:
    """Keep mean and variance by channel of what goes into a batch norm, ``(2, C)``."""
    variance, mean = torch.var_mean(arguments[0], dim=(0, 2, 3), correction=0)
    found.append(torch.stack([mean, variance]))


def _restate(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    """``scale * (x - mean) / sqrt(variance + eps) + shift`` with other statistics and the same value for every x."""
    if norm.running_mean is None or norm.running_var is None:
        return
    slope = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    norm.bias.add_((slope * (mean - norm.running_mean)).float())
    norm.weight.copy_((slope * (variance + norm.eps).sqrt()).float())
    norm.running_mean.copy_(mean.float())
    norm.running_var.copy_(variance.float())
