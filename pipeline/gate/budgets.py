"""``budgets.toml``: what a model may cost on a device, kept and reviewed like code.

[[budget]]
model = "mobilenetv2"
target = "cpu"
device = "AMD EPYC, 2 cores"      # as 'edgec measure' names it; "any" for limits that hold everywhere
owner = "vision team"
reason = "the camera delivers 100 frames a second"

[budget.limits]
p50_ms = 4.0
drop_pp = 1.0

[budget.relative]
baseline = "main"
max_slowdown = 0.02
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.toml_file import STRICT, read_toml, validate

ANY_DEVICE = "any"

Count = Annotated[int, Field(ge=0, strict=True)]
Ms = Annotated[float, Field(gt=0, strict=True)]
Percent = Annotated[float, Field(ge=0, le=100, strict=True)]
Text = Annotated[str, Field(min_length=1, strict=True)]


@dataclass(frozen=True)
class Absolute:
    """Limits that stand for themselves; upper ones, except ``LOWER_LIMITS``. An absent one is not judged.

    Attributes:
        p50_ms, p99_ms: one image, on the device.
        min_speedup: least time of the float network over that of the artifact, both by the same compiler and runtime.
        drop_pp: top-1 of the float network less that of the artifact, in percentage points.
        sqnr_db: least signal-to-quantization-noise ratio of the worst output, in dB.
        kl_divergence: of the artifact's probabilities from the float network's, in nats.
        calibration_rise: of the expected calibration error against the float network's, in points.
        top5_agreement: least share in percent of the float network's five first classes among the artifact's.
        agreement: least share in percent of images with the float network's first class.
        miou_drop_pp: mean IoU of the float network less that of the artifact, in points.
        pixel_agreement: least share in percent of pixels with the float network's class.
        unstable_answers: most percent of images, or pixels, that depend on which half of the images calibrates.
        size_bytes: of the artifact.
        arena_bytes: what TFLite Micro takes of its arena.
        instructions: of one inference on the emulated core.
        macs, params: of the float network.
        num_operators, num_transposes: of the artifact, as its runtime executes it.
        num_reformats: copies between layouts or precisions that the runtime put in.
        num_float_layers: convolutions and matrix products that run in float.
        delegate_pieces: parts that the delegate takes the graph apart into.
        num_cpu_operators: operators that an accelerator leaves to the processor.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    p50_ms: Ms | None = None
    p99_ms: Ms | None = None
    min_speedup: Annotated[float, Field(gt=0, lt=100, strict=True)] | None = None
    drop_pp: Annotated[float, Field(ge=-100, le=100, strict=True)] | None = None
    agreement: Percent | None = None
    miou_drop_pp: Annotated[float, Field(ge=-100, le=100, strict=True)] | None = None
    pixel_agreement: Percent | None = None
    sqnr_db: Annotated[float, Field(strict=True, allow_inf_nan=False)] | None = None
    kl_divergence: Annotated[float, Field(ge=0, strict=True, allow_inf_nan=False)] | None = None
    calibration_rise: Annotated[float, Field(ge=-100, le=100, strict=True)] | None = None
    top5_agreement: Percent | None = None
    unstable_answers: Percent | None = None
    size_bytes: Count | None = None
    arena_bytes: Count | None = None
    instructions: Count | None = None
    macs: Count | None = None
    params: Count | None = None
    num_operators: Count | None = None
    num_transposes: Count | None = None
    num_reformats: Count | None = None
    num_float_layers: Count | None = None
    delegate_pieces: Count | None = None
    num_cpu_operators: Count | None = None

    def given(self) -> dict[str, float]:
        """Limits that are there, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}


LATENCY_LIMITS = ("p50_ms", "p99_ms")
SPEEDUP_LIMIT = "min_speedup"
CONFIDENCE_LIMITS = ("kl_divergence", "calibration_rise", "top5_agreement")
ACCURACY_LIMITS = ("drop_pp", "agreement", "miou_drop_pp", "pixel_agreement", "sqnr_db", *CONFIDENCE_LIMITS)
STABILITY_LIMIT = "unstable_answers"
LOWER_LIMITS = ("agreement", "pixel_agreement", "sqnr_db", "top5_agreement", SPEEDUP_LIMIT)
PROXY_LIMITS = tuple(
    f.name
    for f in fields(Absolute)
    if f.name not in (*LATENCY_LIMITS, SPEEDUP_LIMIT, *ACCURACY_LIMITS, STABILITY_LIMIT)
)


@dataclass(frozen=True)
class Relative:
    """Limits against another build of the same model.

    Attributes:
        baseline: a name that ``--baseline NAME=FOLDER`` gives a folder to.
        max_slowdown: 0.05 lets the artifact take 5 % longer.
        max_drop_pp: points of top-1 or mean IoU that the artifact may lose against the baseline's, on the same images.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    baseline: Text
    max_slowdown: Annotated[float, Field(gt=0, lt=10, strict=True)] | None = None
    max_drop_pp: Annotated[float, Field(ge=0, le=100, strict=True)] | None = None

    def given(self) -> dict[str, float]:
        """Limits that are there, by name."""
        named = {"max_slowdown": self.max_slowdown, "max_drop_pp": self.max_drop_pp}
        return {name: value for name, value in named.items() if value is not None}


