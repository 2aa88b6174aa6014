"""A .tflite file as an artifact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from edgec.pipeline.forms.format import (
    Candidate,
    Contract,
    MemoryStep,
    Predictor,
    Runtime,
    TensorContract,
    counts,
    layout_of,
    undecided,
)
from edgec.targets.tflite.options import TfliteOptions

RUNNER = Path(__file__).with_name("board_runner.py")
XNNPACK, REFERENCE_KERNELS, MICRO = "xnnpack", "tflite-reference", "tflite-micro"
MICRO_TESTED = ">=0.dev20261023"
"""What edgec's own tests run; older sources may lack an operator."""
RESOLVER_NAMES = {"PADV2": "PadV2"}  # where TFLite Micro's method is not the operator's name in camel case


@dataclass(frozen=True)
class TfliteFormat:
    """A flatbuffer that interpreters read in place."""

    name: str = "tflite"
    artifact: str = "model.tflite"
    linkable: bool = True
    device_script: Path | None = RUNNER
    holds_candidates: bool = False

    def contract(self, artifact: Path) -> Contract:
        """Inputs, outputs and operators of the first subgraph.

        Raises:
            EdgecError: ``corrupt-tflite``.
        """
        from edgec.targets.tflite.flatbuffer import FileTensor, read_tflite

        file = read_tflite(artifact.read_bytes())

        def tensor(found: FileTensor, channels_last: bool = True) -> TensorContract:
            scale, zero = (found.scales[0], found.zero_point) if found.scales else (None, None)
            layout = layout_of(found.shape, channels_last)
            return TensorContract(found.name, found.dtype, found.shape, layout, scale, zero)

        inputs = [tensor(file.tensors[i]) for i in file.inputs]
        as_ordered = file.outputs_in_model_order
        outputs = [tensor(file.tensors[i], place not in as_ordered) for place, i in enumerate(file.outputs)]
        return Contract(tuple(inputs), tuple(outputs), counts(operator.kind for operator in file.operators))

    def runtime(self, settings: TfliteOptions) -> Runtime:
        """As the file's ``min_runtime_version`` says; TFLite Micro, without releases, is named by its date."""
        if settings.runtime == "tflite-micro":
            return Runtime("TFLite Micro (versions of tflite-micro on PyPI: the date of its sources)", MICRO_TESTED)
        return Runtime("TensorFlow Lite or LiteRT", ">=2.5.0")

    def kernel_sets(self, settings: TfliteOptions) -> tuple[str, ...]:
        """TFLite's reference kernels and XNNPACK; for microcontrollers TFLite Micro too, where it is installed."""
        if find_spec("ai_edge_litert") is None and find_spec("tflite_runtime") is None:
            return ()
        micro = settings.runtime == "tflite-micro" and find_spec("tflite_micro") is not None
        return (REFERENCE_KERNELS, XNNPACK, *([MICRO] if micro else []))

    def open_kernels(self, name: str, artifact: Path, settings: TfliteOptions) -> Predictor:
        """One interpreter.

        Raises:
            EdgecError: ``corrupt-tflite``, ``micro-refuses``.
        """
        from edgec.targets.tflite.micro import MicroRunner
        from edgec.targets.tflite.runner import LiteRtRunner

        if name == MICRO:
            return MicroRunner(artifact)
        reference = name == REFERENCE_KERNELS
        return LiteRtRunner(artifact, xnnpack=not reference, reference=reference)

    def board_runs(self, name: str, settings: TfliteOptions) -> bool:
        """No microcontroller has XNNPACK."""
        return name != XNNPACK or settings.runtime != "tflite-micro"

    def is_linked(self, settings: TfliteOptions) -> bool:
        """A microcontroller's."""
        return settings.is_linked

    def counts_arena(self, settings: TfliteOptions) -> bool:
        """For microcontrollers, where TFLite Micro is installed."""
        return MICRO in self.kernel_sets(settings)

    def with_candidates(self, own: str, candidates: Mapping[str, Candidate], output: Path) -> None:
        """It holds one network.

        Raises:
            EdgecError: ``precision-undecided``.
        """
        raise undecided()

    def resolver_name(self, operator: str) -> str:
        """``DEPTHWISE_CONV_2D`` as TFLite Micro's ``MicroMutableOpResolver::AddDepthwiseConv2D`` names it."""
        parts = (part if part[0].isdigit() else part.capitalize() for part in operator.split("_"))
        return RESOLVER_NAMES.get(operator, "".join(parts))

    def memory_steps(self, artifact: Path) -> tuple[MemoryStep, ...]:
        """As TFLite Micro plans them.

        Raises:
            EdgecError: ``corrupt-tflite``, ``missing-runtime``.
        """
        from edgec.targets.tflite.flatbuffer import read_tflite
        from edgec.targets.tflite.live import memory_steps

        return memory_steps(read_tflite(artifact.read_bytes()))
