"""State dicts: freed of prefixes, renamed to our parameter names, checked against a network before they enter it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.network import models
from edgec.pipeline.network.models.checkpoint import BOOKKEEPING, StateDict, ambiguous
from edgec.pipeline.network.models.spec import NetworkConfig, made_by

if TYPE_CHECKING:
    import torch
    from torch import nn

OWN_NAMES = "edgec"
_MOST_NAMES = 10
_HARMLESS = re.compile(r"(^|\.)(total_ops|total_params|n_averaged)$|activation_post_process|fake_quant|observer")
"""Counters of operations and averages, observers of quantization-aware training: no part of a network."""
_LIKE_OURS = 0.5  # share of module names that two sets have in common
LAST = "classifier."
"""The layer that gives the logits, in every family."""
_DEPTH = 4  # parts of a prefix: model._orig_mod.module.backbone


class Convention(NamedTuple):
    """A model and the definition whose parameter names a file uses."""

    model: str
    names: str


def free_of_prefix(state: StateDict, known: Sequence[set[str]], path: Path) -> tuple[StateDict, tuple[str, ...]]:
    """(weights, names left out): what lies under the one prefix whose modules are ``known``, such as ``module.model``.

    Args:
        known: module names of the network, in each convention.

    Raises:
        EdgecError: ``ambiguous-weights`` where two prefixes hold such a network, as with a teacher and a student.
    """
    counters = {name for name in state if _HARMLESS.search(name)}
    modules = {name.rpartition(".")[0] for name in state if name not in counters}
    best, share = _likeliest(modules, known)
    if share < _LIKE_OURS:
        best = ""
    rival, rival_share = _likeliest({module for module in modules if not module.startswith(best)}, known)
    if best and rival_share >= _LIKE_OURS:
        raise ambiguous(path, sorted(prefix.rstrip(".") or "without prefix" for prefix in (best, rival)))
    kept = {name[len(best) :]: state[name] for name in state if name.startswith(best) and name not in counters}
    return kept, tuple(name for name in state if not name.startswith(best) or name in counters)


def _likeliest(modules: set[str], known: Sequence[set[str]]) -> tuple[str, float]:
    """(prefix, share of names): the prefix below which the modules are most like one of ``known``."""
    fewest = min(len(names) for names in known) * _LIKE_OURS
    below = {prefix: _below(modules, prefix) for prefix, count in _prefixes(modules).items() if count >= fewest}
    shares = {prefix: max(_share(below[prefix], names) for names in known) for prefix in below}
    best = max(sorted(shares), key=lambda prefix: (shares[prefix], -len(prefix)), default="")
    return best, shares.get(best, 0.0)


def _prefixes(modules: set[str]) -> Counter[str]:
    """Every beginning of a name, with the number of modules that have it."""
    parts = [module.split(".") for module in modules]
    return Counter(".".join((*each[:depth], "")) for each in parts for depth in range(min(len(each), _DEPTH + 1)))


def _below(modules: set[str], prefix: str) -> set[str]:
    return {module[len(prefix) :] for module in modules if module.startswith(prefix)}


def _share(some: set[str], others: set[str]) -> float:
    return len(some & others) / max(len(some | others), 1)


def recognise(keys: Iterable[str]) -> Convention | None:
    """The model and naming convention that share most module names with ``keys``; None below half of them."""
    modules = {key.rpartition(".")[0] for key in keys}
    shares = {Convention(model, names): _share(modules, known) for model, names, known in _known_modules()}
    best = max(shares, key=lambda convention: shares[convention])
    return best if shares[best] >= _LIKE_OURS else None


def _known_modules() -> Iterator[tuple[str, str, set[str]]]:
    for model in models.names():
        conventions, builder = models.get(model).conventions, models.get(model).builder
        yield from ((model, names, set(table)) for names, table in conventions.items())
        yield (model, OWN_NAMES, _own_modules(model, builder))


@cache
def _own_modules(model: str, builder: object) -> set[str]:
    """Ours, from any convention; a family that has none is built to look, without its numbers.

    Args:
        builder: the model's own: another package's model of the same name is another one.
    """
    import torch

    spec = models.get(model)
    for table in spec.conventions.values():
        return set(table.values())
    with torch.device("meta"):
        return {name.rpartition(".")[0] for name in made_by(spec, NetworkConfig(model)).state_dict()}


def rename(state: Mapping[str, torch.Tensor], table: Mapping[str, str]) -> StateDict:
    """Give each tensor our name. ``table`` maps their modules to ours; unknown names stay as they are."""
    renamed = {}
    for key, tensor in state.items():
        module, _, parameter = key.rpartition(".")
        renamed[f"{table.get(module, module)}.{parameter}".removeprefix(".")] = tensor
    return renamed


def check(state: Mapping[str, torch.Tensor], network: nn.Module, origin: str, model: str) -> None:
    """Compare names, shapes and values with what ``network`` needs. ``state`` has our names.

    Raises:
        EdgecError: ``weights-mismatch`` with at most ten names and the likely mistake; ``weights-not-finite``.
    """
    wanted = {name: tensor for name, tensor in network.state_dict().items() if not name.endswith(BOOKKEEPING)}
    shapes = {
        name: (tuple(state[name].shape), tuple(tensor.shape))
        for name, tensor in wanted.items()
        if name in state and state[name].shape != tensor.shape
    }
    problems = {name: f"missing {name}" for name in wanted if name not in state}
    problems |= {name: f"unexpected {_shown(name)}" for name in state if name not in wanted}
    problems |= {name: f"{name}: file {list(file)}, network {list(net)}" for name, (file, net) in shapes.items()}
    problems |= {
        name: f"{name}: {state[name].dtype} in the file"
        for name in wanted.keys() - problems.keys()
        if not state[name].is_floating_point()
    }
    if problems:
        more = f", and {len(problems) - _MOST_NAMES} more" if len(problems) > _MOST_NAMES else ""
        listed = "; ".join([*problems.values()][:_MOST_NAMES])
        hint = _likely_mistake(state, wanted, problems, shapes, model)
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
    problems: Iterable[str],
    shapes: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]],
    model: str,
) -> str:
    if all(name.startswith(LAST) for name in problems):
        file, _ = shapes.get("classifier.bias", ((), ()))
        classes = f"the file has {file[0]} classes: --num-classes {file[0]}" if file else "its layer is another"
        return f"everything but the classifier fits; {classes}, or let edgec train make a new one"
    found = recognise(state)
    if found is not None and found.model != model:
        return f"the names look like those of '{found.model}': build that model, or pass its weights"
    file, net = shapes.get(next(iter(wanted)), ((), ()))
    if len(file) == len(net) == 4 and file[0] != net[0]:
        return f"wrong width multiplier? the first layer has {file[0]} channels in the file, {net[0]} in the network"
    if shapes:
        return "the layers have other shapes than the network's: check --width-multiplier and --num-classes"
    return "the names are not this model's; in a card, names = '...' says which definition they follow"


def _shown(name: str) -> str:
    return (name if name.isprintable() else ascii(name))[:200]
