"""What a compiler offers to the pipeline. A compiler is one module under ``edgec.targets``, found by its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import onnx

    from edgec.targets.spec import TargetSpec

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


class Predictor(Protocol):
    """A compiled network that answers, wherever it runs."""

    def predict(self, batch: Batch) -> Batch:
        """``(N, 3, H, W)`` float32 preprocessed images to ``(N, ...)`` float32 outputs of the first output."""


class Runner(Predictor, Protocol):
    """A compiled network, loaded on this machine."""

    def single(self, image: Batch) -> Callable[[], None]:
        """Bind one ``(1, 3, H, W)`` image to preallocated buffers; the returned call runs it once."""


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

    def probe(self) -> Probe:
        """Find out what works here."""


def load_adapter(compiler: str) -> Adapter:
    """The module ``edgec.targets.<compiler>``; loading it loads no SDK."""
    return cast(Adapter, import_module(f"edgec.targets.{compiler}"))
