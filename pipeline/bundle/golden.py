"""Golden vectors: inputs that firmware feeds itself, and what every kernel set at hand answered to them."""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from edgec.pipeline.bundle.contract import Contract, TensorContract, read_contract
from edgec.pipeline.bundle.integer_preprocess import Pixels, fold
from edgec.pipeline.bundle.records import read_record
from edgec.pipeline.core.store import Artifact
from edgec.pipeline.core.toml_file import validate
from edgec.pipeline.data.dataset import Dataset, read_image
from edgec.pipeline.data.preprocess import Preprocess
from edgec.pipeline.forms.adapter import Batch, Predictor, Runner, load_adapter
from edgec.pipeline.forms.ort import OrtRunner
from edgec.pipeline.forms.spec import TargetSpec

Kind = Literal["fill", "gradient-x", "gradient-y", "noise", "stored"]
Values = npt.NDArray[np.generic]

NUM_STORED = 4  # real images, from the calibration set
NOISE_SEED = 2026
ASSUMED_TOLERANCE_STEPS = 8  # only where no second kernel set could run, and then the file says "assumed"
REFERENCE = "reference"  # the QDQ file as written, in ONNX Runtime
TARGET = "target"  # the artifact on this machine, as the board itself would run it
DEVICE = "device"  # the artifact on the board
XNNPACK = "xnnpack"


@dataclass(frozen=True)
class GoldenVector:
    """One input.

    Attributes:
        kind: ``fill`` sets every element; gradients and noise are pixels that firmware generates itself; ``stored``
            pixels are carried along.
        fill: value of every input element, for ``fill``.
        input_crc32: of the input tensor's bytes, little-endian, in the artifact's layout.
    """

    name: str
    kind: Kind
    fill: float | int | None
    input_crc32: int


@dataclass(frozen=True)
class GoldenSet:
    """``golden.json``.

    Attributes:
        kernel_sets: who answered; ``outputs.<kernel set>.*`` holds the answers.
        expected: the kernel set that the C self-test compares with.
        step: real value of one output step; for a float output, 1/255 of the range seen.
        spread_steps: largest difference of any output between two kernel sets, in steps.
        tolerance_steps: one more than the largest spread between the kernel sets that the board may run.
        tolerance: ``measured`` from the spread, or ``assumed`` where nothing else ran here.
    """

    vectors: tuple[GoldenVector, ...]
    kernel_sets: tuple[str, ...]
    expected: str
    step: float
    spread_steps: dict[str, int]
    tolerance_steps: int
    tolerance: Literal["measured", "assumed"]


@dataclass(frozen=True)
class Golden:
    """Make the vectors and run them: a folder with ``golden.json``, ``.npy`` and raw little-endian files.

    ``inputs`` and ``outputs`` are in the artifact's own dtype and layout, ``real-inputs`` and ``real-outputs`` the same
    numbers as float32 ``(N, C, ...)`` where the artifact's are integers; ``float-outputs`` are the float network's.

    Attributes:
        target: names the runner.
        preprocess: how pixels become inputs.
        images: the calibration set; its content is an input of the stage.
    """

    target: TargetSpec
    preprocess: Preprocess
    images: Dataset = field(compare=False)

    version: ClassVar[int] = 1
    output: ClassVar[str] = "golden"

    @property
    def toolchain(self) -> tuple[str, ...]:
        """All runtimes that answer."""
        runtimes = ("onnxruntime", "ai-edge-litert", "tflite-micro")
        return ("pillow", *runtimes, *load_adapter(self.target.compiler).TOOLCHAIN)

    def run(self, output: Path, *inputs: Artifact) -> None:
        """Run ``inputs`` = (float ONNX, QDQ folder, artifact, calibration set).

        Raises:
            EdgecError: ``unreadable-image``, ``micro-refuses``, and what opening the artifact raises.
        """
        qdq, artifact = inputs[1].path / "model.onnx", inputs[2].path
        contract = read_contract(artifact)
        images = self.images.take(NUM_STORED)
        stored = np.stack([read_image(images.root / sample.file, self.preprocess) for sample in images.samples])
        vectors, fed, batch = make_inputs(contract.inputs[0], self.preprocess, stored)
        runners = kernel_sets(artifact, qdq, self.target)
        answers = {name: runner.predict(batch) for name, runner in runners.items()}
        if _has_micro(self.target) and find_spec("tflite_micro") is not None:
            answers["tflite-micro"] = _ask_micro(artifact, fed, contract.outputs[0])
        output.mkdir()
        np.save(output / "pixels.npy", stored)
        _write_tensors(output, "inputs", fed, batch, contract.inputs[0])
        for name, values in answers.items():
            _write_answers(output, name, values, contract.outputs[0])
        _write(output, "float-outputs", OrtRunner(inputs[0].path).predict(batch))
        _describe(output, judge(vectors, answers, contract, self.target))

    def add_device(self, golden: Path, output: Path, artifact: Path, device: Predictor) -> None:
        """Copy ``golden``, which ``run`` made, to ``output``, with what the artifact answers on a device."""
        shutil.copytree(golden, output)
        known, contract = read_golden(output), read_contract(artifact)
        source, result = contract.inputs[0], contract.outputs[0]
        found = device.predict(as_batch(np.load(output / f"inputs.{source.dtype}.npy"), source, self.preprocess))
        _write_answers(output, DEVICE, found, result)
        names = (*known.kernel_sets, DEVICE)
        answers = {name: to_real(np.load(output / f"outputs.{name}.{result.dtype}.npy"), result) for name in names}
        _describe(output, judge(known.vectors, answers, contract, self.target))


