"""How a network is trained: the phases of a run and what holds in all of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import takewhile

from edgec.pipeline.train.augment import Augment


@dataclass(frozen=True)
class Phase:
    """Some epochs at one picture size, with a learning rate that rises to its peak and is annealed to zero.

    Small pictures first: EfficientNetV2 (2104.00298), section 4. Every phase restarts the learning rate (SGDR,
    1608.03983): a network that has seen one size only has to learn the next.

    Attributes:
        head_only: the classifier alone learns; everything else, batch norm's statistics too, stays as it is.
    """

    px: int
    epochs: int
    learning_rate: float
    head_only: bool = False


@dataclass(frozen=True)
class TrainingRecipe:
    """Everything that decides a training run, except the network and the data.

    Attributes:
        phases: what is shown, in order.
        warmup_epochs: linear rise of the learning rate at the start of a phase; at most half of it.
        weight_decay: decoupled (1711.05101); dense and pointwise weights only, see ``parameter_groups``.
        label_smoothing: 1512.00567, section 7.
        ema_decay: per step, of the averaged weights that are evaluated and kept.
        augment: random changes to the training pictures.
        class_balance: a class weighs by its share of the training set to the power of minus this: 0 as the pictures
            are, 1 each class alike.
        patience: a phase ends after so many epochs without a better validation figure, and the best epoch at the last
            size is kept, not the last one; None for all epochs and the last.
        is_pretrained: the network begins with trained weights, whose function batch norm has to keep.
    """

    phases: tuple[Phase, ...]
    batch_size: int = 64
    warmup_epochs: float = 1.0
    weight_decay: float = 0.05
    label_smoothing: float = 0.05
    ema_decay: float = 0.995
    augment: Augment = field(default_factory=Augment)
    seed: int = 0
    class_balance: float = 0.0
    patience: int | None = None
    is_pretrained: bool = False

    @property
    def epochs(self) -> int:
        return sum(phase.epochs for phase in self.phases)

    @property
    def first_whole_epoch(self) -> int:
        """Where more than the head begins to learn."""
        return sum(phase.epochs for phase in takewhile(lambda phase: phase.head_only, self.phases))

    def phase_at(self, epoch: float) -> tuple[Phase, float]:
        """The phase of a fractional epoch of the run, and how many of the phase's epochs are over by then."""
        for phase in self.phases[:-1]:
            if epoch < phase.epochs:
                return phase, epoch
            epoch -= phase.epochs
        return self.phases[-1], epoch

    def learning_rate_at(self, epoch: float) -> float:
        """Learning rate at a fractional epoch: linear warm-up, then half a cosine down to zero."""
        phase, done = self.phase_at(epoch)
        warmup = min(self.warmup_epochs, phase.epochs / 2)
        if done < warmup:
            return phase.learning_rate * done / warmup
        return phase.learning_rate * 0.5 * (1 + math.cos(math.pi * (done - warmup) / (phase.epochs - warmup)))
