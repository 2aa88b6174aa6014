"""A form of a network: float, reference, artifact here, artifact there. Each answers, and says who answered."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from edgec.pipeline.core.at_once import num_cores, side_by_side
from edgec.pipeline.forms.compiler import LoadsCompiler, OnDevice, load_compiler
from edgec.pipeline.forms.device import device_module, open_device
from edgec.pipeline.forms.format import Predictor

FLOAT, REFERENCE, TARGET = "float", "reference", "target"
IMAGES_HERE, IMAGES_THERE = 16, 128  # a device loads the runtime once per call: few calls, yet bounded memory
SIMD = re.compile(r"sse4|avx|fma$|f16c|vnni|amx|asimd|neon|sve|i8mm|bf16|fphp|dotprod")


class Form(Protocol):
    """A frozen dataclass: its fields are all that decides its answers beside the artifact: a stage's key."""

    @property
    def name(self) -> str:
        """``float``, ``reference`` or ``target``."""

    @property
    def identity(self) -> Mapping[str, str]:
        """Runtime with its version, and instruction set, GPU or device."""

    @property
    def batch_size(self) -> int:
        """Images that it takes at once."""

    def open(self, artifact: Path) -> Predictor:
        """Load ``artifact``: a float ONNX file, a folder of the quantizer, or what the target's compiler made."""


@cache
def instruction_set() -> Mapping[str, str]:
    """The machine and the SIMD extensions that it says it has."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(errors="replace").splitlines() if cpuinfo.is_file() else []
    flags = next((line for line in lines if line.lower().startswith(("flags", "features"))), "").split()
    return {"machine": platform.machine(), "simd": " ".join(sorted({flag for flag in flags if SIMD.search(flag)}))}


def saturates(answered: Mapping[str, str]) -> bool:
    """An x86 without VNNI, whose kernels saturate sums of two u8 x s8 products at 16 bits (``quantize/vnni.py``).

    Args:
        answered: ``Form.identity``, or ``instruction_set``.
    """
    return answered.get("machine") in ("x86_64", "AMD64") and "vnni" not in answered.get("simd", "")


@cache
def _onnx_runtime() -> Mapping[str, str]:
    import onnxruntime

    return {"runtime": f"onnxruntime {onnxruntime.__version__}", **instruction_set()}


@dataclass(frozen=True)
class OnnxForm:
    """An ONNX file in ONNX Runtime.

    Attributes:
        as_written: each QuantizeLinear and DequantizeLinear as the file says: the reference.
    """

    name: str
    as_written: bool = False
    identity: Mapping[str, str] = field(default_factory=_onnx_runtime)
    batch_size: int = field(default=IMAGES_HERE, compare=False)

    def open(self, artifact: Path) -> Predictor:
        """The file, or ``model.onnx`` of a folder, images side by side on all cores."""
        from edgec.pipeline.forms.ort import OrtRunner

        file = artifact / "model.onnx" if artifact.is_dir() else artifact
        cores = num_cores()
        at_once, _ = side_by_side(cores)
        runner = OrtRunner(file, cores - at_once + 1, self.as_written, at_once=at_once)
        return runner if runner.fixed_batch in (None, 1) else OrtRunner(file, cores, self.as_written)


@dataclass(frozen=True)
class HereForm(LoadsCompiler):
    """The artifact on this machine, as the board would run it.

    Attributes:
        compiler: by name.
        settings: what the compiler reads of the board.
        threads: of the runtime; they change no answer.
    """

    compiler: str
    settings: Any
    identity: Mapping[str, str]
    name: str = TARGET
    threads: int = field(default_factory=num_cores, compare=False)
    batch_size: int = field(default=IMAGES_HERE, compare=False)

    def open(self, artifact: Path) -> Predictor:
        """Load it.

        Raises:
            EdgecError: what the compiler's runner raises.
        """
        return load_compiler(self.compiler).open_runner(artifact, self.settings, self.threads)


@dataclass(frozen=True)
class ThereForm(LoadsCompiler):
    """The artifact on a device.

    Attributes:
        on: as ``--on`` names it.
    """

    compiler: str
    settings: Any
    on: str
    identity: Mapping[str, str]
    name: str = TARGET
    threads: int = field(default=1, compare=False)
    batch_size: int = field(default=IMAGES_THERE, compare=False)

    @property
    def loads(self) -> tuple[str, ...]:
        """The compiler's modules, and the device's."""
        return (*super().loads, device_module(self.on))

    def open(self, artifact: Path) -> OnDevice:
        """The artifact there; nothing is contacted yet.

        Raises:
            EdgecError: ``cannot-run-there``; what ``open_device`` raises.
        """
        return load_compiler(self.compiler).on_device(open_device(self.on), artifact, self.settings, self.threads)


def float_form() -> OnnxForm:
    """The network before quantization."""
    return OnnxForm(FLOAT)


def reference_form() -> OnnxForm:
    """The QDQ file as written: the same on every machine, and what every artifact is compared with."""
    return OnnxForm(REFERENCE, as_written=True)


def here(compiler: str, settings: Any, threads: int | None = None) -> HereForm | None:
    """The artifact on this machine; None where it cannot run here."""
    probe = load_compiler(compiler).probe(settings)
    if not probe.can_run:
        return None
    identity = {"runtime": probe.facts, **instruction_set()}
    return HereForm(compiler, settings, identity, threads=threads or num_cores())


def there(compiler: str, settings: Any, on: str, artifact: Path, threads: int = 1) -> ThereForm:
    """The artifact on a device, which is asked who it is.

    Raises:
        EdgecError: what opening and asking the device raise.
    """
    device = load_compiler(compiler).on_device(open_device(on), artifact, settings, threads)
    return ThereForm(compiler, settings, on, device.identity(), threads=threads)
