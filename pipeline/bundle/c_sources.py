"""The artifact, its inputs and outputs, and its self-test as C11 and C++17 sources without dependencies."""

from __future__ import annotations

import hashlib
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgec.pipeline.bundle.semver import Semver
from edgec.pipeline.bundle.templates import environment
from edgec.pipeline.data.preprocess import Preprocess
from edgec.pipeline.forms.format import Contract, artifact_files
from edgec.pipeline.forms.golden import GoldenSet
from edgec.pipeline.forms.golden_inputs import NOISE_SEED
from edgec.pipeline.forms.integer_preprocess import fold

ARRAY_LIMIT_BYTES = 8 << 20  # a larger artifact comes as .S only: compilers need minutes for its array
C_TYPES = {
    "int8": "int8_t", "uint8": "uint8_t", "int16": "int16_t", "int32": "int32_t", "int64": "int64_t",
    "float32": "float",
}  # fmt: skip
KIND_NAMES = {"fill": "FILL", "gradient-x": "GRADIENT_X", "gradient-y": "GRADIENT_Y", "noise": "NOISE"}
WORD_BYTES, WORDS_PER_LINE = 8, 5
_DIGITS = np.array([f"{value:02x}" for value in range(256)], "S2").view(np.uint8).reshape(256, 2)


@dataclass(frozen=True)
class CModel:
    """Everything that the C sources say.

    Attributes:
        artifact: the file or folder that ships.
        folder: golden folder.
        registered: what firmware registers for the artifact's operators; empty where a runtime brings them all.
        arena_bytes: measured need of TFLite Micro with its margin; None where it was not measured.
    """

    name: str
    version: Semver
    target: str
    contract: Contract
    preprocess: Preprocess
    labels: tuple[str, ...]
    golden: GoldenSet
    folder: Path
    artifact: Path
    registered: tuple[str, ...] = ()
    arena_bytes: int | None = None


def can_be_c(contract: Contract) -> bool:
    """Its image and its tensors have names in C: half floats and truth values have none there."""
    tensors = (*contract.inputs, *contract.outputs)
    return contract.inputs[0].layout in ("NHWC", "NCHW") and all(tensor.dtype in C_TYPES for tensor in tensors)


def write_c_sources(output: Path, model: CModel) -> None:
    """Write ``model.*``, ``model_io.*`` and ``selftest.*`` into the new folder ``output``."""
    values = _values(model)
    output.mkdir()
    names = ["model.h", "model.S", "model_io.h", "model_io.c", "selftest.h", "selftest.c"]
    if sum(blob["size"] for blob in values["blobs"]) <= ARRAY_LIMIT_BYTES:
        names.append("model.c")
        for blob in values["blobs"]:
            blob["array"] = word_array(np.frombuffer(blob["content"], np.uint8))
    templates = environment()
    for name in names:
        text = templates.get_template(f"{name}.j2").render(values)
        (output / name).write_text(text, encoding="utf-8", newline="\n")


def c_prefix(name: str) -> str:
    """A C identifier for a model's name."""
    word = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_").lower()
    return word if word and not word[0].isdigit() else f"model_{word}".rstrip("_")


def c_title(name: str) -> str:
    """A model's name as comments and strings may hold it."""
    return re.sub(r"[^\w .+-]", "_", name, flags=re.ASCII)


