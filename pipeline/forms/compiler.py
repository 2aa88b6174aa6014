"""What a compiler offers to the pipeline. A compiler is a folder of ``edgec.targets``, or another package's module."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from functools import cache
from importlib import import_module, resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from edgec.pipeline.core.errors import EdgecError, nearest_hint
from edgec.pipeline.core.extensions import (
    bad_extension,
    check_extension,
    extension_names,
    load_extension,
    module_of,
    refuse_keyless,
    refuse_taken,
)
from edgec.pipeline.forms.format import Batch, Format, Predictor

if TYPE_CHECKING:
    import onnx

    from edgec.pipeline.forms.device import Device
    from edgec.pipeline.forms.measure import Cost, DeviceTurns
    from edgec.pipeline.forms.spec import TargetSpec

GROUP = "edgec.compilers"


@dataclass(frozen=True)
class Probe:
    """What this machine can do for a target, found by trying, not by looking at names.

    Attributes:
        can_build: the compiler is installed and answers.
        can_run: the artifact can be executed here.
        facts: versions and devices found.
        missing: what is not there and how to get it; empty where nothing is missing.
    """

    can_build: bool
    can_run: bool
    facts: str
    missing: str = ""


@dataclass(frozen=True)
class FastKernels:
    """Operators of an artifact for which a processor's own library has fast kernels.

    Attributes:
        library: its name, and of which processors.
        num_operators: that the processor runs.
        plain: operators without one, by what keeps them from it, with counts.
    """

    library: str
    num_operators: int
    plain: dict[str, int]

    @property
    def words(self) -> str:
        """``38 of 41 operators have fast kernels in CMSIS-NN (Cortex-M); plain loops run 3 x HARD_SWISH``."""
        fast = self.num_operators - sum(self.plain.values())
        ordered = sorted(self.plain.items(), key=lambda pair: (-pair[1], pair[0]))
        left = ", ".join(f"{count} x {kind}" for kind, count in ordered)
        said = f"{fast} of {self.num_operators} operators have fast kernels in {self.library}"
        return f"{said}; plain loops run {left}" if left else said


@dataclass(frozen=True)
class Placement:
    """What a runtime makes of an artifact, in counts that repeat exactly; None where the runtime has no such thing.

    Attributes:
        num_operators: that it executes.
        num_transposes: of them, changes of the layout that the model itself asks for.
        num_reformats: copies between layouts or precisions that the runtime or the compiler put in.
        num_float_layers: convolutions and matrix products that compute in float.
        delegate_pieces: parts that a delegate takes the graph apart into.
        num_cpu_operators: operators that an accelerator leaves to the processor.
        arena_bytes: what an interpreter without an allocator takes of its arena.
        arena_source: who says so, where TFLite Micro did not measure it here.
        fast_kernels: where the runtime takes kernels of the processor's maker, if firmware is built with them.
    """

    num_operators: int
    num_transposes: int
    num_float_layers: int
    num_reformats: int | None = None
    delegate_pieces: int | None = None
    arena_bytes: int | None = None
    num_cpu_operators: int | None = None
    arena_source: str | None = None
    fast_kernels: FastKernels | None = None


class Runner(Predictor, Protocol):
    """A compiled network, loaded on this machine."""

    def single(self, image: Batch) -> Callable[[], None]:
        """Bind one ``(1, C, H, W)`` image to preallocated buffers; the returned call runs it once."""


class OnDevice(Predictor, Protocol):
    """A compiled network on a device. Each call starts the runtime there: give it many images at once."""

    def identity(self) -> dict[str, str]:
        """What answers there: board or GPU, runtime and versions."""

    def cost(self, in_float: Path | None = None) -> Cost:
        """What one inference costs there.

        Args:
            in_float: the same compiler's artifact of the float network, to be timed beside it; where the device cannot,
                the latency's ``no_float`` says why.
        """

    def device_name(self) -> str:
        """As ``Latency.device`` names it.

        Raises:
            EdgecError: ``cannot-time-there``; what devices raise.
        """

    def turns(self, others: Sequence[Path], turn_s: float, reverse: bool) -> DeviceTurns:
        """Time the artifact and ``others`` by turns in one new process there.

        Args:
            others: artifacts of the same compiler, for a device like this one.
            turn_s: seconds for the timed turns, warm-up and loading apart.
            reverse: load the last one first.

        Raises:
            EdgecError: ``cannot-time-there`` where the device's runtime takes one artifact at a time;
                ``emulated-latency``; what devices raise.
        """

    def fetch(self, folder: Path) -> None:
        """Bring home what the device made of the artifact, an engine say; nothing where it runs as it is."""


class Compiler(Protocol):
    """A module's functions, by name.

    ``settings`` is a frozen dataclass of the compiler's own: all that it and its runtime read of a board. It stands in
    the keys of the store, so two boards with equal settings share one artifact and its answers.
    """

    FORMAT: Format

    TOOLCHAIN: tuple[str, ...]
    """Distributions whose versions decide the artifact."""

    def settings(self, target: TargetSpec) -> Any:
        """What the board asks of this compiler, checked.

        Raises:
            EdgecError: ``bad-board`` names the field.
        """

    def check(self, model: onnx.ModelProto, settings: Any) -> Sequence[str] | None:
        """Refuse a network that the target cannot take, before anything long runs.

        Args:
            model: explicit QDQ as the target's scheme writes it, but with made-up ranges; or float.

        Returns:
            What to know before building, in sentences; nothing where there is nothing to say.

        Raises:
            EdgecError: ``unsupported-operator`` names the operator and its node.
        """

    def compile_model(self, qdq: Path, output: Path, settings: Any) -> None:
        """Compile the explicit-QDQ (or float) ONNX file ``qdq`` to ``output``; equal files give equal bytes."""

    def open_runner(self, artifact: Path, settings: Any, threads: int) -> Runner:
        """Load the artifact for execution on this machine."""

    def on_device(self, device: Device, artifact: Path, settings: Any, threads: int) -> OnDevice:
        """The artifact on ``device``; nothing is contacted yet.

        Raises:
            EdgecError: ``cannot-run-there``.
        """

    def describe(self, device: Device) -> dict[str, Any]:
        """What ``device`` says of itself and of the runtime there.

        Raises:
            EdgecError: ``cannot-run-there``, and see ``Device.run``.
        """

    def placement(self, artifact: Path, settings: Any) -> Placement:
        """Count what the runtime makes of the artifact, without running it on a device."""

    def estimate(self, artifact: Path, settings: Any) -> tuple[float, float] | None:
        """Milliseconds between which the latency should lie, computed from the board's rates; None without a model."""

    def layer_times(self, artifact: Path, settings: Any, threads: int) -> Mapping[str, float]:
        """Mean microseconds in each layer on this machine, by its name; empty where the runtime does not tell."""

    def probe(self, settings: Any = None) -> Probe:
        """Find out what works here, for the board's settings where boards differ."""


