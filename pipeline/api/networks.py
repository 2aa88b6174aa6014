"""Networks that a caller holds, as the files that a recipe is made from."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard, Union

from edgec.pipeline.api.calls import bad_argument
from edgec.pipeline.cli._options import choices_of
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.foreign import foreign
from edgec.pipeline.core.scratch import scratch
from edgec.pipeline.data.preprocess import CHANNELS
from edgec.pipeline.recipe import Choices, Recipe

if TYPE_CHECKING:
    import onnx
    from torch import nn

Model = Union[str, "os.PathLike[str]", "onnx.ModelProto", "nn.Module"]
"""A name (``edgec models``), an ONNX file or a ``model.toml``, or a network in memory."""


@dataclass(frozen=True)
class Described:
    """What a ``model.toml`` says beside the network, as arguments; None says nothing.

    Attributes:
        name: of the network, for the bundle.
        preprocess: the table of a ``model.toml`` (``docs/data.md``).
        labels: class names by index.
    """

    name: str | None = None
    preprocess: Mapping[str, Any] | None = None
    labels: Sequence[str] | None = None

    def given(self) -> list[str]:
        """Names of what was told."""
        return [name for name, value in vars(self).items() if value is not None]


@dataclass(frozen=True)
class Source:
    """A network as ``make_recipe`` takes it.

    Attributes:
        model: name or path.
        input_px: what is left of the option, once a traced module took it.
        held: in words, where the caller holds the network.
    """

    model: str
    input_px: int | None
    held: str = ""

    def choices(self, given: Mapping[str, Any]) -> Choices:
        """What is asked of the network, out of a command's options as ``checked`` gives them."""
        asked = {field.name: given[field.name] for field in fields(Choices)}
        return choices_of(**asked | {"input_px": self.input_px})

    def recipe(self, made: Recipe) -> Recipe:
        """``made`` from ``model``, without the path of a file that is soon gone."""
        return replace(made, weights=self.held) if self.held else made


@contextmanager
def as_file(model: Model, described: Described, input_px: int | None) -> Iterator[Source]:
    """The network as a name or a file; one from memory is written for the time of the block.

    Raises:
        EdgecError: ``bad-argument``, ``module-does-not-export``; what ``scratch`` raises.
    """
    if isinstance(model, str | os.PathLike):
        path = Path(model)
        if not described.given():
            yield Source(os.fspath(model), input_px)
            return
        if path.suffix != ".onnx":
            message = f"{described.given()[0]} is given beside '{model}', which brings its own"
            raise bad_argument(message, "leave it away, or give the ONNX file")
        with scratch("network") as folder:
            name = path.stem if described.name is None else _checked_name(described.name)
            yield Source(_stated(folder, path.absolute(), described, name), input_px)
        return
    with scratch("network") as folder:
        if _is_onnx(model):
            name = _name(described, model.graph.name)
            _save(model, folder / f"{name}.onnx")
            source = Source("", input_px, "an ONNX model from memory")
        elif _is_module(model):
            name = _name(described, type(model).__name__.lower())
            _trace(model, _sides(described.preprocess or {}, input_px), folder / f"{name}.onnx")
            source = Source("", None, f"a torch.nn.Module ({type(model).__name__})")
        else:
            expected = "a name, a path, an onnx.ModelProto or a torch.nn.Module"
            raise bad_argument(f"the model is {type(model).__name__}, expected {expected}")
        path = folder / f"{name}.onnx"
        stated = described.preprocess is not None or described.labels is not None
        yield replace(source, model=_stated(folder, path, described, name) if stated else str(path))


def _stated(folder: Path, network: Path, described: Described, name: str) -> str:
    """A ``model.toml``."""
    import tomlkit

    table = {
        key: list(value) if isinstance(value, tuple) else value for key, value in (described.preprocess or {}).items()
    }
    path = folder / f"{name}.toml"
    said = {"onnx": str(network), "labels": list(described.labels or ()), "preprocess": table}
    try:
        path.write_text(tomlkit.dumps(said), encoding="utf-8")
    except (ValueError, TypeError) as error:  # what TOML has no word for
        raise bad_argument(f"preprocess or labels: {error}", "give numbers and strings") from error
    return str(path)


