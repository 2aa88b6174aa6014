"""The float network alone, as ``edgec build`` would take it further: one ONNX file, and what it needs beside it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import tomlkit

from edgec.pipeline.build import Build
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.stage import file_sha256
from edgec.pipeline.core.store import Store
from edgec.pipeline.recipe import OnnxSource, Recipe


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        description: the ``model.toml`` beside it, which ``edgec build`` takes.
    """

    output: str
    description: str
    sha256: str
    size_bytes: int


def usual_file(recipe: Recipe) -> Path:
    """What is written when nobody says where."""
    return Path("edgec-out") / f"{recipe.name}.onnx"


def export_network(recipe: Recipe, output: Path, store: Store) -> Exported:
    """Export, simplify, prove equal, and write ``output`` and its ``model.toml``.

    Raises:
        EdgecError: ``output-is-input``, ``output-not-writable``, and whatever a stage raises.
    """
    description = output.with_suffix(".toml")
    source = recipe.source
    if isinstance(source, OnnxSource) and source.path.resolve() == output.resolve():
        raise EdgecError("output-is-input", f"'{output}' is the network itself", "name another file with --output")
    network = Build(recipe, store).fp32.path
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(network, output)
        description.write_text(_described(recipe, output.name), encoding="utf-8")
    except OSError as error:
        message = f"cannot write '{output}': {error.strerror}"
        raise EdgecError("output-not-writable", message, "choose another --output") from error
    return Exported(str(output), str(description), file_sha256(output), output.stat().st_size)


def _described(recipe: Recipe, name: str) -> str:
    """As a ``model.toml``: labels, task and preprocessing as the weights know them."""
    labels = {"labels": list(recipe.labels)} if recipe.labels else {}
    task = {"task": recipe.task} if recipe.task else {}
    stated = recipe.preprocess.stated()
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in stated.items()}
    return tomlkit.dumps({"onnx": name, **labels, **task, "preprocess": plain})
