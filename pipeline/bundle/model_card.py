"""``README.md`` of a bundle: the model card, in the words of the manifest."""

from __future__ import annotations

from collections.abc import Iterator

from edgec.pipeline.bundle.c_sources import c_prefix
from edgec.pipeline.bundle.manifest import Manifest
from edgec.pipeline.bundle.templates import environment
from edgec.pipeline.forms.measure import Latency, estimate_words
from edgec.pipeline.tasks.accuracy import Accuracy, Row, rows


def model_card(manifest: Manifest) -> str:
    """Markdown for people who get the folder and have no Python."""
    words = {
        "p": c_prefix(manifest.model.name),
        "latency": latency_words(manifest),
        "rows": rows(manifest.accuracy, manifest.labels),
    }
    return environment().get_template("README.md.j2").render(words, m=manifest, figure=figure, number=number)


def figure(accuracy: Accuracy, row: Row, form: int) -> str:
    """One cell of a table: ``86.00 % (80.5 to 90.1)``, ``23.1 dB``, ``exact`` or ``-``."""

    def digits(value: float) -> str:
        has_interval = row.unit == "%" and accuracy.interval(value) is not None
        return rate_words(accuracy, value) if has_interval else f"{value:.4g} {row.unit}".rstrip()

    return row.cell(form, digits)


def rate_words(accuracy: Accuracy, percent: float) -> str:
    """``86.00 % (80.5 to 90.1)``, without the interval where pixels have none."""
    interval = accuracy.interval(percent)
    return f"{percent:.2f} %" + (f" ({interval[0]:.1f} to {interval[1]:.1f})" if interval else "")


def number(value: float | None) -> str:
    """``2,902,628``, ``0.8677`` or ``-``."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value == int(value) else f"{value:.4g}"


def latency_words(manifest: Manifest) -> str:
    """One sentence."""
    found = manifest.latency
    if found.p50_ms is None:
        status = found.status.replace("-", " ")
        words = f"{status}: {found.note}" if found.note else status
        return words if found.estimated_ms is None else f"{words}; {_estimate(*found.estimated_ms)}"
    interval = found.p50_interval_ms
    spread = f" (95 % interval {interval[0]:.3f} to {interval[1]:.3f})" if interval else ""
    median = f"{found.status}: median {found.p50_ms:.3f} ms{spread}"
    samples = f"{found.num_samples} samples in {counted(found.num_processes, 'process', 'processes')}"
    threads = [counted(found.threads, "thread", "threads")] if found.threads else []
    timed = ", ".join((median, samples, *threads, found.device or "unknown device"))
    return "; ".join((timed, *further_costs(found)))


def further_costs(latency: Latency) -> Iterator[str]:
    """What is known beside the times of an artifact: its first answer, its memory, the float network's time."""
    if latency.load_ms is not None:
        yield f"first answer after {latency.load_ms:.0f} ms"
    if latency.peak_rss_bytes is not None:
        yield f"peak memory {latency.peak_rss_bytes / 1e6:.0f} MB"
    beside = latency.beside_float
    if beside is not None:
        costs = [f"median {beside.float_p50_ms:.3f} ms"]
        costs += [f"first answer after {beside.float_load_ms:.0f} ms"] if beside.float_load_ms is not None else []
        peak = beside.float_peak_rss_bytes
        costs += [f"peak memory {peak / 1e6:.0f} MB"] if peak is not None else []
        yield f"{beside.words()} (float: {', '.join(costs)})"
    if latency.no_float:
        yield f"not compared with float: {latency.no_float}"


def counted(count: int, one: str, many: str) -> str:
    """``1 thread``, ``2 threads``."""
    return f"{count} {one if count == 1 else many}"


def _estimate(low: float, high: float) -> str:
    return f"estimated, not measured: {estimate_words(low, high)}"
