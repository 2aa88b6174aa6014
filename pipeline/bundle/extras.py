"""What a bundle holds only where somebody asks: it can be had again from the rest, or is not for every board."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, get_args

from edgec.pipeline.core.errors import EdgecError

if TYPE_CHECKING:
    from edgec.pipeline.bundle.manifest import Manifest
    from edgec.pipeline.forms.spec import TargetSpec

Extra = Literal["c", "float", "vectors"]
EXTRAS: tuple[Extra, ...] = get_args(Extra)

_FIRST_FILE: Mapping[Extra, str] = MappingProxyType(
    {"c": "c/model.h", "float": "reference/float.onnx", "vectors": "golden/inputs."}
)


def extras_of(manifest: Manifest) -> tuple[Extra, ...]:
    """Those that are in a bundle, asked for or not."""
    paths = [entry.path for entry in manifest.files]
    return tuple(extra for extra in EXTRAS if any(path.startswith(_FIRST_FILE[extra]) for path in paths))


def check_extras(asked: tuple[Extra, ...], target: TargetSpec) -> None:
    """Refuse C sources of what no program can hold, before anything is built.

    Raises:
        EdgecError: ``no-c-sources``.
    """
    from edgec.pipeline.forms.compiler import load_compiler

    format_ = load_compiler(target.compiler).FORMAT
    if "c" in asked and not format_.linkable:
        raise no_c_sources(f"'{target.name}' takes '{format_.artifact}' as files")


def no_c_sources(why: str) -> EdgecError:
    """Where ``c`` was asked for."""
    return EdgecError("no-c-sources", f"there are no C sources of this artifact: {why}", "leave '--with c' away")