def read_golden(folder: Path) -> GoldenSet:
    """``golden.json`` of a golden folder.

    Raises:
        EdgecError: ``corrupt-bundle``.
    """
    path = folder / "golden.json"
    return validate(GoldenSet, read_record(path), path, "corrupt-bundle")


def as_batch(fed: Values, tensor: TensorContract, preprocess: Preprocess) -> Batch:
    """Input tensors ``(N, ...)`` in the artifact's form as ``(N, 3, H, W)`` float32; uint8 inputs are pixels."""
    if tensor.dtype == "uint8":
        pixels = np.asarray(fed, np.uint8)
        return preprocess.normalise(pixels if tensor.layout == "NHWC" else pixels.transpose(0, 2, 3, 1))
    nchw = fed.transpose(0, 3, 1, 2) if tensor.layout == "NHWC" else fed
    return to_real(np.ascontiguousarray(nchw), tensor)


def kernel_sets(artifact: Path, qdq: Path, target: TargetSpec) -> dict[str, Runner]:
    """Everything on this machine that computes this network; ``target`` is how the board itself would run it.

    One thread each, so that no answer depends on the number of cores.
    """
    runners: dict[str, Runner] = {REFERENCE: OrtRunner(qdq, as_written=True)}
    adapter = load_adapter(target.compiler)
    if not adapter.probe(target).can_run:
        return runners
    runners[TARGET] = adapter.open_runner(artifact, target, 1)
    if artifact.suffix == ".tflite":
        from edgec.targets.tflite.runner import LiteRtRunner

        runners["tflite-reference"] = LiteRtRunner(artifact, xnnpack=False, reference=True)
        runners[XNNPACK] = LiteRtRunner(artifact)
    return runners


def _kernels_of(target: TargetSpec, names: Iterable[str]) -> list[str]:
    """Kernel sets that the board itself may run: no microcontroller has XNNPACK."""
    others = (REFERENCE, XNNPACK) if _has_micro(target) else (REFERENCE,)
    return [name for name in names if name not in others]


def _has_micro(target: TargetSpec) -> bool:
    return target.options.get("runtime") == "tflite-micro"


def _ask_micro(artifact: Path, fed: Values, output: TensorContract) -> Batch:
    from edgec.targets.tflite.micro import run_micro

    ran = run_micro(artifact.read_bytes(), fed.astype(np.int8, copy=False))
    real = to_real(ran.outputs.reshape(len(fed), *output.shape[1:]), output)
    return real.transpose(0, 3, 1, 2) if output.layout == "NHWC" else real


def make_inputs(
    tensor: TensorContract, preprocess: Preprocess, stored: Pixels
) -> tuple[tuple[GoldenVector, ...], Values, Batch]:
    """The vectors, their tensors ``(N, ...)`` in the artifact's form, and the same as ``(N, 3, H, W)`` float32.

    An integer input is what the integer preprocessing makes of the pixels; the float form is that, dequantized, so
    every kernel set sees the same numbers.
    """
    height, width, _ = tensor.spatial
    low, high = _extremes(tensor, preprocess)
    fills = {"zeros": tensor.zero_point or 0, "saturated-low": low, "saturated-high": high}
    patterns: dict[Kind, Pixels] = {
        "gradient-x": gradient(height, width, axis=1),
        "gradient-y": gradient(height, width, axis=0),
        "noise": noise(height, width),
    }
    pixels = np.concatenate([np.stack(list(patterns.values())), stored])
    filled = np.stack([np.full((height, width, 3), value, _dtype(tensor)) for value in fills.values()])
    fed = np.concatenate([filled, _preprocessed(pixels, tensor, preprocess)])
    nchw = np.ascontiguousarray(fed.transpose(0, 3, 1, 2))
    in_layout = nchw if tensor.layout == "NCHW" else fed
    names = (*fills, *patterns, *(f"image-{i + 1}" for i in range(len(stored))))
    kinds: list[Kind] = ["fill" for _ in fills]
    kinds.extend(patterns)
    kinds.extend("stored" for _ in stored)
    values = (*fills.values(), *[None] * len(pixels))
    vectors = tuple(
        GoldenVector(name, kind, value, zlib.crc32(little_endian(row)))
        for name, kind, value, row in zip(names, kinds, values, in_layout, strict=True)
    )
    return vectors, in_layout, as_batch(in_layout, tensor, preprocess)


