"""Results as tables for people."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from edgec.pipeline.quantize_file import QuantizedFile


def print_result(result: dict[str, Any]) -> None:
    """One build: what was made, how accurate, how fast, where it lies."""
    console = Console(highlight=False)
    console.print(f"[bold]{result['model']}[/] for [bold]{result['target']}[/], weights {result['weights']}")
    print_accuracy(result["accuracy"], console)
    print_latency(result["latency"], console)
    print_float_layers(result["float_layers"], console)
    for note in result["notes"]:
        console.print(f"[yellow]note:[/] {note}")
    cached = len(result["cached_stages"])
    seconds = sum(result["build_seconds"].values())
    console.print(f"built in {seconds:.1f} s, {cached} stages found in the store", style="dim")
    console.print(
        f"bundle: {result['bundle']} ({result['artifact']}, {result['size_bytes'] / 1e6:.2f} MB)", soft_wrap=True
    )


def print_accuracy(accuracy: dict[str, Any], console: Console) -> None:
    """Float, reference and target beside each other, in percent."""
    table = Table("", "float", "QDQ reference", "target", box=None, header_style="bold")
    if accuracy["metric"] == "top1":
        table.add_row("top-1 %", *(_percent(accuracy[name]) for name in ("float", "reference", "target")))
        table.add_row("top-5 %", *(_percent(accuracy[f"top5_{name}"]) for name in ("float", "reference", "target")))
    table.add_row(
        "agreement with float %", "", _percent(accuracy["reference_agreement"]), _percent(accuracy["agreement"])
    )
    table.add_row("SQNR dB", "", _number(accuracy["reference_sqnr_db"]), _number(accuracy["sqnr_db"]))
    console.print(table)
    drop = accuracy["drop_pp"]
    dropped = "" if drop is None else f"drop {drop:+.2f} pp (McNemar p = {accuracy['mcnemar_p']:.2f}), "
    console.print(f"{dropped}{accuracy['num_images']} images")


def print_quantized(quantized: QuantizedFile) -> None:
    """One QDQ file: how close it comes to the float network, and what stayed in float."""
    console = Console(highlight=False)
    table = Table("", "top-1 %", "agreement with float %", "SQNR dB", box=None, header_style="bold")
    table.add_row("float", _percent(quantized.top1_float), "", "")
    for name, form in (("QDQ as written", quantized.reference), ("without VNNI", quantized.vnni_off)):
        if form is not None:
            table.add_row(name, _percent(form.top1), _percent(form.agreement), _number(form.sqnr_db))
    console.print(table)
    console.print(f"calibrated on {quantized.num_calibration} images, compared on {quantized.num_images} others")
    print_float_layers(quantized.float_layers, console)
    for note in quantized.notes:
        console.print(f"[yellow]note:[/] {note}")
    console.print(f"written: {quantized.output}", soft_wrap=True)


def print_float_layers(float_layers: list[dict[str, str]], console: Console) -> None:
    """How many nodes stayed in float, by reason, the most frequent first."""
    for reason, count in Counter(layer["reason"] for layer in float_layers).most_common():
        console.print(f"left in float: {count} x {reason}")


def print_latency(latency: dict[str, Any], console: Console) -> None:
    """Percentiles, or why there are none."""
    if latency["p50_ms"] is None:
        console.print(f"latency: {latency['status']} ({latency['note']})")
        return
    p99 = f"{latency['p99_ms']:.3f}" if latency["p99_ms"] is not None else "needs 1,000 samples"
    console.print(
        f"latency ({latency['status']}): p50 {latency['p50_ms']:.3f} ms, p90 {latency['p90_ms']:.3f}, p99 {p99}; "
        f"{latency['num_samples']} samples, {latency['threads']} threads, {latency['device']}"
    )


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _number(value: float | None) -> str:
    return "exact" if value is None else f"{value:.1f}"
