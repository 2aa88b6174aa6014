"""What quantization did, for people and files: plain records, which import nothing of the quantizer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from edgec.pipeline.forms.scheme import Level


@dataclass(frozen=True)
class FloatLayer:
    """A layer that quantization left in float, and why."""

    layer: str
    reason: str


@dataclass(frozen=True)
class HeldDrop:
    """What layers in float left of the drop, in points of top-1 on the deciding images."""

    max_drop_pp: float
    drop_pp: float
    num_images: int
    num_layers: int


@dataclass(frozen=True)
class LearningRecord:
    """What learning brought.

    Attributes:
        is_kept: its network ships; else that of the level.
        before_db: SQNR of the level's network, over three views of each image that judged; None where it is exact.
        after_db: of the one that learned.
    """

    is_kept: bool
    before_db: float | None
    after_db: float | None

    def words(self) -> str:
        """For people."""
        before, after = ("exact" if db is None else f"{db:.1f} dB" for db in (self.before_db, self.after_db))
        fate = "kept" if self.is_kept else "left"
        return f"what it learned is {fate}: {after}, {before} without, over three views of each"


@dataclass(frozen=True)
class LevelRecord:
    """Which level's network ships: the highest that answered held-out images better than those below.

    Attributes:
        level: may be below the one that was asked for.
        sqnr_db: of each level's network on the calibration images that judged; None where it is exact.
        num_images: that judged.
        learning: on top of it; None where nothing learned.
    """

    level: Level
    sqnr_db: Mapping[Level, float | None]
    num_images: int
    learning: LearningRecord | None = None

    def words(self) -> str:
        """One sentence, for people."""
        found = ", ".join(f"{name} {'exact' if db is None else f'{db:.1f} dB'}" for name, db in self.sqnr_db.items())
        learned = f"; {self.learning.words()}" if self.learning else ""
        return f"level '{self.level}' is kept: {found} on {self.num_images} calibration images that judged{learned}"


@dataclass(frozen=True)
class GivenRecord:
    """What became of the parameters that a network brought along.

    Attributes:
        num_activations: tensors that were given parameters.
        num_weights: constants that were given parameters.
        changed: why a tensor has others, or none, by name.
        calibrated: tensors that the target stores as integers, and that were given nothing.
    """

    num_activations: int
    num_weights: int
    changed: Mapping[str, str]
    calibrated: tuple[str, ...]

    def words(self) -> str:
        """For people."""
        given = (
            f"the network's own parameters are kept: of {self.num_activations} tensors and {self.num_weights} weights"
        )
        reasons = Counter(self.changed.values()).most_common()
        first = {why: name for name, why in reversed(tuple(self.changed.items()))}
        told = "; ".join(f"{count} x {why} ('{first[why]}')" for why, count in reasons)
        gaps = f"; {len(self.calibrated)} tensors without any are calibrated" if self.calibrated else ""
        return f"{given}, {f'but {told}' if told else 'all'}{gaps}"


@dataclass(frozen=True)
class PrefixRecord:
    """The first layers in 16 bits.

    Attributes:
        tensor: up to which.
        share: of the network's multiplications.
        sqnr_db: of the network on the calibration images that chose the place.
        int8_sqnr_db: of all in 8 bits on them.
        num_images: that chose.
        arena_bytes: most bytes of tensors at a time, without what a runtime takes beside them.
        int8_arena_bytes: the same of all in 8 bits.
    """

    tensor: str
    share: float
    sqnr_db: float
    int8_sqnr_db: float
    num_images: int
    arena_bytes: int
    int8_arena_bytes: int

    def words(self) -> str:
        """One sentence, for people."""
        memory = f"{self.arena_bytes:,} bytes of tensors at a time in place of {self.int8_arena_bytes:,}"
        gain = f"{self.sqnr_db:.1f} dB in place of {self.int8_sqnr_db:.1f} on {self.num_images} calibration images"
        layers = f"the first layers, up to '{self.tensor}', compute in 16 bits"
        return f"{layers}: {100 * self.share:.0f} % of the multiplications, {memory}, {gain}"


@dataclass(frozen=True)
class QuantizationRecord:
    """``quantization.json``.

    Attributes:
        kept: None for the level ``fast``, which is compared with nothing.
        layer_sqnr_db: of each quantized layer's output, the network quantized up to there.
        fallback: None where no drop had to be held.
        integers_p50_ms: median latency of the network all in integers, where layers stayed in float for a drop.
        given: None where the network brought no parameters along.
        prefix: None where no first layers are in 16 bits.
    """

    float_layers: tuple[FloatLayer, ...]
    layer_sqnr_db: Mapping[str, float | None]
    fallback: HeldDrop | None = None
    kept: LevelRecord | None = None
    integers_p50_ms: float | None = None
    given: GivenRecord | None = None
    prefix: PrefixRecord | None = None
