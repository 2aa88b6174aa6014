"""Records in JSON files, checked field by field as they are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.toml_file import validate

T = TypeVar("T")


def read_record(kind: type[T], path: Path, code: str) -> T:
    """The JSON object in ``path`` as a ``kind``.

    Raises:
        EdgecError: ``code``.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise EdgecError(code, f"'{path}' cannot be read: {error}", "build it again, or get a fresh copy") from error
    if not isinstance(data, dict):
        raise EdgecError(code, f"'{path}' is no JSON object", "build it again, or get a fresh copy")
    return validate(kind, data, path, code)
