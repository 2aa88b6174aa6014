"""Files of weights as they lie on disks: read without running code, within bounds, and down to one state dict."""

from __future__ import annotations

import argparse
import os
import pickle
import struct
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgec.pipeline.core.errors import EdgecError, nearest_hint

if TYPE_CHECKING:
    import torch

StateDict = dict[str, "torch.Tensor"]

BOOKKEEPING = "num_batches_tracked"  # batch norm's step counter; older files lack it, inference ignores it

WHOLE = "fetch or save the file again, whole: torch.save(model.state_dict(), FILE), or safetensors"
MAX_GROWTH = 8
"""Bytes in float32 for each byte of the file: four for 8-bit floats, and twice that for weights that have two names."""
_SMALL_BYTES = 1 << 20
_MAX_DEPTH = 3

_DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
)
"""What ``torch.load`` raises on damaged files beside ``UnpicklingError``: it checks little before it uses a value."""


def read_checkpoint(path: Path, entry: str = "") -> StateDict:
    """Read ``.safetensors``, or a torch file with ``weights_only=True``, as float32 tensors on the CPU.

    Training tools keep more than weights: a dictionary with one state dict somewhere in it is unwrapped.

    Args:
        entry: the state dict to take where there are several, such as ``state_dict_ema``; ``/`` between levels.

    Raises:
        EdgecError: ``no-such-file``, ``corrupt-weights``, ``ambiguous-weights`` where there are several state dicts and
            none was asked for, or ``unsafe-weights`` for a pickle that would run code.
    """
    if not os.path.isfile(path):
        raise EdgecError("no-such-file", f"no weights file '{path}'", "check the path")
    loaded = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    everything = dict(_state_dicts(loaded, ""))
    found = {place: state for place, state in everything.items() if any("." in name for name in state)} or everything
    if not found:
        message = f"'{path}' holds no state dict: expected names and plain tensors"
        raise EdgecError("corrupt-weights", message, "save it with torch.save(model.state_dict(), FILE)")
    state = _chosen(found, entry, path)
    stated = 4 * sum(tensor.numel() for tensor in state.values())
    if stated > MAX_GROWTH * path.stat().st_size + _SMALL_BYTES:
        message = f"'{path}' has {path.stat().st_size:,} bytes, and states tensors of {stated:,}"
        raise EdgecError("corrupt-weights", message, "save the state dict again, without expanded tensors")
    return {
        name: tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in state.items()
        if not name.endswith(BOOKKEEPING)
    }


def _read_safetensors(path: Path) -> StateDict:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, *_DAMAGE) as error:
        raise EdgecError("corrupt-weights", f"'{path}' is no safetensors file: {error}", WHOLE) from error


def _read_torch(path: Path) -> Any:
    import torch

    try:
        _check_stored(path)
        with torch.serialization.safe_globals(_harmless()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "GLOBAL" not in str(error):
            raise EdgecError("corrupt-weights", f"'{path}' is no torch state dict", WHOLE) from error
        raise EdgecError(
            "unsafe-weights",
            f"'{path}' holds more than tensors and could run code when loaded; refused",
            "save the state dict alone: torch.save(model.state_dict(), FILE), or use safetensors",
        ) from error
    except _DAMAGE as error:
        raise EdgecError("corrupt-weights", f"'{path}' is no torch state dict, or not all of it", WHOLE) from error


def _check_stored(path: Path) -> None:
    """torch packs nothing: a member that unpacks to more than it takes is no checkpoint."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > path.stat().st_size:
                raise ValueError("its members are packed")


def _harmless() -> list[Any]:
    """Classes that training scripts save beside weights: plain values and a bag of them, no behaviour."""
    import numpy as np

    scalar: Any = np.float64(0).__reduce__()[0]
    renamed = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]  # numpy 1 and 2
    return [argparse.Namespace, *renamed, np.dtype, *(type(np.dtype(kind)) for kind in ("f8", "f4", "i8"))]


def _state_dicts(loaded: object, where: str, depth: int = 0) -> Iterator[tuple[str, StateDict]]:
    """(place, state dict) of every dictionary that holds tensors by name, the innermost where they nest.

    Those of an optimizer are among them; unlike those of a network their names have no dots.
    """
    if not isinstance(loaded, dict) or depth > _MAX_DEPTH:
        return
    inner = [(str(name), value) for name, value in loaded.items() if isinstance(value, dict)]
    found = [each for name, value in inner for each in _state_dicts(value, f"{where}/{name}".lstrip("/"), depth + 1)]
    tensors = {name: value for name, value in loaded.items() if isinstance(name, str) and _is_plain(value)}
    if found:
        yield from found
    elif tensors:
        yield where, tensors


def _is_plain(value: object) -> bool:
    import torch

    if not isinstance(value, torch.Tensor):
        return False
    return value.layout is torch.strided and not value.is_quantized and value.device.type == "cpu"


def _chosen(found: Mapping[str, StateDict], entry: str, path: Path) -> StateDict:
    if entry in found:
        return found[entry]
    if entry:
        inside = {name: state for name, state in found.items() if any(key.startswith(f"{entry}.") for key in state)}
        if len(inside) == 1:
            state = next(iter(inside.values()))
            return {
                name.removeprefix(f"{entry}."): value for name, value in state.items() if name.startswith(f"{entry}.")
            }
        hint = (
            nearest_hint(entry, filter(None, found)) if any(found) else f"it is one state dict: leave '#{entry}' away"
        )
        raise EdgecError("unknown-weights", f"'{path}' holds nothing named '{entry}'", hint)
    if len(found) > 1:
        raise ambiguous(path, list(found))
    return next(iter(found.values()))


def ambiguous(path: Path, places: list[str]) -> EdgecError:
    """Raw weights beside averaged ones, a teacher beside a student: nobody chooses for the user."""
    message = f"'{path}' holds several sets of weights: {', '.join(places[:10])}"
    hint = " or ".join(f"--weights {path}#{place}" for place in places[:2])
    return EdgecError("ambiguous-weights", message, f"say which: {hint}")
