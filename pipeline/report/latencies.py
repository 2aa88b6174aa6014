"""Latency as it was observed: a dot for every block or process, builds of one machine in one plot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgec.pipeline.bundle.model_card import counted
from edgec.pipeline.report.charts import Dots, dots
from edgec.pipeline.report.findings import Findings


@dataclass(frozen=True)
class LatencyPlot:
    """Builds that were timed on one machine.

    Attributes:
        where: the machine and its threads.
    """

    where: str
    chart: str
    caption: str


def latency_plots(found: Sequence[Findings]) -> tuple[LatencyPlot, ...]:
    """A plot for each machine; none where no observation was kept."""
    machines: dict[tuple[str, int | None], list[Findings]] = {}
    for one in found:
        if one.latency.medians_ms:
            machines.setdefault((one.latency.device or "unknown device", one.latency.threads), []).append(one)
    return tuple(_plot(device, threads, kin) for (device, threads), kin in machines.items())


def _plot(device: str, threads: int | None, found: Sequence[Findings]) -> LatencyPlot:
    rows = [row for one in found for row in (_row(one), *_float_row(one))]
    many = "" if threads is None else f", {counted(threads, 'thread', 'threads')}"
    processes = any(one.latency.num_processes > 1 for one in found)
    caption = f"A dot is the median of {'one process' if processes else 'one block of calls'}; nothing is dropped."
    if any(one.latency.beside_float for one in found):
        caption += " Orange is the float network in the same runtime, timed in turns with the build;"
        caption += " the speedup is the median over neighbouring blocks."
    if any(one.latency.p50_interval_ms is None for one in found):
        caption += " One process alone gives no interval: edgec check --record measures it."
    return LatencyPlot(f"{device}{many}", dots(f"Latency on {device}{many}", rows, "ms"), caption)


def _float_row(one: Findings) -> list[Dots]:
    beside = one.latency.beside_float
    if beside is None:
        return []
    middle = beside.float_p50_ms
    observed = beside.float_medians_ms or (middle,)
    return [Dots(f"{one.name}, float", observed, middle, f"{middle:.3f} ms", highlight=True)]


def _row(one: Findings) -> Dots:
    known = one.latency
    sorted_ms = sorted(known.medians_ms)
    middle = known.p50_ms if known.p50_ms is not None else sorted_ms[len(sorted_ms) // 2]
    sure = known.p50_interval_ms
    between = f" ({sure[0]:.3f} to {sure[1]:.3f})" if sure else ""
    return Dots(one.name, known.medians_ms, middle, f"{middle:.3f} ms{between}")
