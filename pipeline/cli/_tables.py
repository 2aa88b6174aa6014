"""Results as tables for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edgec.pipeline.bundle.model_card import further_costs
from edgec.pipeline.core.errors import printable
from edgec.pipeline.core.toml_file import validate
from edgec.pipeline.core.words import size_words
from edgec.pipeline.forms.compiler import FastKernels
from edgec.pipeline.forms.measure import Latency, estimate_words
from edgec.pipeline.forms.memory import MemoryFit
from edgec.pipeline.tasks.accuracy import Accuracy, rows, short

if TYPE_CHECKING:
    from edgec.pipeline.quantize_network import QuantizedFile


UNBROKEN = 100_000
"""Columns of what is no terminal: tables take what they need of them."""


def print_result(result: dict[str, Any], labels: Sequence[str] = ()) -> None:
    """One build: what was made, how accurate, how fast, where it lies.

    Args:
        labels: class names, where they are known.
    """
    console = output_console()
    model, target, weights = (escape(str(result[name])) for name in ("model", "target", "weights"))
    console.print(f"[bold]{model}[/] for [bold]{target}[/], weights {weights}")
    print_accuracy(validate(Accuracy, result["accuracy"], Path("result.json"), "corrupt-bundle"), console, labels)
    print_latency(result["latency"], console)
    if result["instructions"] is not None:
        console.print(f"instructions per inference: {result['instructions']:,}")
    if result["precision"] != "fp16":  # where everything is in float
        print_float_layers(result["float_layers"], console)
    fit = validate(MemoryFit, result["memory"], Path("result.json"), "corrupt-bundle")
    for sentence in fit.sentences:
        console.print(sentence)
    if fast := result["placement"].get("fast_kernels"):
        console.print(FastKernels(**fast).words)
    for words in result["left_out"]:
        console.print(f"data left out: {printable(words)}", markup=False)
    for note in result["notes"]:
        console.print(f"[yellow]note:[/] {escape(printable(note))}")
    cached = len(result["cached_stages"])
    seconds = sum(result["build_seconds"].values())
    console.print(f"built in {seconds:.1f} s, {cached} stages found in the store", style="dim")
    bundle = f"bundle: {result['bundle']} ({result['artifact']}, {size_words(result['size_bytes'])})"
    console.print(bundle, soft_wrap=True, markup=False)


def print_builds(done: Sequence[dict[str, Any]]) -> None:
    """Several boards, a line each; ``error`` stands in the place of figures."""
    from edgec.pipeline.matrix.table import verdict

    table = Table("target", "precision", "float", "artifact", "SQNR dB", "latency", "size", "verdict", box=None)
    for result in done:
        name = escape(str(result["target"]))
        if "error" in result:
            table.add_row(name, *["-"] * 6, f"refused: {result['error']['code']}")
            continue
        accuracy, latency = result["accuracy"], result["latency"]
        shipped = accuracy["target"] if accuracy["shipped"] == "target" else accuracy["reference"]
        p50_ms = latency["p50_ms"]
        table.add_row(
            name,
            result["precision"],
            _percent(accuracy["float"]),
            _percent(shipped if shipped is not None else accuracy["agreement"]),
            _number(accuracy["sqnr_db"], "exact"),
            "not measured" if p50_ms is None else f"{p50_ms:.3f} ms",
            size_words(result["size_bytes"]),
            verdict(bool(result["memory"]["over"]), result["poor"] is not None),
        )
    output_console().print(table)


def output_console() -> Console:
    """Standard output. In a terminal lines end at its edge; in a file or a pipe a line stays whole, however long."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = UNBROKEN
    return console


def print_accuracy(accuracy: Accuracy, console: Console, labels: Sequence[str] = ()) -> None:
    """Float, reference and target beside each other.

    Args:
        labels: class names, where they are known.
    """
    table = Table("", "float", "QDQ reference", "target", box=None, header_style="bold")
    for row in rows(accuracy, labels):
        table.add_row(f"{row.label} {row.unit}".rstrip(), *map(row.cell, range(3)))
    console.print(table)
    drop = accuracy.drop_pp
    if accuracy.drop_spread is not None:
        sure = f"95 % of {accuracy.drop_spread.low:+.2f} to {accuracy.drop_spread.high:+.2f}, bootstrap over images"
    else:
        sure = f"McNemar p = {accuracy.mcnemar_p:.2f}" if accuracy.mcnemar_p is not None else ""
    dropped = "" if drop is None else f"drop {drop:+.2f} pp ({sure}), "
    console.print(f"{dropped}{accuracy.num_images} images, task {accuracy.task}")


def print_quantized(quantized: QuantizedFile) -> None:
    """One QDQ file: how close it comes to the float network, and what stayed in float."""
    console = output_console()
    table = Table("", "top-1 %", "agreement with float %", "SQNR dB", box=None, header_style="bold")
    table.add_row("float", _percent(quantized.top1_float), "", "")
    for name, form in (("QDQ as written", quantized.reference), ("without VNNI", quantized.vnni_off)):
        if form is not None:
            table.add_row(name, _percent(form.top1), _percent(form.agreement), _number(form.sqnr_db, "exact"))
    console.print(table)
    console.print(f"calibrated on {quantized.num_calibration} images, compared on {quantized.num_images} others")
    print_float_layers([asdict(layer) for layer in quantized.float_layers], console)
    for note in quantized.notes:
        console.print(f"[yellow]note:[/] {escape(note)}")
    console.print(f"written: {quantized.output}", soft_wrap=True, markup=False)


def print_float_layers(float_layers: list[dict[str, str]], console: Console) -> None:
    """How many nodes stayed in float, by reason, the most frequent first."""
    for reason, count in Counter(layer["reason"] for layer in float_layers).most_common():
        console.print(f"left in float: {count} x {reason}", markup=False)


def print_latency(latency: dict[str, Any], console: Console) -> None:
    """Percentiles, or why there are none."""
    if latency["p50_ms"] is None:
        console.print(f"latency: {latency['status']} ({latency['note']})", markup=False)
        if latency["estimated_ms"]:
            console.print(f"latency (estimated, not measured): {estimate_words(*latency['estimated_ms'])}")
        return
    p99 = f"{latency['p99_ms']:.3f}" if latency["p99_ms"] is not None else "needs 1,000 samples"
    note = f", {latency['note']}" if latency["note"] else ""
    console.print(
        f"latency ({latency['status']}{note}): p50 {latency['p50_ms']:.3f} ms, p90 {latency['p90_ms']:.3f}, p99 {p99}; "
        f"{latency['num_samples']} samples, {latency['threads']} threads, {latency['device']}",
        markup=False,
    )
    for words in further_costs(validate(Latency, latency, Path("latency.json"), "corrupt-bundle")):
        console.print(words, markup=False)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _number(value: float | None, otherwise: str) -> str:
    return otherwise if value is None else short(value)
