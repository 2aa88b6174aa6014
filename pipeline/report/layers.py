"""What is known layer by layer, the worst first and with the longest bar."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from edgec.pipeline.report.findings import Findings
from edgec.pipeline.report.tables import Table, bars

NUM_LAYERS = 16
"""Shown at once; the others unfold."""


@dataclass(frozen=True)
class LayerTable:
    """One thing that is known of the layers: the worst, and all others."""

    heading: str
    first: Table
    others: Table | None


def layer_tables(found: Findings) -> tuple[LayerTable, ...]:
    """Noise, sensitivity, time and weights; what is not known has no table."""
    return tuple(_tables(found))


def noise_percent(sqnr_db: float | None) -> float:
    """Noise as a share of the signal, in amplitude: 20 dB are 10 %; None, which has none, is 0."""
    return 0.0 if sqnr_db is None else 100.0 * 10.0 ** (-sqnr_db / 20.0)


def _tables(found: Findings) -> Iterator[LayerTable]:
    noises = (
        ("Noise after each layer", found.quantization.layer_sqnr_db,
         "Noise of the layer's output as a share of its signal, the network quantized up to there."),
        ("Noise of the output, each layer alone quantized", found.sensitivity,
         "Noise of the network's output as a share of its signal."),
    )  # fmt: skip
    for heading, known, caption in noises:
        rows = [(name, noise_percent(db), _noise_words(db)) for name, db in known.items()]
        yield from _table(found, heading, ("Layer", "Noise (SQNR)"), rows, caption)
    total = sum(found.latency.layer_us.values()) or 1.0
    timed = [(name, us, f"{us:.1f} µs ({100 * us / total:.1f} %)") for name, us in found.latency.layer_us.items()]
    yield from _table(found, "Time in each layer", ("Layer", "Time"), timed, "Profiled, which costs a little time.")
    sizes = [(name, float(size), f"{size / 1e3:.1f} kB") for name, size in found.weight_bytes.items()]
    yield from _table(found, "Size of the weights", ("Layer", "Size"), sizes, "Constants of each layer.")


def _table(
    found: Findings, heading: str, heads: tuple[str, str], rows: list[tuple[str, float, str]], caption: str
) -> Iterator[LayerTable]:
    if not rows:
        return
    ordered = sorted(rows, key=lambda row: -row[1])
    scale = ordered[0][1] or 1.0
    named = [(plain_name(name), value, words) for name, value, words in ordered]
    label = f"{heading} of {found.name}"
    rest = named[NUM_LAYERS:]
    others = bars(f"{label}, the rest", heads, rest, longest=scale) if rest else None
    yield LayerTable(heading, bars(label, heads, named[:NUM_LAYERS], caption), others)


def _noise_words(sqnr_db: float | None) -> str:
    return "exact" if sqnr_db is None else f"{noise_percent(sqnr_db):.2g} % ({sqnr_db:.1f} dB)"


def plain_name(text: str) -> str:
    """A node's path without steps that the next one repeats (``blocks/blocks.4``, ``conv/Conv``)."""
    steps = [step for step in text.split("/") if step]
    kept = [a for a, b in pairwise([*steps, ""]) if not b.lower().startswith(a.lower())]
    return "/".join(kept) or text
