"""What an artifact's file is: what it expects and answers, which runtimes read it, who else computes it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from edgec.pipeline.core.errors import EdgecError

Batch = npt.NDArray[np.float32]
Outputs = tuple[Batch, ...]
MAX_ELEMENTS = 1 << 28  # of one input or output: a gigabyte of float32
QUANTIZED = ("int8", "uint8", "int16", "int32")
MIN_SCALE, MAX_SCALE = 1e-12, 1e12  # of a step
Layout = Literal["NCHW", "NHWC", "NC", "other"]


class Predictor(Protocol):
    """A compiled network that answers, wherever it runs."""

    def predict(self, batch: Batch) -> Outputs:
        """``(N, C, H, W)`` float32 preprocessed images to float32 outputs ``(N, ...)``, in the network's order."""


@dataclass(frozen=True)
class TensorContract:
    """One input or output of an artifact, for one inference.

    Attributes:
        shape: in the artifact's own layout; a symbolic batch counts as 1.
        scale: real value of one step; None for a float tensor. A float32 value, so its decimal text is exact.
        zero_point: the integer that stands for 0.0; None for a float tensor.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    layout: Layout
    scale: float | None = None
    zero_point: int | None = None

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def is_index(self) -> bool:
        """Its integers are classes or places, not numbers: equal or not."""
        return self.scale is None and self.dtype in ("int32", "int64")

    @property
    def spatial(self) -> tuple[int, int, int]:
        """(height, width, channels) of an image tensor."""
        height, width, channels = self.shape[1:] if self.layout == "NHWC" else (*self.shape[2:], self.shape[1])
        return height, width, channels


@dataclass(frozen=True)
class Contract:
    """Inputs and outputs in the artifact's order, and how often each kind of operator occurs."""

    inputs: tuple[TensorContract, ...]
    outputs: tuple[TensorContract, ...]
    operators: dict[str, int]


@dataclass(frozen=True)
class Runtime:
    """What executes an artifact; ``versions`` is a PEP 440 specifier."""

    name: str
    versions: str


@dataclass(frozen=True)
class Candidate:
    """One precision of a network whose choice is left to the device.

    Attributes:
        artifact: what ``compile_model`` made of it.
        loss_pp: what its reference loses against the float network, in points of the task's headline.
    """

    artifact: Path
    loss_pp: float


@dataclass(frozen=True)
class MemoryStep:
    """One operator of a file as it runs.

    Attributes:
        operator: as the file names it.
        shape: of its first output, in the file's own layout.
        live_bytes: of all tensors that memory must hold while it runs; constants are no part of it.
    """

    operator: str
    shape: tuple[int, ...]
    live_bytes: int


class Format(Protocol):
    """One file format. It lies beside the compiler that writes it, and is found through it, never by a suffix."""

    @property
    def name(self) -> str:
        """As the manifest names it."""

    @property
    def artifact(self) -> str:
        """What the compiler makes: a file name, or a folder's."""

    @property
    def linkable(self) -> bool:
        """The runtime takes it from memory, so that C sources can hold it."""

    @property
    def device_script(self) -> Path | None:
        """What a device's own Python runs: one file that needs nothing of edgec. None where artifacts stay here."""

    @property
    def holds_candidates(self) -> bool:
        """Several precisions can lie in one artifact, for the device to choose."""

    def contract(self, artifact: Path) -> Contract:
        """Read from the artifact itself; an engine is described by the file that it is built from.

        Raises:
            EdgecError: ``corrupt-artifact-file`` and what the format's reader raises.
        """

    def runtime(self, settings: Any) -> Runtime:
        """What reads it."""

    def kernel_sets(self, settings: Any) -> tuple[str, ...]:
        """Further implementations on this machine that compute the artifact, by name."""

    def open_kernels(self, name: str, artifact: Path, settings: Any) -> Predictor:
        """One of ``kernel_sets``, with one thread."""

    def board_runs(self, name: str, settings: Any) -> bool:
        """The board itself may run this kernel set, so that its answers count for the tolerance."""

    def is_linked(self, settings: Any) -> bool:
        """The board's firmware links it, so that its C sources come unasked."""

    def counts_arena(self, settings: Any) -> bool:
        """This machine can say what the artifact takes of the board's memory, where the board has no other latency."""

    def with_candidates(self, own: str, candidates: Mapping[str, Candidate], output: Path) -> None:
        """Write the artifact of precision ``own`` to ``output``, with all others in it for the device to choose.

        Raises:
            EdgecError: ``precision-undecided`` where the format holds one network.
        """

    def resolver_name(self, operator: str) -> str:
        """What firmware registers for an operator of the file; empty where nothing is registered."""

    def memory_steps(self, artifact: Path) -> tuple[MemoryStep, ...]:
        """What an interpreter with an arena holds in it, operator by operator; empty where there is no arena.

        Raises:
            EdgecError: what the format's reader raises.
        """