def _name(described: Described, otherwise: str) -> str:
    """Of a network from memory: a file's name without its ending."""
    if described.name is None:
        return re.sub(r"[^\w.-]+", "-", otherwise).strip(".-") or "model"
    return _checked_name(described.name)


def _checked_name(name: str) -> str:
    if not re.fullmatch(r"[\w.+ -]{1,100}", name) or name.startswith("."):
        raise bad_argument(f"name is {name!r}, expected letters, digits, '_', '-' and '.'")
    return name


def _is_onnx(model: Any) -> TypeGuard[onnx.ModelProto]:
    """Whoever holds one has imported its package, so that nothing is loaded to find out."""
    known = sys.modules.get("onnx")
    return known is not None and isinstance(model, known.ModelProto)


def _is_module(model: Any) -> TypeGuard[nn.Module]:
    known = sys.modules.get("torch")
    return known is not None and isinstance(model, known.nn.Module)


def _save(model: onnx.ModelProto, path: Path) -> None:
    import onnx

    from edgec.pipeline.network.import_onnx import named_damage

    with named_damage(path):
        onnx.save(model, path)


def _sides(preprocess: Mapping[str, Any], input_px: int | None) -> tuple[int, int, int]:
    """``(C, H, W)``, which a module does not say itself."""
    square = preprocess.get("crop_px", input_px)
    height, width = preprocess.get("height_px", square), preprocess.get("width_px", square)
    channels = CHANNELS.get(str(preprocess.get("color", "RGB")))
    if not all(isinstance(side, int) and side > 0 for side in (height, width)):
        hint = "give input_px=224, or preprocess={'height_px': 240, 'width_px': 320}"
        raise bad_argument("a torch.nn.Module does not say the size of its pictures", hint)
    if channels is None:
        raise bad_argument(f"color is {preprocess['color']!r}", f"one of {', '.join(CHANNELS)}")
    return channels, int(height), int(width)


def _trace(network: nn.Module, sides: tuple[int, int, int], path: Path) -> None:
    """In evaluation mode, which is taken back afterwards.

    Raises:
        EdgecError: ``module-does-not-export``: its own code, or torch's tracer, refuses a picture of these sides.
    """
    import torch

    from edgec.pipeline.network.export import trace

    like = next(network.parameters(), torch.zeros(()))
    image = torch.zeros(1, *sides, dtype=like.dtype, device=like.device)
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        with foreign(lambda said: _does_not_export(network, f"on a picture {sides} {said}")), torch.no_grad():
            trace(network, image, path, _outputs(network, network(image)))
    finally:
        for module in training:
            module.training = True


def _outputs(network: nn.Module, answer: Any) -> tuple[str, ...]:
    """A name for each tensor that the network answers with: its own, where it answers with a dictionary."""
    import torch

    if isinstance(answer, torch.Tensor):
        return ("output",)
    named = isinstance(answer, Mapping)
    found = dict(answer) if named else dict(enumerate(answer if isinstance(answer, tuple | list) else [answer]))
    wrong = [type(value).__name__ for value in found.values() if not isinstance(value, torch.Tensor)]
    if wrong or not found:
        kinds = ", ".join(wrong) or "nothing"
        raise _does_not_export(network, f"answers with {kinds}, expected tensors, in a tuple or a dictionary")
    return tuple(str(key) if named else f"output_{key}" for key in found)


def _does_not_export(network: nn.Module, said: str) -> EdgecError:
    hint = "export it yourself (torch.onnx.export) and give the ONNX file"
    return EdgecError("module-does-not-export", f"the module {type(network).__name__} {said[:500]}", hint)