@dataclass(frozen=True)
class Waiver:
    """A limit that may be broken until a day, and who answers for it."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    limit: Text
    until: Annotated[datetime.date, Field(strict=True)]
    owner: Text
    reason: Text


@dataclass(frozen=True)
class Budget:
    """What one model may cost on one target and device.

    Attributes:
        device: ``any`` is for devices without a budget of their own; it cannot limit milliseconds.
        threads: of the runtime while it is measured.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    model: Text
    target: Text
    device: Text
    owner: Text
    reason: Text
    threads: Annotated[int, Field(ge=1, strict=True)] = 1
    limits: Absolute = Absolute()
    relative: Relative | None = None
    waiver: tuple[Waiver, ...] = ()

    @property
    def key(self) -> tuple[str, str, str]:
        return self.model, self.target, self.device

    def waiver_of(self, limit: str) -> Waiver | None:
        """The waiver of one limit."""
        return next((waiver for waiver in self.waiver if waiver.limit == limit), None)


@dataclass(frozen=True)
class Budgets:
    """The whole file, in its order."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    budget: tuple[Budget, ...] = ()

    def find(self, model: str, target: str, device: str) -> Budget:
        """The budget for a model on a target and device, or for any device.

        Raises:
            EdgecError: ``no-budget``.
        """
        by_key = {budget.key: budget for budget in self.budget}
        for key in ((model, target, device), (model, target, ANY_DEVICE)):
            if key in by_key:
                return by_key[key]
        others = [budget.device for budget in self.budget if (budget.model, budget.target) == (model, target)]
        where = f"; there is one for: {', '.join(others)}" if others else ""
        hint = "write one with 'edgec budget init', or judge what needs no device with --no-device"
        raise EdgecError("no-budget", f"no budget for '{model}' on '{target}' and device '{device}'{where}", hint)

    def for_any_device(self, model: str, target: str) -> tuple[Budget, ...]:
        """All budgets of a model on a target.

        Raises:
            EdgecError: ``no-budget``.
        """
        found = tuple(budget for budget in self.budget if (budget.model, budget.target) == (model, target))
        if not found:
            raise EdgecError(
                "no-budget", f"no budget for '{model}' on '{target}'", "write one with 'edgec budget init'"
            )
        return found


def load_budgets(path: Path, today: datetime.date | None = None) -> Budgets:
    """Read and check the file; a mistake in it is never a limit that is not judged.

    Raises:
        EdgecError: ``no-such-file``, ``bad-budgets`` names every wrong field, ``expired-waiver``.
    """
    if not path.exists():
        raise EdgecError(
            "no-such-file", f"no budgets '{path}'", "write them with 'edgec budget init', or give --budgets"
        )
    budgets = validate(Budgets, read_toml(path, "bad-budgets"), path, "bad-budgets")
    _check_unique(budgets.budget, path)
    for budget in budgets.budget:
        _check_limits(budget, path)
        _check_waivers(budget, path, today or datetime.datetime.now(datetime.timezone.utc).date())
    return budgets


def _check_unique(budgets: Iterable[Budget], path: Path) -> None:
    seen = set[tuple[str, str, str]]()
    for budget in budgets:
        if budget.key in seen:
            raise EdgecError("bad-budgets", f"'{path}': two budgets for {_name(budget)}", "merge them into one")
        seen.add(budget.key)


def _check_limits(budget: Budget, path: Path) -> None:
    limits = budget.limits.given()
    if not limits and not (budget.relative and budget.relative.given()):
        raise EdgecError("bad-budgets", f"'{path}': {_name(budget)} limits nothing", "give it a limit, or delete it")
    timed = [name for name in LATENCY_LIMITS if name in limits]
    if budget.device == ANY_DEVICE and timed:
        message = f"'{path}': {_name(budget)} cannot limit {', '.join(timed)}: milliseconds belong to one device"
        raise EdgecError("bad-budgets", message, "name the device, or limit max_slowdown against a baseline")


def _check_waivers(budget: Budget, path: Path, today: datetime.date) -> None:
    known = {**budget.limits.given(), **(budget.relative.given() if budget.relative else {})}
    for waiver in budget.waiver:
        if waiver.limit not in known:
            message = f"'{path}': {_name(budget)} waives '{waiver.limit}', which it does not limit"
            raise EdgecError("bad-budgets", message, f"it limits {', '.join(sorted(known))}")
        if waiver.until < today:
            message = f"'{path}': {_name(budget)}: the waiver of '{waiver.limit}' expired on {waiver.until}"
            raise EdgecError(
                "expired-waiver", message, f"ask {waiver.owner}: mend the model, or renew it with a reason"
            )


def _name(budget: Budget) -> str:
    return f"'{budget.model}' on '{budget.target}' and device '{budget.device}'"