class Alone:
    """The part of a ``Format`` that one runtime alone computes, here, and of which firmware registers nothing."""

    device_script: Path | None = None
    holds_candidates: bool = False

    def kernel_sets(self, settings: Any) -> tuple[str, ...]:
        """None."""
        return ()

    def open_kernels(self, name: str, artifact: Path, settings: Any) -> Predictor:
        """There are none.

        Raises:
            KeyError: always.
        """
        raise KeyError(name)

    def board_runs(self, name: str, settings: Any) -> bool:
        """There are none."""
        return False

    def is_linked(self, settings: Any) -> bool:
        """The board has files to load it from."""
        return False

    def counts_arena(self, settings: Any) -> bool:
        """It has none."""
        return False

    def with_candidates(self, own: str, candidates: Mapping[str, Candidate], output: Path) -> None:
        """It holds one network.

        Raises:
            EdgecError: ``precision-undecided``.
        """
        raise undecided()

    def resolver_name(self, operator: str) -> str:
        """The runtime brings every operator."""
        return ""

    def memory_steps(self, artifact: Path) -> tuple[MemoryStep, ...]:
        """The runtime has an allocator."""
        return ()


def undecided() -> EdgecError:
    """There is nothing to weigh precisions with, and no device that could."""
    message = "precisions can be weighed only where each is measured, and this machine is not the target"
    hint = "give --on ssh://user@host, or choose one with --precision"
    return EdgecError("precision-undecided", message, hint)


def layout_of(shape: tuple[int, ...], channels_last: bool) -> Layout:
    """The name of a layout; only images and vectors have one."""
    if len(shape) == 4:
        return "NHWC" if channels_last else "NCHW"
    return "NC" if len(shape) == 2 else "other"


def counts(kinds: Iterable[str]) -> dict[str, int]:
    """How often each occurs, by name."""
    return dict(sorted(Counter(kinds).items()))


def damaged(path: Path, why: str) -> EdgecError:
    """The refusal of an artifact that its own format's reader cannot read."""
    return EdgecError("corrupt-artifact-file", f"'{path}' cannot be read: {why}", "get a fresh copy of the bundle")


def sound(contract: Contract, path: Path) -> Contract:
    """``contract``, if an inference can be that: whoever wrote the file may have written anything into it.

    Raises:
        EdgecError: ``corrupt-artifact-file`` names the tensor.
    """
    if not contract.inputs or not contract.outputs:
        raise damaged(path, "it has no input or no output")
    for tensor in (*contract.inputs, *contract.outputs):
        if any(side < 1 for side in tensor.shape) or tensor.size > MAX_ELEMENTS:
            raise damaged(path, f"tensor '{tensor.name}' has the shape {tensor.shape}")
        if tensor.scale is not None and not _can_quantize(tensor):
            raise damaged(path, f"tensor '{tensor.name}' is {tensor.dtype}, {tensor.scale} x (q - {tensor.zero_point})")
    return contract


def _can_quantize(tensor: TensorContract) -> bool:
    if tensor.dtype not in QUANTIZED or not MIN_SCALE <= (tensor.scale or 0.0) <= MAX_SCALE:
        return False
    limits = np.iinfo(tensor.dtype)
    return bool(limits.min <= (tensor.zero_point or 0) <= limits.max)


def artifact_files(artifact: Path) -> tuple[Path, ...]:
    """The files that make up an artifact."""
    return (artifact,) if artifact.is_file() else tuple(sorted(path for path in artifact.rglob("*") if path.is_file()))


def size_bytes(artifact: Path) -> int:
    """Of all its files."""
    return sum(file.stat().st_size for file in artifact_files(artifact))
