"""Weights for an untrained network: He initialisation, and batch-norm statistics from seeded noise."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


def initialise(network: nn.Module) -> None:
    """He initialisation by fan-out for convolutions (arXiv 1502.01852), small normal for linear layers."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
        if isinstance(module, (nn.Conv2d, nn.Linear)) and module.bias is not None:
            nn.init.zeros_(module.bias)


def settle_batch_norm(network: nn.Module, input_px: int, passes: int = 2, batch_size: int = 4) -> None:
    """Give an untrained network the batch-norm statistics that smooth noise from torch's generator produces.

    Without them the activations of a deep random network grow or vanish, and size and latency studies would
    quantize degenerate ranges. Leaves the network in the mode it was in.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta, was_training = [norm.momentum for norm in norms], network.training
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch: None means the plain average over the passes
    network.train()
    with torch.no_grad():
        for _ in range(passes):
            network(smooth_noise(batch_size, input_px))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.train(was_training)


def smooth_noise(batch_size: int, input_px: int) -> torch.Tensor:
    """``(N, 3, input_px, input_px)`` from torch's generator: large spots and a little grain, as pictures have."""
    coarse = torch.randn(batch_size, 3, max(input_px // 16, 2), max(input_px // 16, 2))
    fine = torch.randn(batch_size, 3, input_px, input_px)
    return F.interpolate(coarse, size=input_px, mode="bilinear") + 0.25 * fine
