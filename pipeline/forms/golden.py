"""Golden vectors: inputs that firmware feeds itself, and what every kernel set at hand answered to them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from edgec.pipeline.core.arrays import HINT, Expected, read_array
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.json_file import read_record
from edgec.pipeline.core.stage import Artifact
from edgec.pipeline.data.dataset import Dataset, read_image
from edgec.pipeline.data.preprocess import Preprocess
from edgec.pipeline.forms.answer import check_outputs
from edgec.pipeline.forms.compiler import LoadsCompiler, load_compiler
from edgec.pipeline.forms.form import REFERENCE, TARGET, HereForm, ThereForm, float_form
from edgec.pipeline.forms.format import Contract, Outputs, Predictor, TensorContract
from edgec.pipeline.forms.golden_inputs import (
    GoldenVector,
    Values,
    as_batch,
    little_endian,
    make_inputs,
    to_real,
    to_tensor,
)
from edgec.pipeline.forms.ort import OrtRunner

NUM_STORED = 4  # real images, from the calibration set
ASSUMED_TOLERANCE_STEPS = 8  # only where no second kernel set could run, and then the file says "assumed"
DEVICE = "device"  # the artifact on the board; REFERENCE and TARGET are forms of a network


@dataclass(frozen=True)
class GoldenSet:
    """``golden.json``.

    Attributes:
        kernel_sets: who answered; ``outputs.<kernel set>.*`` holds the answers, ``outputs.<kernel set>.1.*`` those of
            the second output.
        expected: the kernel set that the C self-test compares with.
        steps: real value of one step of each output; for a float output, 1/255 of the range seen; 1 for indices.
        spread_steps: largest difference of any output between two kernel sets, in steps; of an output of indices, how
            many of them differ.
        tolerance_steps: one more than the largest spread between the kernel sets that the board may run.
        tolerance: ``measured`` from the spread, or ``assumed`` where nothing else ran here.
    """

    vectors: tuple[GoldenVector, ...]
    kernel_sets: tuple[str, ...]
    expected: str
    steps: tuple[float, ...]
    spread_steps: dict[str, int]
    tolerance_steps: int
    tolerance: Literal["measured", "assumed"]

    @property
    def step(self) -> float:
        """Of the first output, the one that the C self-test compares."""
        return self.steps[0]


@dataclass(frozen=True)
class Golden(LoadsCompiler):
    """Make the vectors and run them: a folder with ``golden.json`` and ``.npy`` files.

    ``pixels`` are the stored images, ``outputs`` the answers in the artifact's own dtype and layout, ``float-outputs``
    the float network's. Inputs are made of ``golden.json`` and pixels whenever they are needed (``inputs_of``).

    Attributes:
        compiler: by name; its format knows further kernel sets.
        settings: what the compiler reads of the board.
        preprocess: how pixels become inputs.
        images: the calibration set; its content is an input of the stage.
        here: the artifact on this machine, where that can run it.
        there: the artifact on a device, where one was asked.
        kernels: further kernel sets at hand.
        identity: of the ONNX Runtime that answers for the float network and the reference.
    """

    compiler: str
    settings: Any
    preprocess: Preprocess
    images: Dataset = field(compare=False)
    here: HereForm | None = None
    there: ThereForm | None = None
    kernels: tuple[str, ...] = ()
    identity: Mapping[str, str] = field(default_factory=lambda: float_form().identity)

    output: ClassVar[str] = "golden"

    @property
    def toolchain(self) -> tuple[str, ...]:
        """All runtimes that answer."""
        runtimes = ("onnxruntime", "ai-edge-litert", "tflite-micro")
        return ("pillow", *runtimes, *load_compiler(self.compiler).TOOLCHAIN)

    def run(self, output: Path, *inputs: Artifact) -> None:
        """Run ``inputs`` = (float ONNX, QDQ folder, artifact, calibration set).

        Raises:
            EdgecError: ``unreadable-image``, ``micro-refuses``, ``activation-not-finite``, and what opening the
                artifact raises.
        """
        qdq, artifact, format_ = inputs[1].path / "model.onnx", inputs[2].path, load_compiler(self.compiler).FORMAT
        contract = format_.contract(artifact)
        images = self.images.take(NUM_STORED)
        stored = np.stack([read_image(images.root / sample.file, self.preprocess) for sample in images.samples])
        vectors, _, batch = make_inputs(contract.inputs[0], self.preprocess, stored)
        answers = {name: predictor.predict(batch) for name, predictor in self._kernel_sets(qdq, artifact)}
        floats = OrtRunner(inputs[0].path).predict(batch)
        for said in (*answers.values(), floats):
            check_outputs(said, [tensor.name for tensor in contract.outputs], [vector.name for vector in vectors])
        output.mkdir()
        np.save(output / "pixels.npy", stored)
        for name, found in answers.items():
            for i, (values, tensor) in enumerate(zip(found, contract.outputs, strict=True)):
                _save(output, stem(f"outputs.{name}", i), to_tensor(values, tensor))
        for i, values in enumerate(floats):
            _save(output, stem("float-outputs", i), values)
        own = [name for name in answers if name != REFERENCE and format_.board_runs(name, self.settings)]
        judged = judge(vectors, answers, contract, own)
        (output / "golden.json").write_text(json.dumps(asdict(judged), indent=1) + "\n", encoding="utf-8")

    def _kernel_sets(self, qdq: Path, artifact: Path) -> Iterator[tuple[str, Predictor]]:
        """Everything at hand that computes this network, loaded one after the other.

        One thread each, so that no answer depends on the number of cores.
        """
        yield REFERENCE, OrtRunner(qdq, as_written=True)
        if self.here is not None:
            yield TARGET, replace(self.here, threads=1).open(artifact)
        for name in self.kernels:
            yield name, load_compiler(self.compiler).FORMAT.open_kernels(name, artifact, self.settings)
        if self.there is not None:
            yield DEVICE, self.there.open(artifact)


def stem(name: str, output: int) -> str:
    """The first output's files have the plain name."""
    return name if output == 0 else f"{name}.{output}"


