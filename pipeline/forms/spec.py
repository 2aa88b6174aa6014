"""A target is data: one TOML file per board, checked strictly. Adding a board is adding a file to ``boards/``."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from edgec.pipeline.core.errors import EdgecError, nearest_hint
from edgec.pipeline.core.toml_file import STRICT, field_names, read_toml, validate
from edgec.pipeline.forms.compiler import load_compiler, settings_of
from edgec.pipeline.forms.scheme import Scheme, load_scheme, parse_scheme

BOARDS = Path(str(resources.files("edgec.targets.boards")))

Precision = Literal["int8", "fp16", "mixed"]
T = TypeVar("T")


@dataclass(frozen=True)
class Gpu:
    """An NVIDIA GPU. Rates are peaks at ``clock_mhz`` with dense weights, None where no source states them.

    Attributes:
        compute_capability: of CUDA; None takes any GPU.
        int8: it has INT8 arithmetic that TensorRT uses.
        dla_cores: deep learning accelerators beside the GPU.
        int8_tops: 10^12 INT8 operations a second, two for a multiply-accumulate.
        fp16_tflops: the same in FP16, tensor cores included.
        bandwidth_gb_s: of the memory, 10^9 bytes a second.
        power_modes: names that ``nvpmodel`` knows.
        jetpack: TensorRT's version by JetPack's.
        source: where the figures come from, and which are derived.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    compute_capability: str | None = None
    int8: bool = True
    dla_cores: int = 0
    clock_mhz: int | None = None
    int8_tops: float | None = None
    fp16_tflops: float | None = None
    bandwidth_gb_s: float | None = None
    power_modes: tuple[str, ...] = ()
    jetpack: dict[str, str] = field(default_factory=dict)
    source: str = ""

    def __post_init__(self) -> None:
        _above_zero(self, "clock_mhz", "int8_tops", "fp16_tflops", "bandwidth_gb_s")
        if self.dla_cores < 0:
            raise ValueError(f"dla_cores is {self.dla_cores}")


@dataclass(frozen=True)
class Device:
    """Facts of the hardware; each optional one is absent where it does not apply.

    Attributes:
        is_this_machine: the machine that builds can run the artifact as the device would.
        ram_bytes: memory for tensors (microcontrollers: what the arena may take).
        flash_bytes: room for the model.
        emulated_as: core of the user-mode emulation on which instructions are counted.
        gpu: what TensorRT builds for.
        source: where the facts come from.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    is_this_machine: bool = False
    description: str = ""
    ram_bytes: int | None = None
    flash_bytes: int | None = None
    emulated_as: str | None = None
    gpu: Gpu | None = None
    source: str = ""

    def __post_init__(self) -> None:
        _above_zero(self, "ram_bytes", "flash_bytes")


@dataclass(frozen=True)
class TargetSpec:
    """Where an artifact runs. Pure data.

    Attributes:
        name: the board's file name without ``.toml``.
        compiler: module under ``edgec.targets`` that compiles and runs for it.
        scheme: integer semantics of the runtime.
        options: the compiler's own fields, checked when the board is read.
        precision: of the layers that are not left in float.
        precisions: that ``--precision`` may ask for.
        notes: what every build for this board must say.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    name: str
    description: str
    compiler: str
    scheme: Scheme
    device: Device = field(default_factory=Device)
    options: dict[str, bool | int | float | str | list[str]] = field(default_factory=dict)
    precision: Precision = "int8"
    precisions: tuple[Precision, ...] = ("int8",)
    notes: tuple[str, ...] = ()


def _above_zero(facts: object, *fields: str) -> None:
    for name in fields:
        value = getattr(facts, name)
        if value is not None and value <= 0:
            raise ValueError(f"{name} is {value}, expected more than 0")


def names() -> tuple[str, ...]:
    """The boards that edgec knows."""
    return tuple(sorted(path.stem for path in BOARDS.glob("*.toml")))


@lru_cache
def load_target(name: str) -> TargetSpec:
    """Read a board by its name, or a user's own file by its path. ``extends`` names a board whose fields it takes over.

    Raises:
        EdgecError: ``unknown-target``, ``no-such-file``, ``bad-board``, ``bad-scheme``, ``unknown-compiler``.
    """
    if not name.endswith(".toml") and name not in names():
        raise EdgecError("unknown-target", f"no target named '{name}'", nearest_hint(name, names()))
    path = Path(name) if name.endswith(".toml") else BOARDS / f"{name}.toml"
    data = _extended(read_toml(path, "bad-board"), path)
    if "name" in data:
        raise EdgecError("bad-board", f"'{path}' has a name of its own", "delete it: a board is called as its file")
    data = {**data, "name": path.stem, "scheme": _scheme(data.get("scheme"), path)}
    target = validate(TargetSpec, data, path, "bad-board")
    _check_precisions(target, path)
    load_compiler(target.compiler).settings(target)
    return target