def judge(
    vectors: tuple[GoldenVector, ...], answers: dict[str, Batch], contract: Contract, target: TargetSpec
) -> GoldenSet:
    """Measure how far the kernel sets are apart and derive the tolerance from those that the board may run."""
    step = contract.outputs[0].scale or float(np.ptp(answers[REFERENCE])) / 255 or 1.0
    spread = {
        f"{one} / {other}": int(np.ceil(np.max(np.abs(answers[one] - answers[other])) / step - 1e-3))
        for one, other in combinations(answers, 2)
    }
    own = [spread[f"{one} / {other}"] for one, other in combinations(_kernels_of(target, answers), 2)]
    own = own or list(spread.values())
    return GoldenSet(
        vectors,
        tuple(answers),
        next(name for name in (TARGET, DEVICE, REFERENCE) if name in answers),
        step,
        spread,
        max(own) + 1 if own else ASSUMED_TOLERANCE_STEPS,
        "measured" if own else "assumed",
    )


def gradient(height: int, width: int, axis: int) -> Pixels:
    """``(H, W, 3)`` ramp 0..255 along one axis: ``i * 255 // (length - 1)``."""
    length = (height, width)[axis]
    ramp = (np.arange(length) * 255 // max(length - 1, 1)).astype(np.uint8)
    shape = (height, 1, 1) if axis == 0 else (1, width, 1)
    return np.ascontiguousarray(np.broadcast_to(ramp.reshape(shape), (height, width, 3)))


def noise(height: int, width: int) -> Pixels:
    """``(H, W, 3)`` from the linear congruential generator of Numerical Recipes, upper byte; firmware repeats it."""
    values, state = np.empty(height * width * 3, np.uint8), NOISE_SEED
    for i in range(values.size):
        state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
        values[i] = state >> 24
    return values.reshape(height, width, 3)


def to_tensor(values: Batch, tensor: TensorContract) -> Values:
    """Real values ``(N, C, ...)`` as the artifact holds them: its integers, its layout."""
    if tensor.layout == "NHWC":
        values = values.transpose(0, 2, 3, 1)
    if tensor.scale is None:
        return values.astype(np.float32, copy=False)
    limits = np.iinfo(tensor.dtype)
    steps = np.rint(values.astype(np.float64) / tensor.scale) + (tensor.zero_point or 0)
    return np.asarray(np.clip(steps, limits.min, limits.max), tensor.dtype)


def to_real(values: Values, tensor: TensorContract) -> Batch:
    """The artifact's integers as float32, in the layout given."""
    if tensor.scale is None:
        return values.astype(np.float32, copy=False)
    return (values.astype(np.float32) - np.float32(tensor.zero_point or 0)) * np.float32(tensor.scale)


def little_endian(values: Values) -> bytes:
    """Raw bytes in C order."""
    return np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<"), copy=False).tobytes()


def _preprocessed(pixels: Pixels, tensor: TensorContract, preprocess: Preprocess) -> Values:
    """``(N, H, W, 3)`` pixels as the input tensor's elements, channels last."""
    folded = fold(preprocess, tensor)
    if folded is None:
        return preprocess.normalise(pixels).transpose(0, 2, 3, 1)
    return folded.apply(pixels).astype(tensor.dtype)


def _extremes(tensor: TensorContract, preprocess: Preprocess) -> tuple[float | int, float | int]:
    """The smallest and largest element: the integers' limits, or what a black and a white pixel become."""
    if tensor.scale is not None:
        limits = np.iinfo(tensor.dtype)
        return int(limits.min), int(limits.max)
    ends = _preprocessed(np.array([[[[0] * 3, [255] * 3]]], np.uint8), tensor, preprocess)
    return float(np.min(ends)), float(np.max(ends))


def _dtype(tensor: TensorContract) -> str:
    return tensor.dtype if tensor.scale is not None else "float32"


def _write_tensors(folder: Path, name: str, values: Values, real: Batch, tensor: TensorContract) -> None:
    _write(folder, name, values)
    if tensor.scale is not None:
        _write(folder, f"real-{name}", real)


def _write_answers(folder: Path, name: str, values: Batch, tensor: TensorContract) -> None:
    _write_tensors(folder, f"outputs.{name}", to_tensor(values, tensor), values, tensor)


def _describe(folder: Path, golden: GoldenSet) -> None:
    (folder / "golden.json").write_text(json.dumps(asdict(golden), indent=1) + "\n", encoding="utf-8")


def _write(folder: Path, name: str, values: Values) -> None:
    """The same values twice: ``.npy`` for tools, ``.bin`` for firmware."""
    stem = f"{name}.{values.dtype.name}"
    np.save(folder / f"{stem}.npy", np.ascontiguousarray(values))
    (folder / f"{stem}.bin").write_bytes(little_endian(values))
