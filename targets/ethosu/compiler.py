"""QDQ ONNX to a .tflite that an Ethos-U runs. It runs nowhere here; Vela estimates what it costs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.json_file import read_record
from edgec.pipeline.core.scratch import scratch
from edgec.pipeline.forms.compiler import OnDevice, Placement, Probe, Runner, stays_here
from edgec.pipeline.forms.format import Format
from edgec.targets.ethosu.format import NETWORK, EthosUFormat
from edgec.targets.ethosu.options import EthosUOptions
from edgec.targets.ethosu.vela import INSTALL, Summary, run_vela, summary_file
from edgec.targets.tflite import compile_model as compile_tflite
from edgec.targets.tflite.cmsis_nn import fast_kernels
from edgec.targets.tflite.compiler import check as check_tflite
from edgec.targets.tflite.compiler import to_tflite
from edgec.targets.tflite.flatbuffer import read_tflite

if TYPE_CHECKING:
    import onnx

    from edgec.pipeline.forms.device import Device

FORMAT: Format = EthosUFormat()
TOOLCHAIN: tuple[str, ...] = ("ethos-u-vela", "ai-edge-litert", "flatbuffers")
NPU = "CUSTOM"
ESTIMATED = "estimated by Vela"
NOWHERE = "an Ethos-U's network runs on its board alone"


def check(model: onnx.ModelProto, settings: EthosUOptions) -> tuple[str, ...]:
    """Refuse what cannot be lowered or compiled; name the operators that Vela leaves to the processor.

    Raises:
        EdgecError: what the check for TFLite and Vela raise.
    """
    noted = check_tflite(model, settings)
    compiled, summary = run_vela(to_tflite(model, replace(settings, input_type="int8")), settings)
    left = Counter(_left_to_the_cpu(compiled))
    words = [f"Vela leaves {count} x {kind} to the processor" for kind, count in left.most_common()]
    return (*noted, *words, summary.words())


def compile_model(qdq: Path, output: Path, settings: EthosUOptions) -> None:
    """Lower as for TFLite Micro, then compile.

    Raises:
        EdgecError: as ``check``.
    """
    with scratch("ethosu") as folder:
        compile_tflite(qdq, folder / NETWORK, settings)
        compiled, summary = run_vela((folder / NETWORK).read_bytes(), settings)
    output.mkdir()
    (output / NETWORK).write_bytes(compiled)
    text = json.dumps(asdict(summary), indent=2)
    summary_file(output).write_text(f"{text}\n", encoding="utf-8", newline="\n")


def open_runner(artifact: Path, settings: EthosUOptions, threads: int) -> Runner:
    """There is no NPU here.

    Raises:
        EdgecError: ``cannot-run-here``.
    """
    raise EdgecError("cannot-run-here", NOWHERE, "the QDQ reference has the same integers; link it and run it there")


def on_device(device: Device, artifact: Path, settings: EthosUOptions, threads: int) -> OnDevice:
    """Firmware links it; no device is reached from here.

    Raises:
        EdgecError: ``cannot-run-there``.
    """
    raise stays_here("Ethos-U")


def describe(device: Device) -> dict[str, Any]:
    """No device is asked.

    Raises:
        EdgecError: ``cannot-run-there``.
    """
    raise stays_here("Ethos-U")


def estimate(artifact: Path, settings: EthosUOptions) -> tuple[float, float]:
    """Vela's one figure, of the NPU's part."""
    expected = _read_summary(artifact).inference_ms
    return expected, expected


def placement(artifact: Path, settings: EthosUOptions) -> Placement:
    """Operators of Vela's file: the NPU's are one, the others are the processor's."""
    file = read_tflite((artifact / NETWORK).read_bytes())
    kinds = [operator.kind for operator in file.operators]
    return Placement(
        len(kinds),
        kinds.count("TRANSPOSE"),
        0,
        delegate_pieces=kinds.count(NPU),
        num_cpu_operators=len(kinds) - kinds.count(NPU),
        arena_bytes=_read_summary(artifact).sram_bytes,
        arena_source=ESTIMATED,
        fast_kernels=fast_kernels(file) if set(kinds) - {NPU} else None,
    )


def layer_times(artifact: Path, settings: EthosUOptions, threads: int) -> Mapping[str, float]:
    """Nothing ran."""
    return {}


def probe(settings: EthosUOptions | None = None) -> Probe:
    """Vela builds; nothing here runs."""
    if find_spec("ethosu") is None or find_spec("ai_edge_litert") is None:
        return Probe(False, False, "", f"Arm's Vela or ai-edge-litert is not installed: {INSTALL}")
    return Probe(True, False, f"ethos-u-vela {version('ethos-u-vela')}", NOWHERE)


def _left_to_the_cpu(compiled: bytes) -> Sequence[str]:
    return [operator.kind for operator in read_tflite(compiled).operators if operator.kind != NPU]


def _read_summary(artifact: Path) -> Summary:
    return read_record(Summary, summary_file(artifact), "corrupt-artifact-file")