class LoadsCompiler:
    """A stage or a form that holds a compiler by its name, and whose key holds the compiler's code."""

    compiler: str

    @property
    def loads(self) -> tuple[str, ...]:
        """See ``compiler_modules``."""
        return compiler_modules(self.compiler)


def compiler_modules(name: str) -> tuple[str, ...]:
    """Where the compiler and its format are written, wherever its settings may be."""
    found: object = load_compiler(name)
    return (module_of(found), module_of(load_compiler(name).FORMAT))


def stays_here(artifact: str) -> EdgecError:
    """For ``on_device`` and ``describe`` of compilers whose artifacts are not brought to devices."""
    hint = "leave --on out, or build for an Arm or Jetson target"
    return EdgecError("cannot-run-there", f"{artifact} artifacts are not brought to devices", hint)


def compiler_names() -> tuple[str, ...]:
    """Folders of ``edgec.targets`` that hold a ``compiler.py``, and what other packages bring."""
    return tuple(sorted({*_own(), *extension_names(GROUP)}))


@cache
def load_compiler(name: str) -> Compiler:
    """The compiler of a board by its name; loading it loads no SDK.

    Raises:
        EdgecError: ``unknown-compiler``, ``bad-extension``.
    """
    found: Compiler
    if name in _own():
        refuse_taken(GROUP, name)
        found = import_module(f"edgec.targets.{name}")
    elif name in extension_names(GROUP):
        found = load_extension(GROUP, name)
    else:
        raise EdgecError("unknown-compiler", f"no compiler named '{name}'", nearest_hint(name, compiler_names()))
    check_extension(GROUP, name, found, Compiler)
    check_extension(GROUP, f"{name}.FORMAT", found.FORMAT, Format)
    if not isinstance(found.TOOLCHAIN, tuple):
        raise bad_extension(GROUP, name, f"has the TOOLCHAIN {found.TOOLCHAIN!r}, expected a tuple of distributions")
    if found.FORMAT.artifact != Path(found.FORMAT.artifact).name:
        raise bad_extension(
            GROUP, name, f"makes '{found.FORMAT.artifact}', expected the plain name of a file or folder"
        )
    return found


def settings_of(target: TargetSpec) -> Any:
    """What a board asks of its compiler: the compiler's own frozen dataclass, whose module brings in its code.

    Raises:
        EdgecError: ``unknown-compiler``, ``bad-extension``, ``bad-board``.
    """
    settings = load_compiler(target.compiler).settings(target)
    if not is_dataclass(settings) or isinstance(settings, type):
        raise bad_extension(GROUP, target.compiler, f"has the settings {settings!r}, expected a frozen dataclass")
    refuse_keyless(GROUP, target.compiler, settings)
    return settings


def _own() -> tuple[str, ...]:
    folder = Path(str(resources.files("edgec.targets")))
    return tuple(
        entry.name for entry in pkgutil.iter_modules([str(folder)]) if (folder / entry.name / "compiler.py").is_file()
    )
