"""``manifest.json``, bundle format 2: what a bundle is, field by field. ``docs/bundle.md`` explains it in words.

``manifest_json.py`` reads and writes the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal

from edgec.pipeline.bundle.poor import Poor
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.toml_file import STRICT
from edgec.pipeline.data.preprocess import Preprocess
from edgec.pipeline.forms.compiler import FastKernels
from edgec.pipeline.forms.format import Contract
from edgec.pipeline.forms.integer_preprocess import IntegerPreprocess
from edgec.pipeline.forms.measure import Latency
from edgec.pipeline.forms.memory import MemoryFit
from edgec.pipeline.forms.scheme import Level
from edgec.pipeline.forms.spec import Precision
from edgec.pipeline.tasks.accuracy import Accuracy
from edgec.pipeline.tasks.stability import Stability

SCHEMA_VERSION: Final = 2
MANIFEST, SUMS, SIGNATURE, PUBLIC_KEY = "manifest.json", "SHA256SUMS", "manifest.json.sig", "manifest.json.pub"
RESULT, RESULT_SUM = "result.json", "result.json.sha256"
ENGINE = "engine"
"""Role of what a device made of the artifact."""

PROVENANCE, ENVELOPE, MODEL_SIGNATURE = "provenance.intoto.json", "provenance.dsse.json", "model.sig"
SIGNED = frozenset({SIGNATURE, PUBLIC_KEY, ENVELOPE, MODEL_SIGNATURE})
"""What signing adds: it vouches for the manifest, its statement, or all files, and is none of them."""

UNLISTED = frozenset({MANIFEST, SUMS, RESULT, RESULT_SUM}) | SIGNED
"""Files that the manifest does not list: itself, what is made from it, and the log of one build with its times."""

MAX_MANIFEST_BYTES = 16 << 20
HINT = "build it again, or get a fresh copy"

Json = dict[str, Any]


@dataclass(frozen=True)
class FileEntry:
    """One file of the bundle.

    Attributes:
        path: relative, with forward slashes.
        role: what it is for; see ``docs/bundle.md``.
        reproducible: a second build of the same recipe makes the same bytes. False where times, or a device's answers,
            are inside.
    """

    path: str
    role: str
    bytes: int
    sha256: str
    reproducible: bool = True


@dataclass(frozen=True)
class ModelIdentity:
    """``version`` is a semver: major = contract, minor = accuracy or latency, patch = rebuild."""

    name: str
    version: str


@dataclass(frozen=True)
class TargetIdentity:
    """Where the artifact runs.

    Attributes:
        format: of the artifact's file, as its compiler names it.
        runtime: what executes it.
        runtime_versions: range that reads it, as a PEP 440 specifier.
        processor: instruction set or GPU, as the board states it.
        precision: of the layers that are not left in float.
        artifact: path of the file or folder that runs.
        beside_int8: what the other layers compute in, where precision is ``mixed``; float where nothing is said.
    """

    name: str
    compiler: str
    format: str
    runtime: str
    runtime_versions: str
    processor: str
    precision: str
    artifact: str
    beside_int8: str | None = None

    @property
    def precision_words(self) -> str:
        """As people write it."""
        others = self.beside_int8 or ("FP16" if self.compiler == "tensorrt" else "float")
        return f"INT8 and {others}" if self.precision == "mixed" else self.precision.upper()


@dataclass(frozen=True)
class DataSet:
    """A set of images by its content, not by where it lies."""

    sha256: str
    num_images: int


@dataclass(frozen=True)
class Source:
    """The float network's origin: ``weights`` of a network defined in edgec, or a user's ``onnx`` file.

    Attributes:
        checkpoint_sha256: of the state dict or the ONNX file; of seed and method for random weights.
        network: configuration of the network, for ``weights``.
        labelled: labels mean something for these weights (not for random ones).
    """

    kind: Literal["weights", "onnx"]
    name: str
    checkpoint_sha256: str
    network: Json | None
    labelled: bool


@dataclass(frozen=True)
class Origin:
    """Everything that decides the artifact.

    Attributes:
        task: asked for by name; None where the outputs told.
        max_drop_pp: points of top-1 that quantization may cost before layers go back into float.
        deciding_set: images that said whether it does.
        target: the whole board description.
        learn_minutes: how long the quantizer ``best`` learned; None of other levels, and of older bundles.
        git_commit: of edgec, with ``+dirty`` where files differ; ``unknown`` where it was installed without git.
        toolchain: versions of Python, edgec and all distributions that they need.
    """

    source: Source
    calibration_set: DataSet
    test_set: DataSet
    quantizer: Level
    task: str | None
    max_drop_pp: float | None
    deciding_set: DataSet | None
    target: Json
    git_commit: str
    toolchain: dict[str, str]
    learn_minutes: float | None = None


@dataclass(frozen=True)
class Preprocessing(Preprocess):
    """From an image to the input: ``Preprocess``, and ``(pixel - mean) / std`` folded into integers.

    Attributes:
        integer: None for a float input.
    """

    integer: IntegerPreprocess | None = None


@dataclass(frozen=True)
class BudgetVerdict:
    """One line of ``edgec check``.

    Attributes:
        device: whose budget it is.
        measured: None where nothing was.
        reason: one sentence.
    """

    name: str
    device: str
    limit: float
    measured: float | None
    verdict: Literal["pass", "fail", "inconclusive"]
    reason: str


@dataclass(frozen=True)
class Licence:
    """SPDX expression of one part, or ``not stated``."""

    part: str
    expression: str


@dataclass(frozen=True)
class Weighed:
    """One row of what a choice was made from: the headline of the artifact, and what one inference costs."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    precision: Precision
    headline: float
    sqnr_db: float | None
    p50_ms: float | None
    instructions: int | None
    size_bytes: int
    arena_bytes: int | None = None


