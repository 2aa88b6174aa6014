"""Opens a bundle that somebody handed over: nothing in it is believed before its digest fits."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgec.pipeline.errors import EdgecError
from edgec.pipeline.preprocess import Preprocess
from edgec.pipeline.store import file_sha256
from edgec.pipeline.toml_file import validate
from edgec.targets.spec import TargetSpec

HINT = "build it again, or get a fresh copy"


@dataclass(frozen=True)
class Bundle:
    """An opened bundle.

    Attributes:
        labels: class names by index; may be empty.
        labelled: False where its accuracy means agreement only.
    """

    folder: Path
    manifest: dict[str, Any]
    target: TargetSpec
    preprocess: Preprocess
    labels: tuple[str, ...]

    @property
    def artifact(self) -> Path:
        """What runs on the target."""
        return self.folder / str(self.manifest["artifact"])

    @property
    def float_onnx(self) -> Path:
        """The float network."""
        return self.folder / "reference" / "float.onnx"

    @property
    def qdq_onnx(self) -> Path:
        """The quantized network that the artifact was compiled from."""
        return self.folder / "reference" / "qdq.onnx"


def open_bundle(folder: Path) -> Bundle:
    """Read the manifest, check every file's digest, and take the rest from there.

    Raises:
        EdgecError: ``no-such-file``, ``no-bundle``, ``corrupt-bundle`` names the file.
    """
    if not folder.is_dir():
        raise EdgecError("no-such-file", f"no bundle '{folder}'", "give the folder that 'edgec build' printed")
    manifest = _manifest(folder)
    for entry in manifest["files"]:
        path = folder / entry["path"]
        if not path.resolve().is_relative_to(folder.resolve()):
            raise EdgecError("corrupt-bundle", f"'{folder}' lists '{entry['path']}', which lies outside it", HINT)
        if not path.is_file() or file_sha256(path) != entry["sha256"]:
            raise EdgecError("corrupt-bundle", f"'{path}' is not the file that the manifest lists", HINT)
    recipe = manifest["recipe"]
    return Bundle(
        folder,
        manifest,
        validate(TargetSpec, _without_class(recipe["target"]), folder / "manifest.json", "corrupt-bundle"),
        validate(Preprocess, _without_class(recipe["preprocess"]), folder / "manifest.json", "corrupt-bundle"),
        tuple((folder / "labels.txt").read_text(encoding="utf-8").splitlines()),
    )


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise EdgecError(
            "no-bundle", f"'{folder}' has no manifest.json", "give the folder that 'edgec build' printed"
        ) from None
    except ValueError as error:
        raise EdgecError("corrupt-bundle", f"'{path}' is no JSON: {error}", HINT) from error
    if not isinstance(manifest, dict) or not {"files", "recipe", "artifact", "model"} <= manifest.keys():
        raise EdgecError("corrupt-bundle", f"'{path}' lacks files, recipe, artifact or model", HINT)
    return manifest


def _without_class(value: Any) -> Any:
    """The store's plain form names each dataclass; the fields alone are wanted here."""
    if isinstance(value, dict):
        return {name: _without_class(item) for name, item in value.items() if name != "class"}
    return value
