"""What a compiler offers to the pipeline. A compiler is one module under ``edgec.targets``, found by its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np
import numpy.typing as npt

from edgec.pipeline.core.errors import EdgecError

if TYPE_CHECKING:
    import onnx

    from edgec.pipeline.forms.device import Device
    from edgec.pipeline.forms.measure import Cost
    from edgec.pipeline.forms.spec import TargetSpec

Batch = npt.NDArray[np.float32]


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
class Placement:
    """What a runtime makes of an artifact, in counts that repeat exactly; None where the runtime has no such thing.

    Attributes:
        num_operators: that it executes.
        num_transposes: of them, changes of the layout that the model itself asks for.
        num_reformats: copies between layouts or precisions that the runtime or the compiler put in.
        num_float_layers: convolutions and matrix products that compute in float.
        delegate_pieces: parts that a delegate takes the graph apart into.
        arena_bytes: what an interpreter without an allocator takes of its arena.
    """

    num_operators: int
    num_transposes: int
    num_float_layers: int
    num_reformats: int | None = None
    delegate_pieces: int | None = None
    arena_bytes: int | None = None


class Predictor(Protocol):
    """A compiled network that answers, wherever it runs."""

    def predict(self, batch: Batch) -> Batch:
        """``(N, 3, H, W)`` float32 preprocessed images to ``(N, ...)`` float32 outputs of the first output."""


class Runner(Predictor, Protocol):
    """A compiled network, loaded on this machine."""

    def single(self, image: Batch) -> Callable[[], None]:
        """Bind one ``(1, 3, H, W)`` image to preallocated buffers; the returned call runs it once."""


class OnDevice(Predictor, Protocol):
    """A compiled network on a device. Each call starts the runtime there: give it many images at once."""

    def cost(self) -> Cost:
        """What one inference costs there."""

    def fetch(self, folder: Path) -> None:
        """Bring home what the device made of the artifact, an engine say; nothing where it runs as it is."""


class Adapter(Protocol):
    """A module's functions, by name."""

    ARTIFACT: str
    """What ``compile_model`` makes: a file name, or a folder's."""

    TOOLCHAIN: tuple[str, ...]
    """Distributions whose versions decide the artifact."""

    def check(self, model: onnx.ModelProto, target: TargetSpec) -> None:
        """Refuse a float network that the target cannot take, before anything long runs.

        Raises:
            EdgecError: ``unsupported-operator`` names the operator and its node.
        """

    def compile_model(self, qdq: Path, output: Path, target: TargetSpec) -> None:
        """Compile the explicit-QDQ (or float) ONNX file ``qdq`` to ``output``."""

    def open_runner(self, artifact: Path, target: TargetSpec, threads: int) -> Runner:
        """Load the artifact for execution on this machine."""

    def on_device(self, device: Device, artifact: Path, target: TargetSpec, threads: int) -> OnDevice:
        """The artifact on ``device``; nothing is contacted yet.

        Raises:
            EdgecError: ``cannot-run-there``.
        """

    def placement(self, artifact: Path, target: TargetSpec) -> Placement:
        """Count what the runtime makes of the artifact, without running it on a device."""

    def estimate(self, artifact: Path, target: TargetSpec) -> tuple[float, float] | None:
        """Milliseconds between which the latency should lie, computed from the board's rates; None without a model."""

    def layer_times(self, artifact: Path, target: TargetSpec, threads: int) -> Mapping[str, float]:
        """Mean microseconds in each layer on this machine, by its name; empty where the runtime does not tell."""

    def probe(self, target: TargetSpec | None = None) -> Probe:
        """Find out what works here, for ``target`` where boards differ."""


def stays_here(target: TargetSpec) -> EdgecError:
    """For ``on_device`` of compilers whose artifacts are not brought to devices."""
    message = f"'{target.name}' artifacts are not brought to devices"
    hint = "leave --on out, or build for an Arm or Jetson target"
    return EdgecError("cannot-run-there", message, hint)


def load_adapter(compiler: str) -> Adapter:
    """The module ``edgec.targets.<compiler>``; loading it loads no SDK."""
    return cast(Adapter, import_module(f"edgec.targets.{compiler}"))