@dataclass(frozen=True)
class FloatNetwork:
    """The network before quantization; its file is in the bundle only with ``--with float``.

    Attributes:
        sha256: of its ONNX file.
        macs, params: None where an operator cannot be counted.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    sha256: str
    macs: int | None = None
    params: int | None = None


@dataclass(frozen=True)
class Manifest:
    """The whole file; unknown fields are refused.

    Attributes:
        accuracy: ``accuracy.json``.
        memory: RAM and flash that the artifact takes, against what the board has.
        latency: ``latency.json`` without its blocks and layers.
        evaluated_on: the device that answered for the artifact; None for the building machine.
        precision_verdict: why this precision ships, where several were weighed or are left to the device.
        weighed: every precision that the choice was made from; empty where none was.
        stability: how the answers hang on the calibration images; None where nobody asked.
        notes: what a reader must know, in sentences.
        poor: why the result is a poor one, and what to try; None where it is none.
        candidates: precisions in the artifact among which the device chooses; empty where nothing is left to it.
        float_network: None in a bundle of an edgec that always enclosed it.
        fast_kernels: operators for which a processor's library has fast kernels; None where the runtime takes none.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    schema_version: Literal[2]
    model: ModelIdentity
    target: TargetIdentity
    files: tuple[FileEntry, ...]
    origin: Origin
    contract: Contract
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    size_bytes: int
    memory: MemoryFit
    accuracy: Accuracy
    latency: Latency
    evaluated_on: str | None
    precision_verdict: str | None
    budgets: tuple[BudgetVerdict, ...]
    licences: tuple[Licence, ...]
    notes: tuple[str, ...]
    poor: Poor | None = None
    candidates: tuple[Precision, ...] = ()
    weighed: tuple[Weighed, ...] = ()
    stability: Stability | None = None
    float_network: FloatNetwork | None = None
    fast_kernels: FastKernels | None = None


def sums(entries: tuple[tuple[str, str], ...]) -> str:
    """``SHA256SUMS`` of ``(path, sha256)`` pairs, in the form that ``sha256sum -c`` takes."""
    return "".join(f"{digest}  {path}\n" for path, digest in sorted(entries))


def corrupt(message: str) -> EdgecError:
    """The refusal of a bundle that is not what it says."""
    return EdgecError("corrupt-bundle", message, HINT)