def read_golden(folder: Path) -> GoldenSet:
    """``golden.json`` of a golden folder.

    Raises:
        EdgecError: ``corrupt-bundle``.
    """
    return read_record(GoldenSet, folder / "golden.json", "corrupt-bundle")


def inputs_of(folder: Path, golden: GoldenSet, tensor: TensorContract, preprocess: Preprocess) -> Values:
    """The input tensors ``(N, ...)`` in the artifact's form, made again of the stored pixels.

    Raises:
        EdgecError: ``corrupt-bundle`` where they are not those that ``golden.json`` states by their CRC-32.
    """
    count = sum(vector.kind == "stored" for vector in golden.vectors)
    if len(tensor.shape) != 4 or not count:  # no more memory than the file of pixels has bytes for
        raise EdgecError("corrupt-bundle", f"'{folder}' has no images for '{tensor.name[:80]}'", HINT)
    height, width, channels = tensor.spatial
    stored = read_array(folder / "pixels.npy", Expected("uint8", (count, height, width, channels)), "corrupt-bundle")
    vectors, fed, _ = make_inputs(tensor, preprocess, np.asarray(stored, np.uint8))
    if vectors != golden.vectors:
        message = f"'{folder}': golden.json does not state the inputs that its pixels and patterns make"
        raise EdgecError("corrupt-bundle", message, HINT)
    return fed


def write_vectors(folder: Path, golden: GoldenSet, contract: Contract, preprocess: Preprocess) -> None:
    """Everything in ``folder`` that a program without edgec would have to make itself.

    ``inputs`` in the artifact's dtype and layout; inputs and outputs also as raw little-endian ``.bin``, and as float32
    ``(N, C, ...)`` in ``real-*`` where the artifact's are integers.

    Raises:
        EdgecError: ``corrupt-bundle``.
    """
    fed = inputs_of(folder, golden, contract.inputs[0], preprocess)
    _save(folder, "inputs", fed)
    if contract.inputs[0].scale is not None:
        _save(folder, "real-inputs", as_batch(fed, contract.inputs[0], preprocess))
    for name in golden.kernel_sets:
        for i, tensor in enumerate(contract.outputs):
            if tensor.scale is not None:
                values = np.load(folder / f"{stem(f'outputs.{name}', i)}.{tensor.dtype}.npy")
                nchw = values.transpose(0, 3, 1, 2) if tensor.layout == "NHWC" else values
                _save(folder, stem(f"real-outputs.{name}", i), to_real(nchw, tensor))
    for path in folder.glob("*.npy"):
        if path.name != "pixels.npy":
            path.with_suffix(".bin").write_bytes(little_endian(np.load(path)))


def judge(
    vectors: tuple[GoldenVector, ...], answers: Mapping[str, Outputs], contract: Contract, own: Sequence[str]
) -> GoldenSet:
    """Measure how far the kernel sets are apart and derive the tolerance from ``own``, which the board may run."""
    pairs = zip(contract.outputs, answers[REFERENCE], strict=True)
    steps = tuple(
        1.0 if tensor.is_index else tensor.scale or float(np.ptp(values)) / 255 or 1.0 for tensor, values in pairs
    )

    def apart(one: str, other: str) -> int:
        parts = zip(answers[one], answers[other], contract.outputs, steps, strict=True)
        return max(int(np.ceil(np.max(distances(a, b, tensor)) / step - 1e-3)) for a, b, tensor, step in parts)

    spread = {f"{one} / {other}": apart(one, other) for one, other in combinations(answers, 2)}
    among = [spread[f"{one} / {other}"] for one, other in combinations(own, 2)] or list(spread.values())
    return GoldenSet(
        vectors,
        tuple(answers),
        next(name for name in (TARGET, DEVICE, REFERENCE) if name in answers),
        steps,
        spread,
        max(among) + 1 if among else ASSUMED_TOLERANCE_STEPS,
        "measured" if among else "assumed",
    )


def distances(values: Values, expected: Values, tensor: TensorContract) -> npt.NDArray[np.float64]:
    """The largest difference of each vector ``(N,)``; of indices, how many differ."""
    one, other = (part.reshape(len(part), -1) for part in (values, expected))
    if tensor.is_index:
        return np.asarray(np.sum(one != other, axis=1), np.float64)
    return np.asarray(np.max(np.abs(one.astype(np.float64) - other.astype(np.float64)), axis=1))


def _save(folder: Path, name: str, values: Values) -> None:
    np.save(folder / f"{name}.{values.dtype.name}.npy", np.ascontiguousarray(values))
