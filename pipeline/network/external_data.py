"""An ONNX file and the files beside it that hold its weights."""

from __future__ import annotations

import hashlib
from pathlib import Path

from edgec.pipeline.core.store import Artifact, file_sha256


def onnx_artifact(path: Path) -> Artifact:
    """A user's ONNX file as a stage's input: its digest covers the external data that it names, where there is any."""
    parts = [file_sha256(path), *(file_sha256(file) for file in external_files(path))]
    return Artifact(path, parts[0] if len(parts) == 1 else hashlib.sha256("\n".join(parts).encode()).hexdigest())


def external_files(path: Path) -> tuple[Path, ...]:
    """The files that its tensors name and that are there, sorted; whether they may be read is for the import to say."""
    import onnx
    from google.protobuf.message import DecodeError
    from onnx.external_data_helper import ExternalDataInfo, _get_all_tensors, uses_external_data

    try:
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, OSError):
        return ()  # the import names what is wrong
    named = {ExternalDataInfo(tensor).location for tensor in _get_all_tensors(model) if uses_external_data(tensor)}
    files = [path.parent / name for name in sorted(named) if name]
    return tuple(file for file in files if file.is_file())
