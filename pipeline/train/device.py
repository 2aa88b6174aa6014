"""What a run computes on."""

from __future__ import annotations

import torch

from edgec.pipeline.core.errors import EdgecError


def find_device(wanted: str) -> torch.device:
    """The device called ``wanted``: ``auto`` is a GPU where torch sees one.

    Raises:
        EdgecError: ``missing-gpu`` where a GPU is asked for and torch sees none.
    """
    has_gpu = torch.cuda.is_available()
    if wanted == "auto":
        wanted = "cuda" if has_gpu else "cpu"
    if wanted == "cuda" and not has_gpu:
        hint = "leave --device away, or install torch with CUDA for this machine's driver"
        raise EdgecError("missing-gpu", f"torch {torch.__version__} sees no GPU", hint)
    return torch.device(wanted)


def device_name(device: torch.device) -> str:
    """As a card names what a run computed on."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"