def stated_in(name: str) -> dict[str, Path]:
    """Which file states each top-level key of a board: its own, or that of a board which it extends.

    Raises:
        EdgecError: as ``load_target``.
    """
    path, found = Path(name) if name.endswith(".toml") else BOARDS / f"{name}.toml", dict[str, Path]()
    while True:
        data = read_toml(path, "bad-board")
        found = {**dict.fromkeys(data, path), **found}
        if "extends" not in data:
            return found
        path = BOARDS / f"{data['extends']}.toml"


def _check_precisions(target: TargetSpec, path: Path) -> None:
    """What the file calls its precision is what its scheme makes; others can be derived from INT8 alone."""
    first = target.precisions[0] if target.precisions else "none"
    message = f"'{path}': precision is '{target.precision}', precisions begins with '{first}'"
    if target.precision != first or (first != "int8" and len(target.precisions) > 1):
        hint = "name the board's own precision first; only a board in int8 offers others"
        raise EdgecError("bad-board", message, hint)
    if first == "fp16" and target.scheme.integer_operators:
        message = f"'{path}': precision is 'fp16', and the scheme has integer_operators"
        raise EdgecError("bad-board", message, "write integer_operators = [] in [scheme], as jetson-nano does")


def with_precision(target: TargetSpec, precision: Precision) -> TargetSpec:
    """``target`` in another of its precisions. In FP16 nothing is quantized: the reference is the float network.

    Mixed is INT8 but for some layers: the first ones, whose noise reaches all others, or on a GPU those that gain least
    by integers, depthwise convolutions and squeeze-excite.

    Raises:
        EdgecError: ``unsupported-precision``.
    """
    if precision not in target.precisions:
        offered = ", ".join(target.precisions)
        message = f"'{target.name}' takes the precision {offered}, got '{precision}'"
        raise EdgecError("unsupported-precision", message, "leave --precision away, or choose another target")
    if precision == target.precision:
        return target
    scheme = replace(target.scheme, name=f"{target.scheme.name}-{precision}")
    if precision == "fp16":
        scheme = replace(scheme, integer_operators=(), tables=False, equalize=(), rescale_activations=False)
        scheme = replace(scheme, hard_swish="float")
    elif scheme.mixed == "first":
        scheme = replace(scheme, prefix=True)
    else:
        scheme = replace(scheme, float_classes=("depthwise", "pointwise"))
    return replace(target, precision=precision, scheme=scheme)


def in_float(target: TargetSpec) -> TargetSpec:
    """The board as it takes the float network: in FP16 where it could ship that."""
    return with_precision(target, "fp16") if "fp16" in target.precisions else target


def float_settings(target: TargetSpec) -> Any:
    """What the compiler reads of the board for the float network.

    Raises:
        EdgecError: ``bad-board``.
    """
    return settings_of(in_float(target))


def first_layers(target: TargetSpec) -> tuple[Scheme | None, int | None]:
    """The scheme of the first layers and the RAM that limits them; neither where none are in finer integers.

    Raises:
        EdgecError: ``unknown-scheme``, and what reading a file raises.
    """
    scheme = target.scheme
    if not scheme.prefix or scheme.first_layers == "float":
        return None, None
    return load_scheme(scheme.first_layers), target.device.ram_bytes


def read_options(kind: type[T], target: TargetSpec) -> T:
    """``[options]`` as a compiler's own dataclass; unknown names and wrong values are refused.

    Raises:
        EdgecError: ``bad-board`` names the field, and says so where it belongs to the scheme.
    """
    path = Path(f"{target.name}.toml")
    misplaced = sorted(target.options.keys() & set(field_names(Scheme)) - set(field_names(kind)))
    if misplaced:
        message = f"'{path}': options.{misplaced[0]} is no option of the compiler '{target.compiler}'"
        hint = f"delete it: the scheme decides; another one than the scheme's is [scheme] {misplaced[0]} = ..."
        raise EdgecError("bad-board", message, hint)
    return validate(kind, target.options, path, "bad-board", "options")


def _extended(data: dict[str, Any], path: Path) -> dict[str, Any]:
    """``data`` over the fields of the board that it extends; whole tables are replaced, not merged."""
    if "extends" not in data:
        return data
    base = data.pop("extends")
    if base not in names():
        raise EdgecError("bad-board", f"'{path}' extends '{base}'", nearest_hint(str(base), names()))
    return {**_extended(read_toml(BOARDS / f"{base}.toml", "bad-board"), path), **data}


def _scheme(value: object, path: Path) -> Scheme:
    """A scheme by its name, by the path of a file beside the board's, or a table of its own that may extend one."""
    if isinstance(value, str):
        return load_scheme(str(path.parent / value) if value.endswith(".toml") else value)
    if isinstance(value, dict):
        return parse_scheme(value, path, "scheme")
    raise EdgecError(
        "bad-board", f"'{path}': scheme is {value!r}, expected a scheme's name or a table", "see an existing board"
    )
