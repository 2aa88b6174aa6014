"""The file ``manifest.json``: canonical, checked field by field as it is read, and described by a schema."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgec.pipeline.bundle.manifest import UNLISTED, Manifest, corrupt
from edgec.pipeline.bundle.paths import check_path

if TYPE_CHECKING:
    from pydantic import TypeAdapter

SCHEMA_FILE = Path(__file__).with_name("manifest.schema.json")


def to_bytes(manifest: Manifest) -> bytes:
    """Canonical JSON by RFC 8785: equal manifests are equal bytes."""
    import rfc8785

    content = asdict(manifest)
    told = ("integer", *manifest.preprocessing.stated())
    content["preprocessing"] = {name: content["preprocessing"][name] for name in told}
    return rfc8785.dumps(content)


def parse_manifest(content: bytes, name: str) -> Manifest:
    """Read a manifest; it must be canonical, follow the schema and name only paths inside its folder.

    A field that an older edgec did not write has its default.

    Args:
        name: of the bundle, for messages.

    Raises:
        EdgecError: ``corrupt-bundle`` names the field.
    """
    import rfc8785
    from pydantic import ValidationError

    try:
        data = json.loads(content, parse_constant=_no_constant, object_pairs_hook=_once)
        manifest = _adapter().validate_json(content, strict=True)
        canonical = rfc8785.dumps(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "file"
        raise corrupt(f"'{name}': manifest.json: {where}: {first['msg']}") from error
    except (ValueError, RecursionError) as error:
        raise corrupt(f"'{name}': manifest.json is no canonical JSON: {error}") from error
    if canonical != content or not isinstance(data, dict):
        raise corrupt(f"'{name}': manifest.json is not in canonical form")
    _check_paths(manifest, name)
    return manifest


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of ``manifest.json``, as ``manifest.schema.json`` keeps it."""
    schema = _adapter().json_schema()
    for record in (schema, *schema["$defs"].values()):
        record["additionalProperties"] = False
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://edgec.invalid/bundle-2/manifest.schema.json",
        **schema,
    }


@lru_cache
def _adapter() -> TypeAdapter[Manifest]:
    from pydantic import TypeAdapter

    return TypeAdapter(Manifest)


def _check_paths(manifest: Manifest, name: str) -> None:
    seen: set[str] = set(UNLISTED)
    for entry in manifest.files:
        check_path(entry.path, name)
        if entry.path.lower() in seen or entry.path in seen:
            raise corrupt(f"'{name}': manifest.json lists '{entry.path}' twice, or a file that it cannot list")
        seen.add(entry.path.lower())
    folders = {"/".join(parts[:i]) for parts in (path.split("/") for path in seen) for i in range(1, len(parts))}
    if folders & seen:
        raise corrupt(f"'{name}': manifest.json lists '{min(folders & seen)}' as a file and as a folder")
    artifact = manifest.target.artifact
    if not any(entry.path == artifact or entry.path.startswith(f"{artifact}/") for entry in manifest.files):
        raise corrupt(f"'{name}': manifest.json lists no file of the artifact {artifact[:120]!r}")


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no JSON number")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("a key occurs twice")
    return dict(pairs)
