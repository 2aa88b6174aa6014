"""A target is data: one TOML file per board, checked strictly. Adding a board is adding a file to ``boards/``."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from edgec.pipeline.errors import EdgecError, nearest_hint
from edgec.pipeline.quantize.scheme import Scheme, load_scheme, parse_scheme
from edgec.pipeline.toml_file import STRICT, read_toml, validate

BOARDS = Path(__file__).parent / "boards"


@dataclass(frozen=True)
class Device:
    """Facts of the hardware; each optional one is absent where it does not apply.

    Attributes:
        is_this_machine: the machine that builds can run the artifact as the device would.
        ram_bytes: memory for tensors (microcontrollers: what the arena may take).
        flash_bytes: room for the model.
        emulated_as: CPU model of the user-mode emulation that runs the same instructions.
        source: where the facts come from.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    is_this_machine: bool = False
    description: str = ""
    ram_bytes: int | None = None
    flash_bytes: int | None = None
    emulated_as: str | None = None
    source: str = ""


@dataclass(frozen=True)
class TargetSpec:
    """Where an artifact runs. Pure data.

    Attributes:
        name: the board's file name without ``.toml``.
        compiler: module under ``edgec.targets`` that compiles and runs for it.
        scheme: integer semantics of the runtime.
        options: the compiler's own fields; it refuses those it does not know.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    name: str
    description: str
    compiler: str
    scheme: Scheme
    device: Device = field(default_factory=Device)
    options: dict[str, bool | int | float | str | list[str]] = field(default_factory=dict)


def names() -> tuple[str, ...]:
    """The boards that edgec knows."""
    return tuple(sorted(path.stem for path in BOARDS.glob("*.toml")))


@lru_cache
def load_target(name: str) -> TargetSpec:
    """Read a board by its name, or a user's own file by its path.

    Raises:
        EdgecError: ``unknown-target``, ``no-such-file``, ``bad-board``.
    """
    if not name.endswith(".toml") and name not in names():
        raise EdgecError("unknown-target", f"no target named '{name}'", nearest_hint(name, names()))
    path = Path(name) if name.endswith(".toml") else BOARDS / f"{name}.toml"
    data = read_toml(path, "bad-board")
    data = {**data, "name": path.stem, "scheme": _scheme(data.get("scheme"), path)}
    return validate(TargetSpec, data, path, "bad-board")


def _scheme(value: object, path: Path) -> Scheme:
    """A scheme by its name, or a table of its own that may extend one."""
    if isinstance(value, str):
        return load_scheme(value)
    if isinstance(value, dict):
        return parse_scheme(value)
    raise EdgecError(
        "bad-board", f"'{path}': scheme is {value!r}, expected a scheme's name or a table", "see an existing board"
    )
