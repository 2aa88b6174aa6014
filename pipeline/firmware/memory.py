"""What a project takes of flash and RAM, as far as it is known before a linker runs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgec.pipeline.bundle.read import Bundle
from edgec.pipeline.forms.golden import read_golden

STACK_BYTES = 16 << 10  # of the bare boards: a choice, not a measurement
MODEL, ANSWERS, LABELS, ARENA = "model", "self-test: answers", "labels", "arena"
PICTURES = "self-test: real images, which can be left out"
STACK = "stack of the bare boards"
CODE_BYTES = 1 << 20  # of a program of ESP-IDF with TFLite Micro: a choice, not a measurement
APP_OFFSET, APP_ALIGNMENT = 0x10000, 0x10000  # of an app partition, ESP-IDF's Programming Guide, "Partition Tables"


@dataclass(frozen=True)
class Row:
    """One part: ``where`` is flash or RAM, ``source`` says how its size is known."""

    what: str
    where: str
    bytes: int
    source: str


@dataclass(frozen=True)
class Partition:
    """Where a program of ESP-IDF lies, and what flash its chip must have, in MiB."""

    offset: int
    bytes: int
    flash_mib: int


def memory_rows(bundle: Bundle, has_stack: bool) -> tuple[Row, ...]:
    """Model, self-test and labels in flash; arena, and the stack of bare boards, in RAM."""
    contract, memory = bundle.manifest.contract, bundle.manifest.memory
    output = contract.outputs[0]
    answer = output.size * np.dtype(output.dtype).itemsize
    vectors = read_golden(bundle.folder / "golden").vectors
    pictures = sum(vector.kind == "stored" for vector in vectors) * contract.inputs[0].size
    rows = [
        Row(MODEL, "flash", bundle.manifest.size_bytes, "the file"),
        Row(ANSWERS, "flash", len(vectors) * answer, "calculated"),
        Row(PICTURES, "flash", pictures, "calculated"),
        Row(LABELS, "flash", sum(len(label.encode()) + 1 for label in bundle.labels), "calculated"),
    ]
    if memory.arena_with_margin_bytes is not None:
        measured = f"{memory.arena_bytes:,} measured with TFLite Micro's reference kernels, plus a margin"
        rows.append(Row(ARENA, "RAM", memory.arena_with_margin_bytes, measured))
    if has_stack:
        rows.append(Row(STACK, "RAM", STACK_BYTES, "chosen"))
    return tuple(rows)


def bytes_of(rows: tuple[Row, ...], *parts: str) -> int:
    """Of these parts together; one that is no row takes none."""
    return sum(row.bytes for row in rows if row.what in parts)


def app_partition(rows: tuple[Row, ...]) -> Partition:
    """Room for the network, its self-test and code; ESP-IDF's own table has 1 MiB for all."""
    needed = sum(row.bytes for row in rows if row.where == "flash") + CODE_BYTES
    size = -(-needed // APP_ALIGNMENT) * APP_ALIGNMENT
    flash = 2
    while flash << 20 < APP_OFFSET + size:
        flash *= 2
    return Partition(APP_OFFSET, size, flash)