def num_words(num_bytes: int) -> int:
    """That hold so many bytes, the last one filled up."""
    return -(-num_bytes // WORD_BYTES)


def word_array(values: npt.NDArray[np.uint8]) -> str:
    """Bytes as initializer text of little-endian 64-bit words: 2.4 characters a byte where ``0x12,`` takes 5.

    C11 and C++17 have nothing shorter that every compiler takes: a string literal may be refused above 4,095 bytes, and
    ``#embed`` is C23. A word is also one token to the compiler, where eight bytes are sixteen.
    """
    flat = values.reshape(-1)
    padded = np.zeros(num_words(flat.size) * WORD_BYTES, np.uint8)
    padded[: flat.size] = flat
    digits = _DIGITS[padded.reshape(-1, WORD_BYTES)[:, ::-1]].reshape(-1, 2 * WORD_BYTES)
    text = digits.tobytes().decode("ascii")
    words = [f"0x{text[i : i + 2 * WORD_BYTES]}," for i in range(0, len(text), 2 * WORD_BYTES)]
    return "\n".join("".join(words[i : i + WORDS_PER_LINE]) for i in range(0, len(words), WORDS_PER_LINE))


def _values(model: CModel) -> dict[str, Any]:
    prefix = c_prefix(model.name)
    source, output = model.contract.inputs[0], model.contract.outputs[0]
    stored = [vector for vector in model.golden.vectors if vector.kind == "stored"]
    generated = [vector for vector in model.golden.vectors if vector.kind != "stored"]
    expected = np.load(model.folder / f"outputs.{model.golden.expected}.{output.dtype}.npy")
    rows = [_numbers(row) for row in expected.reshape(len(expected), -1)]
    pixels = np.load(model.folder / "pixels.npy")
    return {
        "p": prefix,
        "P": prefix.upper(),
        "title": c_title(model.name),
        "version": model.version,
        "target": model.target,
        "blobs": _blobs(model.artifact),
        "input": source,
        "output": output,
        "ctype": C_TYPES,
        "size_of": {name: np.dtype(name).itemsize for name in C_TYPES},
        "operators": list(model.registered),
        "arena_bytes": model.arena_bytes,
        "arena_note": _arena_note(model.arena_bytes),
        "labels": model.labels,
        "preprocess": model.preprocess,
        "integer": fold(model.preprocess, source),
        "golden": model.golden,
        "noise_seed": NOISE_SEED,
        "kind_name": KIND_NAMES,
        "num_stored": len(stored),
        "num_generated": len(generated),
        "stored_bytes": pixels.size,
        "vectors_generated": generated,
        "vectors_stored": stored,
        "expected_generated": rows[: len(generated)],
        "expected_stored": rows[len(generated) :],
        "pixel_words": num_words(source.size),
        "pixel_arrays": [word_array(image) for image in pixels],
    }


def _blobs(artifact: Path) -> list[dict[str, Any]]:
    files = artifact_files(artifact)
    return [_blob(file, artifact, "model" if len(files) == 1 else c_prefix(file.name)) for file in files]


def _blob(file: Path, artifact: Path, symbol: str) -> dict[str, Any]:
    content = file.read_bytes()
    return {
        "symbol": symbol,
        "file": file.name,
        "path": file.relative_to(artifact.parent).as_posix(),
        "content": content,
        "size": len(content),
        "words": num_words(len(content)),
        "padding": -len(content) % WORD_BYTES,
        "crc32": zlib.crc32(content),
        "sha256_bytes": ", ".join(f"0x{value:02x}" for value in hashlib.sha256(content).digest()),
    }


def _arena_note(arena_bytes: int | None) -> str:
    if arena_bytes is None:
        return "Arena of TFLite Micro: not measured."
    return "Arena of TFLite Micro: measured with its reference kernels, plus a tenth for those with SIMD."


def _numbers(row: npt.NDArray[Any]) -> str:
    """Integers as decimal, floats as exact hexadecimal text."""
    if row.dtype.kind == "f":
        return ", ".join(c_float(float(value)) for value in row)
    return ", ".join(str(value) for value in row.tolist())


def c_float(value: float) -> str:
    """A float32 value as a C11 and C++17 hexadecimal literal: exact."""
    mantissa, _, exponent = float(np.float32(value)).hex().partition("p")
    head, _, tail = mantissa.partition(".")
    return f"{head}.{tail.rstrip('0') or '0'}p{exponent}f"
