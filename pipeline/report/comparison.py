"""Many builds on one page: one forest plot, one confusion table, one Pareto front."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edgec.pipeline.report.charts import Estimate, Point, forest, pareto, scatter
from edgec.pipeline.report.findings import NUM_WORST_CLASSES, Findings
from edgec.pipeline.report.kinship import comparable, differences, same_images, same_machine
from edgec.pipeline.report.summary import HEADLINES, signed
from edgec.pipeline.report.tables import NOTHING, Cell, Table
from edgec.pipeline.tasks.accuracy import Accuracy
from edgec.pipeline.tasks.classification import class_name
from edgec.pipeline.tasks.paired import drop_interval

Figure = tuple[str, str, Callable[[Findings], float | None]]
"""Name, unit, and what a build has of it."""


@dataclass(frozen=True)
class Front:
    """Quality against the first cost that all builds have.

    Attributes:
        title: what stands against what, with units.
        why: what the cost stands for, where it is not latency.
        points: marks are the builds' numbers.
    """

    title: str
    chart: str
    why: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Comparison:
    """What can be said of several builds together.

    Attributes:
        refused: what is not compared, and why, by name.
        what: that each loses against its float network.
        forest: of that; empty where fewer than two builds have it.
        confusion: None where no labels are known, or no class is missed.
        parity: None for tasks without classes.
        front: None where fewer than two builds can be compared.
    """

    refused: tuple[str, ...]
    what: str
    forest: str
    confusion: Table | None
    parity: Table | None
    front: Front | None


def compare(found: Sequence[Findings]) -> Comparison | None:
    """None for a single build.

    Raises:
        EdgecError: ``nothing-to-compare``.
    """
    if len(found) == 1:
        return None
    kin = [one for one in comparable(found) if same_images(one, found[0])]
    what, chart = _forest(kin)
    return Comparison(
        tuple(differences(found)),
        what,
        chart,
        confusion(kin),
        parity(kin),
        front(kin, {one.name: str(i + 1) for i, one in enumerate(found)}),
    )


def drop_estimate(found: Accuracy) -> tuple[float, tuple[float, float] | None] | None:
    """Points lost against float and their 95 % interval: Tango's of paired answers, or the bootstrap's."""
    if found.drop_pp is None:
        return None
    if found.only_float_right is not None and found.only_target_right is not None:
        share = drop_interval(found.only_float_right, found.only_target_right, found.num_images)
        return share.estimate, (share.low, share.high)
    spread = found.drop_spread
    return found.drop_pp, (spread.low, spread.high) if spread is not None else None


def _forest(found: Sequence[Findings]) -> tuple[str, str]:
    """What is lost in words, and the plot: points of the headline, or without labels the answers that changed."""
    losses = [(one.name, loss) for one in found if (loss := drop_estimate(one.manifest.accuracy)) is not None]
    unit, headline = "pp", HEADLINES.get(found[0].manifest.accuracy.metric, "headline").lower()
    what = f"Points of {headline} lost against float"
    if not losses:
        losses = [(one.name, loss) for one in found if (loss := _changed(one.manifest.accuracy)) is not None]
        unit, what = "%", "Images answered unlike float, in percent"
    if len(losses) < 2:
        return what, ""
    return what, forest(what, [_estimate(name, *loss, unit) for name, loss in losses], unit, zero=True)


def _changed(found: Accuracy) -> tuple[float, tuple[float, float] | None] | None:
    if found.agreement is None:
        return None
    sure = found.interval(found.agreement)
    return 100 - found.agreement, (100 - sure[1], 100 - sure[0]) if sure else None


def _estimate(name: str, value: float, sure: tuple[float, float] | None, unit: str) -> Estimate:
    """Surely lost is what has its whole interval right of zero; answers that changed are not lost."""
    sign = signed if unit == "pp" else "{:.{}f}".format
    between = f" ({sign(sure[0], 1)} to {sign(sure[1], 1)})" if sure else ""
    surely_lost = unit == "pp" and sure is not None and sure[0] > 0
    return Estimate(name, value, sure, f"{sign(value, 2)} {unit}{between}", surely_lost)


def confusion(found: Sequence[Findings]) -> Table | None:
    """The classes that the builds miss most, a column for each build; those with other class names have none."""
    first = found[0]
    kin = [one for one in found if one.predictions is not None and one.manifest.labels == first.manifest.labels]
    wrong: Counter[int] = Counter()
    for said in (one.predictions for one in kin):
        if said is not None:
            wrong.update(said.labels[(said.labels >= 0) & (said.shipped != said.labels)].tolist())
    if len(kin) < 2 or not wrong:
        return None
    worst = sorted(wrong, key=lambda index: (-wrong[index], index))[:NUM_WORST_CLASSES]
    rows = tuple(
        (Cell(class_name(index, first.manifest.labels)), _images(kin[0], index), *(_missed(one, index) for one in kin))
        for index in worst
    )
    caption = "Errors of each build, and what it names instead. Classes with the most errors of all builds together."
    return Table("Confusion of the worst classes", ("Class", "Images", *(one.name for one in kin)), rows, caption)


def _images(one: Findings, index: int) -> Cell:
    found = one.predictions
    return NOTHING if found is None else Cell(str(int((found.labels == index).sum())))


def _missed(one: Findings, index: int) -> Cell:
    found = one.predictions
    if found is None:
        return NOTHING
    said = found.shipped[(found.labels == index) & (found.shipped != index)].tolist()
    pairs = sorted(Counter(said).items(), key=lambda pair: (-pair[1], pair[0]))[:3]
    named = ", ".join(f"{class_name(other, one.manifest.labels)} ({count})" for other, count in pairs)
    return Cell(str(len(said)), named)


def parity(found: Sequence[Findings]) -> Table | None:
    """Share of test images for which two builds name the same class first."""
    kin = [(one, one.predictions.shipped) for one in found if one.predictions is not None]
    if len(kin) < 2:
        return None
    rows = tuple(
        (Cell(one.name), *(Cell(f"{100 * np.mean(said == other):.2f} %") for _, other in kin)) for one, said in kin
    )
    caption = "Test images for which both name the same class first."
    return Table("Agreement between builds", ("", *(one.name for one, _ in kin)), rows, caption)


def front(found: Sequence[Findings], marks: dict[str, str]) -> Front | None:
    """Builds that no other beats in quality and cost: latency, else instructions, else size.

    Args:
        marks: number of each build, by its name.
    """
    qualities: tuple[Figure, ...] = (
        (
            HEADLINES.get(found[0].manifest.accuracy.metric, "Headline"),
            "%",
            lambda one: one.manifest.accuracy.shipped_headline,
        ),
        ("Agreement with float", "%", lambda one: one.manifest.accuracy.agreement),
        ("SQNR", "dB", lambda one: one.manifest.accuracy.sqnr_db),
    )
    costs: tuple[Figure, ...] = (
        ("latency", "ms", lambda one: one.manifest.latency.p50_ms if same_machine(one, found[0]) else None),
        ("instructions", "M instructions", lambda one: one.instructions / 1e6 if one.instructions else None),
        ("size", "MB", lambda one: one.manifest.size_bytes / 1e6),
    )
    quality, cost = _known_of_all(found, qualities), _known_of_all(found, costs)
    if quality is None or cost is None or len(found) < 2:
        return None
    (what, unit, good), (name, cost_unit, price) = quality, cost
    named = [(marks[one.name], one.name, x, y) for one, x, y in zip(found, price, good, strict=True)]
    points = pareto(named)
    title = f"{what} in {unit} against {name} in {cost_unit}"
    why = "" if name == "latency" else f"Not all builds were timed on one machine: {name} stands for the cost."
    return Front(title, scatter(title, points, cost_unit, unit), why, tuple(points))


def _known_of_all(found: Sequence[Findings], figures: Sequence[Figure]) -> tuple[str, str, list[float]] | None:
    """Name and unit of the first figure that every build has, and its values."""
    for name, unit, figure in figures:
        values = [value for one in found if (value := figure(one)) is not None]
        if len(values) == len(found):
            return name, unit, values
    return None
