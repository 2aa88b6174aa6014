"""Opens a bundle that somebody handed over: nothing in it is believed before its digest fits."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from edgec.pipeline.bundle.integrity import read_checked_manifest
from edgec.pipeline.bundle.manifest import MANIFEST, Json, Manifest, corrupt
from edgec.pipeline.core.toml_file import validate
from edgec.pipeline.data.preprocess import Preprocess
from edgec.pipeline.forms.compiler import settings_of
from edgec.pipeline.forms.spec import TargetSpec


@dataclass(frozen=True)
class Bundle:
    """An opened bundle, every file of it checked.

    Attributes:
        preprocess: how images become inputs.
    """

    folder: Path
    manifest: Manifest
    target: TargetSpec
    preprocess: Preprocess

    @cached_property
    def settings(self) -> Any:
        """What the compiler reads of the board.

        Raises:
            EdgecError: ``bad-board``, ``unknown-compiler``.
        """
        return settings_of(self.target)

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names by index; may be empty."""
        return self.manifest.labels

    @property
    def artifact(self) -> Path:
        """What runs on the target."""
        return self.folder / self.manifest.target.artifact

    @property
    def float_onnx(self) -> Path:
        """The float network; ``float_network.float_network`` finds it where the bundle leaves it out."""
        return self.folder / "reference" / "float.onnx"

    @property
    def qdq_onnx(self) -> Path:
        """The quantized network that the artifact was compiled from."""
        return self.folder / "reference" / "qdq.onnx"


def open_bundle(folder: Path) -> Bundle:
    """Check every file's digest, then take the rest from the manifest.

    Raises:
        EdgecError: what ``read_checked_manifest`` raises; ``corrupt-bundle`` where a field means nothing.
    """
    manifest, path = read_checked_manifest(folder), folder / MANIFEST
    target = validate(TargetSpec, _as_named_today(manifest.origin.target), path, "corrupt-bundle")
    stated = {name: value for name, value in asdict(manifest.preprocessing).items() if name != "integer"}
    preprocess = validate(Preprocess, stated, path, "corrupt-bundle")
    for image in (tensor for tensor in manifest.contract.inputs if len(tensor.shape) == 4):
        if image.spatial != (*preprocess.shape[1:], preprocess.shape[0]):
            raise corrupt(f"'{path}': input '{image.name[:80]}' is {image.shape}, and pictures are {preprocess.shape}")
    return Bundle(folder, manifest, target, preprocess)


def _as_named_today(target: Json) -> Json:
    """The board of a bundle that an older edgec made: its scheme's ``float_prefix`` is called ``prefix``."""
    scheme = target.get("scheme")
    if not isinstance(scheme, dict) or "float_prefix" not in scheme:
        return target
    kept = {name: value for name, value in scheme.items() if name != "float_prefix"}
    return {**target, "scheme": {"prefix": scheme["float_prefix"], **kept}}
