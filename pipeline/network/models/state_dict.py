"""State dicts: read safely, renamed to our parameter names, checked against a network before they enter it."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.network import models
from edgec.pipeline.network.models.spec import NetworkConfig

if TYPE_CHECKING:
    import torch
    from torch import nn

OWN_NAMES = "edgec"
_MOST_NAMES = 10
_BOOKKEEPING = "num_batches_tracked"  # batch norm's step counter; older files lack it, inference ignores it

_DAMAGE = (RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError, AssertionError, struct.error)
"""What ``torch.load`` raises on damaged files beside ``UnpicklingError``: it checks little before it uses a value."""

StateDict = dict[str, "torch.Tensor"]


class Convention(NamedTuple):
    """A model and the definition whose parameter names a file uses."""

    model: str
    names: str


def read_state_dict(path: Path) -> StateDict:
    """Read ``.safetensors``, or a torch file with ``weights_only=True``, as float32 tensors on the CPU.

    A checkpoint that keeps its weights under ``state_dict`` or ``model`` is unwrapped.

    Raises:
        EdgecError: ``no-such-file``, ``corrupt-weights``, or ``unsafe-weights`` for a pickle that would run code.
    """
    if not path.is_file():
        raise EdgecError("no-such-file", f"no weights file '{path}'")
    state = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    return {
        name: tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in state.items()
        if not name.endswith(_BOOKKEEPING)
    }


def _read_safetensors(path: Path) -> StateDict:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise EdgecError("corrupt-weights", f"'{path}' is no safetensors file: {error}") from error


def _read_torch(path: Path) -> StateDict:
    import torch

    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "GLOBAL" not in str(error):
            raise EdgecError("corrupt-weights", f"'{path}' is no torch state dict") from error
        raise EdgecError(
            "unsafe-weights",
            f"'{path}' holds more than tensors and could run code when loaded; refused",
            "save the state dict alone: torch.save(model.state_dict(), FILE), or use safetensors",
        ) from error
    except _DAMAGE as error:
        raise EdgecError("corrupt-weights", f"'{path}' is no torch state dict: {error}") from error
    for wrapper in ("state_dict", "model"):
        if isinstance(loaded, dict) and isinstance(loaded.get(wrapper), dict):
            loaded = loaded[wrapper]
    if not isinstance(loaded, dict) or not all(_is_entry(name, value) for name, value in loaded.items()):
        raise EdgecError("corrupt-weights", f"'{path}' holds no state dict: expected names and plain tensors")
    return dict(loaded)


def _is_entry(name: object, value: object) -> bool:
    import torch

    is_plain = isinstance(value, torch.Tensor) and value.layout is torch.strided and not value.is_quantized
    return is_plain and isinstance(name, str)


def recognise(keys: Iterable[str]) -> Convention | None:
    """The model and naming convention that share most module names with ``keys``; None below half of them."""
    modules = {key.rpartition(".")[0] for key in keys}
    shares = {
        Convention(model, names): len(modules & known) / max(len(modules | known), 1)
        for model, names, known in _known_modules()
    }
    best = max(shares, key=lambda convention: shares[convention])
    return best if shares[best] >= 0.5 else None


def _known_modules() -> Iterator[tuple[str, str, set[str]]]:
    for model in models.names():
        conventions = models.get(model).conventions
        yield from ((model, names, set(table)) for names, table in conventions.items())
        yield (model, OWN_NAMES, _own_modules(model))


def _own_modules(model: str) -> set[str]:
    """Ours, from any convention; a family that has none is built to look."""
    spec = models.get(model)
    for table in spec.conventions.values():
        return set(table.values())
    return {name.rpartition(".")[0] for name in spec.builder(NetworkConfig(model)).state_dict()}


def rename(state: Mapping[str, torch.Tensor], table: Mapping[str, str]) -> StateDict:
    """Give each tensor our name. ``table`` maps their modules to ours; unknown names stay as they are."""
    renamed = {}
    for key, tensor in state.items():
        module, _, parameter = key.rpartition(".")
        renamed[f"{table.get(module, module)}.{parameter}"] = tensor
    return renamed


def check(state: Mapping[str, torch.Tensor], network: nn.Module, origin: str, model: str) -> None:
    """Compare names, shapes and values with what ``network`` needs. ``state`` has our names.

    Raises:
        EdgecError: ``weights-mismatch`` with at most ten names and the likely mistake; ``weights-not-finite``.
    """
    wanted = {name: tensor for name, tensor in network.state_dict().items() if not name.endswith(_BOOKKEEPING)}
    problems = [f"missing {name}" for name in wanted if name not in state]
    problems += [f"unexpected {name}" for name in state if name not in wanted]
    shapes = {
        name: (tuple(state[name].shape), tuple(tensor.shape))
        for name, tensor in wanted.items()
        if name in state and state[name].shape != tensor.shape
    }
    problems += [f"{name}: file {list(file)}, network {list(net)}" for name, (file, net) in shapes.items()]
    if problems:
        more = f", and {len(problems) - _MOST_NAMES} more" if len(problems) > _MOST_NAMES else ""
        listed = "; ".join(problems[:_MOST_NAMES])
        hint = _likely_mistake(state, wanted, shapes, model)
        raise EdgecError("weights-mismatch", f"'{origin}' does not fit '{model}': {listed}{more}", hint)
    broken = [name for name, tensor in state.items() if not tensor.isfinite().all()]
    if broken:
        raise EdgecError(
            "weights-not-finite",
            f"'{origin}' holds NaN or infinite values in {', '.join(broken[:_MOST_NAMES])}",
            "train again from an earlier checkpoint",
        )


def _likely_mistake(
    state: Mapping[str, torch.Tensor],
    wanted: Mapping[str, torch.Tensor],
    shapes: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]],
    model: str,
) -> str:
    found = recognise(state)
    if found is not None and found.model != model:
        return f"the names look like those of '{found.model}': build that model, or pass its weights"
    if shapes.keys() == {"classifier.weight", "classifier.bias"}:
        num_classes = shapes["classifier.bias"][0][0]
        return f"the file has {num_classes} classes: --num-classes {num_classes}"
    if shapes:
        stem = next(iter(wanted))
        channels, expected = state[stem].shape[0], wanted[stem].shape[0]
        return f"wrong width multiplier? the first layer has {channels} channels in the file, {expected} in the network"
    return "the names are not this model's; in a card, names = '...' says which definition they follow"
