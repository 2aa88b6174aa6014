"""A compiler with a file format of its own: four bytes, then the QDQ file. Entry point ``edgec.compilers``."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from edgec.pipeline.core.toml_file import STRICT
from edgec.pipeline.forms.compiler import OnDevice, Placement, Probe, stays_here
from edgec.pipeline.forms.format import Candidate, Contract, Format, MemoryStep, Predictor, Runtime, damaged, undecided
from edgec.pipeline.forms.ort import OrtRunner
from edgec.pipeline.forms.spec import TargetSpec, read_options
from edgec.targets.onnxruntime.format import onnx_contract

if TYPE_CHECKING:
    import onnx

    from edgec.pipeline.forms.device import Device

MAGIC = b"TOY1"
TOOLCHAIN: tuple[str, ...] = ("onnxruntime",)


@dataclass(frozen=True)
class ToySettings:
    """``[options]`` of a toy board."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    colour: str = "red"


@dataclass(frozen=True)
class ToyFormat:
    """Nothing else reads it."""

    name: str = "toy"
    artifact: str = "model.toy"
    linkable: bool = False
    device_script: Path | None = None
    holds_candidates: bool = False

    def contract(self, artifact: Path) -> Contract:
        return onnx_contract(_unwrapped(artifact))

    def runtime(self, settings: Any) -> Runtime:
        return Runtime("the toy runtime", ">=1.0")

    def kernel_sets(self, settings: Any) -> tuple[str, ...]:
        return ("toy-slow",)

    def open_kernels(self, name: str, artifact: Path, settings: Any) -> Predictor:
        return OrtRunner(_unwrapped(artifact), as_written=True)

    def board_runs(self, name: str, settings: Any) -> bool:
        return True

    def is_linked(self, settings: Any) -> bool:
        return False

    def counts_arena(self, settings: Any) -> bool:
        return False

    def with_candidates(self, own: str, candidates: Mapping[str, Candidate], output: Path) -> None:
        raise undecided()

    def resolver_name(self, operator: str) -> str:
        return ""

    def memory_steps(self, artifact: Path) -> tuple[MemoryStep, ...]:
        return ()


FORMAT: Format = ToyFormat()


def settings(target: TargetSpec) -> ToySettings:
    return read_options(ToySettings, target)


def check(model: onnx.ModelProto, settings: ToySettings) -> None: ...


def compile_model(qdq: Path, output: Path, settings: ToySettings) -> None:
    output.write_bytes(MAGIC + qdq.read_bytes())


def open_runner(artifact: Path, settings: ToySettings, threads: int) -> OrtRunner:
    return OrtRunner(_unwrapped(artifact), threads)


def on_device(device: Device, artifact: Path, settings: ToySettings, threads: int) -> OnDevice:
    raise stays_here("toy")


def describe(device: Device) -> dict[str, Any]:
    raise stays_here("toy")


def placement(artifact: Path, settings: ToySettings) -> Placement:
    return Placement(1, 0, 0)


def estimate(artifact: Path, settings: ToySettings) -> tuple[float, float] | None:
    return None


def layer_times(artifact: Path, settings: ToySettings, threads: int) -> Mapping[str, float]:
    return {}


def probe(settings: ToySettings | None = None) -> Probe:
    return Probe(True, True, "toy runtime 1.0")


def _unwrapped(artifact: Path) -> Path:
    content = artifact.read_bytes()
    if not content.startswith(MAGIC):
        raise damaged(artifact, "it does not start with TOY1")
    path = Path(tempfile.mkdtemp(prefix="toy-")) / "model.onnx"
    path.write_bytes(content[len(MAGIC) :])
    return path
