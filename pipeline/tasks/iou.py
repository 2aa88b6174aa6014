"""Intersection over union of class maps: over all pixels, and along boundaries; intervals by a paired bootstrap.

IoU of a class is ``both / (truth or said)``, summed over images first, as in the Pascal VOC challenge (Everingham et
al., IJCV 88, 2010). The mean is over the classes that the truth has, so that two networks share their classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgec.pipeline.data.masks import VOID, ClassMap, fitted
from edgec.pipeline.tasks.resampling import Numbers, Spread, draws, spread

BOUNDARY_SHARE = 0.02  # of the diagonal: arXiv 2103.16562, section 4


@dataclass(frozen=True)
class Counts:
    """Pixels of every image by class, ``(N, C)`` each.

    Attributes:
        both: of the class in truth and answer.
        either: of the class in one of them.
        truth: of the class in the truth.
    """

    both: Numbers
    either: Numbers
    truth: Numbers

    def iou(self) -> list[float | None]:
        """Percent by class; None where the truth has none of it."""
        both, either, truth = (values.sum(axis=0) for values in (self.both, self.either, self.truth))
        return [100.0 * float(b / e) if t else None for b, e, t in zip(both, either, truth, strict=True)]

    def mean_iou(self, weights: Numbers | None = None) -> Numbers:
        """Mean over classes in percent, for each row of image weights ``(B, N)``; NaN where no class is there."""
        weights = np.ones((1, len(self.both))) if weights is None else weights
        both, either, truth = (weights @ values for values in (self.both, self.either, self.truth))
        known = truth > 0
        shares = np.divide(both, either, out=np.zeros_like(both), where=known)
        count = known.sum(axis=1)
        mean = np.divide(100.0 * shares.sum(axis=1), count, out=np.full(len(both), math.nan), where=count > 0)
        return np.asarray(mean)


def confusion(truth: ClassMap, said: npt.NDArray[Any], num_classes: int) -> npt.NDArray[np.int64]:
    """Pixels ``(C, C)`` by class of the truth (row) and of the answer (column); void pixels do not count."""
    judged = truth != VOID
    codes = truth[judged].astype(np.int64) * num_classes + said[judged]
    return np.bincount(codes, minlength=num_classes**2).reshape(num_classes, num_classes)


def counted(truth: npt.NDArray[Any], said: npt.NDArray[Any], num_classes: int) -> Counts:
    """One confusion matrix after the other; none is kept."""
    rows = np.zeros((3, len(said), num_classes))
    for i, (right, answer) in enumerate(zip(truth, said, strict=True)):
        found = confusion(fitted(right, answer.shape), answer, num_classes)
        both, there, named = np.diag(found), found.sum(axis=1), found.sum(axis=0)
        rows[:, i] = both, there + named - both, there
    return Counts(*rows)


def boundary_counted(truth: npt.NDArray[Any], said: npt.NDArray[Any], num_classes: int) -> Counts:
    """The same of the pixels near a class's own boundary alone (Cheng et al., Boundary IoU, arXiv 2103.16562)."""
    rows = np.zeros((3, len(said), num_classes))
    for i, (right, answer) in enumerate(zip(truth, said, strict=True)):
        fit = fitted(right, answer.shape)
        judged, there, named = fit != VOID, boundary(fit), boundary(answer)
        both = _histogram(fit[judged & there & named & (fit == answer)], num_classes)
        near = _histogram(fit[judged & there], num_classes)
        rows[:, i] = both, near + _histogram(answer[judged & named], num_classes) - both, near
    return Counts(*rows)


def boundary(classes: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Pixels within 2 % of the diagonal from another class or from the picture's edge.

    A square of that reach around them is not of one class: what eroding each class's region that often takes away.
    """
    from scipy.ndimage import maximum_filter, minimum_filter

    reach = max(1, round(BOUNDARY_SHARE * math.hypot(*classes.shape)))
    framed, size = np.pad(classes.astype(np.int16), 1, constant_values=-1), 2 * reach + 1
    mixed = minimum_filter(framed, size, mode="nearest") != maximum_filter(framed, size, mode="nearest")
    return np.asarray(mixed[1:-1, 1:-1])


def drop_spread(before: Counts, after: Counts) -> Spread:
    """Of the mean IoU that is lost, in points: the same images are drawn for both networks."""
    drawn = draws(len(before.both))
    return spread(before.mean_iou(drawn) - after.mean_iou(drawn))


def _histogram(classes: npt.NDArray[Any], num_classes: int) -> npt.NDArray[np.int64]:
    return np.bincount(classes, minlength=num_classes)
