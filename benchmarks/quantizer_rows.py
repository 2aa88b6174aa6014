"""Rows of ``quantizers.py``: from the logits of one tool on several splits to one line of a Markdown table."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

import numpy as np

from edgec.pipeline.tasks import metrics


@dataclass(frozen=True)
class Tool:
    """One quantizer with one setting."""

    name: str
    variant: str

    @property
    def label(self) -> str:
        return f"{self.name} {self.variant}"

    @property
    def is_openvino(self) -> bool:
        """Whether it writes a folder with an OpenVINO IR rather than a QDQ file."""
        return self.name == "nncf" or self.variant.startswith("openvino ")


FLOAT = Tool("float", "")


@dataclass(frozen=True)
class Cost:
    """One quantization: wall seconds, CPU seconds of all threads, peak resident memory."""

    seconds: float
    cpu_seconds: float
    peak_mb: float


@dataclass(frozen=True, eq=False)
class Answers:
    """What one quantized network answered on the test half of one split, beside its float network."""

    tool: Tool
    split: int
    logits: metrics.Logits
    reference: metrics.Logits
    labels: metrics.Labels
    cost: Cost


@dataclass(frozen=True)
class Row:
    """One tool on one network; wall and CPU seconds are medians over the splits, the memory is the largest.

    ``only_tool`` and ``only_float`` count the images that only one of the two gets right. They go by the first of equal
    logits, while ``top1_percent`` counts a tie as wrong: with integer logits the two can differ by an image.
    """

    tool: str
    splits: tuple[int, ...]
    top1_percent: float
    float_top1_percent: float
    agreement_percent: float
    sqnr_db: float
    only_tool: int
    only_float: int
    mcnemar_p: float
    quantize_s: float
    quantize_cpu_s: float
    peak_mb: float
    p50_ms: float | None


@dataclass(frozen=True)
class Comparison:
    """One network: rows pooled over the splits, the same split by split, and the float network's OpenVINO latency."""

    rows: tuple[Row, ...]
    by_split: tuple[Row, ...]
    float_p50_ms: float | None


def pool(answers: list[Answers], p50_ms: float | None = None) -> Row:
    """One tool's answers on several splits as if they were one test set."""
    logits = np.concatenate([a.logits for a in answers])
    reference = np.concatenate([a.reference for a in answers])
    labels = np.concatenate([a.labels for a in answers])
    only_tool, only_float = metrics.discordant(metrics.answers(logits), metrics.answers(reference), labels)
    return Row(
        tool=answers[0].tool.label,
        splits=tuple(a.split for a in answers),
        top1_percent=metrics.topk_percent(logits, labels),
        float_top1_percent=metrics.topk_percent(reference, labels),
        agreement_percent=metrics.right_percent(metrics.answers(logits), metrics.answers(reference)),
        sqnr_db=metrics.sqnr_db(logits, reference),
        only_tool=only_tool,
        only_float=only_float,
        mcnemar_p=metrics.mcnemar_p(only_tool, only_float),
        quantize_s=statistics.median(a.cost.seconds for a in answers),
        quantize_cpu_s=statistics.median(a.cost.cpu_seconds for a in answers),
        peak_mb=max(a.cost.peak_mb for a in answers),
        p50_ms=p50_ms,
    )


def show(model: str, comparison: Comparison) -> None:
    """One Markdown table; s = wall seconds of quantizing, MB = its peak memory."""
    if not comparison.rows:
        return
    first = comparison.rows[0]
    latency = "" if comparison.float_p50_ms is None else f", OpenVINO p50 {comparison.float_p50_ms:.3f} ms"
    print(f"\n### {model}: float top-1 {first.float_top1_percent:.2f} %{latency}; splits: {len(first.splits)}\n")
    print(
        "| tool | top-1 % | drop pp | only tool / only float right (p) | agree % | SQNR dB | s (CPU s) | MB | p50 ms |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for row in comparison.rows:
        accuracy = f"{row.top1_percent:.2f} | {row.float_top1_percent - row.top1_percent:+.2f}"
        paired = f"{row.only_tool} / {row.only_float} ({row.mcnemar_p:.2g})"
        closeness = f"{row.agreement_percent:.2f} | {row.sqnr_db:.1f}"
        p50 = "-" if row.p50_ms is None else f"{row.p50_ms:.3f}"
        cost = f"{row.quantize_s:.1f} ({row.quantize_cpu_s:.1f}) | {row.peak_mb:.0f} | {p50}"
        print(f"| {row.tool} | {accuracy} | {paired} | {closeness} | {cost} |", flush=True)
