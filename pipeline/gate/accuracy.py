"""Accuracy limits, judged on paired answers to the same images."""

from __future__ import annotations

from edgec.pipeline.gate.budgets import CONFIDENCE_LIMITS, LOWER_LIMITS, STABILITY_LIMIT
from edgec.pipeline.gate.finding import Finding, Verdict
from edgec.pipeline.tasks.accuracy import Accuracy, Drop
from edgec.pipeline.tasks.paired import (
    Share,
    drop_interval,
    drop_p,
    images_for_drop,
    images_for_share,
    share_interval,
    share_p,
)
from edgec.pipeline.tasks.resampling import Spread
from edgec.pipeline.tasks.stability import Stability
from edgec.pipeline.tasks.task import Pairs

PIXEL_LIMITS = ("miou_drop_pp", "pixel_agreement")


def judge_accuracy(limit: str, bound: float, accuracy: Accuracy) -> Finding:
    """One of ``ACCURACY_LIMITS`` on what an evaluation recorded."""
    if limit == "sqnr_db":
        return judge_sqnr(bound, accuracy)
    if limit in CONFIDENCE_LIMITS:
        return judge_confidence(limit, bound, accuracy)
    if (limit in PIXEL_LIMITS) != (accuracy.agreement_spread is not None):
        other = "pixel_agreement or miou_drop_pp" if limit not in PIXEL_LIMITS else "agreement or drop_pp"
        reason = f"the task '{accuracy.task}' has no such figure: limit {other} instead"
        return Finding(limit, bound, Verdict.INCONCLUSIVE, reason)
    if limit in PIXEL_LIMITS:
        return _judge_pixels(limit, bound, accuracy)
    if accuracy.agreement is None:
        reason = f"the task '{accuracy.task}' knows no right answers"
        return Finding(limit, bound, Verdict.INCONCLUSIVE, reason)
    if limit == "agreement":
        count = round(accuracy.agreement * accuracy.num_images / 100)
        return judge_agreement(bound, count, accuracy.num_images)
    if accuracy.only_float_right is None or accuracy.only_target_right is None:
        reason = "the test images have no labels that mean anything for these weights: limit the agreement instead"
        return Finding(limit, bound, Verdict.INCONCLUSIVE, reason)
    pairs = Pairs(accuracy.only_float_right, accuracy.only_target_right, accuracy.num_images)
    return judge_drop(limit, bound, pairs)


def judge_sqnr(bound: float, accuracy: Accuracy) -> Finding:
    """The ratio on these images against the least that is allowed, of the artifact and of its reference.

    An artifact that equals a reference which is garbage does not pass.
    """
    found = [db for db in (accuracy.sqnr_db, accuracy.reference_sqnr_db) if db is not None]
    if not found and not accuracy.outputs:
        return Finding("sqnr_db", bound, Verdict.INCONCLUSIVE, "the network answers with classes, which have no ratio")
    if not found:
        return Finding("sqnr_db", bound, Verdict.PASS, "equal to the float network")
    verdict = Verdict.PASS if min(found) >= bound else Verdict.FAIL
    return Finding("sqnr_db", bound, verdict, f"on {accuracy.num_images} images", min(found))


def judge_confidence(limit: str, bound: float, accuracy: Accuracy) -> Finding:
    """A figure of certainty against its limit, with its bootstrap over the images."""
    found = getattr(accuracy.confidence, limit, None)
    if found is None:
        reason = (
            "the test images have no labels"
            if accuracy.confidence
            else f"the task '{accuracy.task}' has no such figure"
        )
        return Finding(limit, bound, Verdict.INCONCLUSIVE, reason)
    return _judge_estimate(limit, bound, found.value, found.spread, f"bootstrap over {accuracy.num_images} images")


def judge_stability(bound: float, found: Stability | None) -> Finding:
    """The share of answers that depend on which half of the images calibrated."""
    if found is None or found.unstable_answers is None or found.spread is None:
        reason = "not in the bundle: build it with --stability" if found is None else "the task knows no right answers"
        return Finding(STABILITY_LIMIT, bound, Verdict.INCONCLUSIVE, reason)
    reason = f"on {found.num_images} images, halves of {found.num_calibration[0]} and {found.num_calibration[1]}"
    return _judge_estimate(STABILITY_LIMIT, bound, found.unstable_answers, found.spread, reason)


def judge_lost(limit: str, bound: float, drop: Drop) -> Finding:
    """A drop of mean IoU, in points, against its limit; the interval is a bootstrap's over the images."""
    reason = f"paired bootstrap over {drop.num_images} images"
    return _judge_estimate(limit, bound, drop.drop_pp, drop.spread, reason)


def _judge_estimate(limit: str, bound: float, value: float, spread: Spread, reason: str) -> Finding:
    """A figure with a bootstrap's interval against an upper or a lower limit."""
    share = upper = Share(value, spread.low, spread.high)
    beyond, most = value - bound, bound
    if limit in LOWER_LIMITS:
        upper, beyond, most = Share(-value, -spread.high, -spread.low), -beyond, -bound
    p_value = _normal_p(beyond, spread.error)
    return Finding(limit, bound, _verdict(upper, most), reason, share.estimate, share.low, share.high, p_value)


def _judge_pixels(limit: str, bound: float, accuracy: Accuracy) -> Finding:
    agreed, spread = accuracy.agreement, accuracy.agreement_spread
    if limit == "pixel_agreement" and agreed is not None and spread is not None:
        return _judge_estimate(limit, bound, agreed, spread, f"bootstrap over {accuracy.num_images} images")
    if accuracy.drop_pp is None or accuracy.drop_spread is None:
        reason = "the test images have no masks that mean anything for these weights: limit pixel_agreement instead"
        return Finding(limit, bound, Verdict.INCONCLUSIVE, reason)
    return judge_lost(limit, bound, Drop(accuracy.drop_pp, accuracy.drop_spread, accuracy.num_images))


def _normal_p(beyond: float, error: float) -> float:
    """One-sided p-value of "the true value keeps the limit", which the estimate passes by ``beyond``."""
    from scipy.special import ndtr

    return float(ndtr(-beyond / max(error, 1e-12)))


def judge_drop(limit: str, bound: float, pairs: Pairs) -> Finding:
    """A drop in percentage points against its limit; says how many images would decide where these do not."""
    b, c, n = pairs.only_before, pairs.only_after, pairs.num_images
    share = drop_interval(b, c, n)
    verdict = _verdict(share, bound)
    needed = images_for_drop(b, c, n, bound)
    reason = f"{b} images lost, {c} gained, of {n}" + _needed(verdict, needed)
    return Finding(limit, bound, verdict, reason, share.estimate, share.low, share.high, drop_p(b, c, n, bound))


def judge_agreement(bound: float, count: int, num_images: int) -> Finding:
    """A share in percent against the least that is allowed."""
    share = share_interval(count, num_images)
    verdict = _verdict(Share(-share.estimate, -share.high, -share.low), -bound)
    needed = images_for_share(count, num_images, bound)
    reason = f"{count} of {num_images} images" + _needed(verdict, needed)
    p_value = share_p(count, num_images, bound)
    return Finding("agreement", bound, verdict, reason, share.estimate, share.low, share.high, p_value)


def _verdict(share: Share, bound: float) -> Verdict:
    if share.low > bound:
        return Verdict.FAIL
    return Verdict.PASS if share.high < bound else Verdict.INCONCLUSIVE


def _needed(verdict: Verdict, needed: int | None) -> str:
    if verdict is not Verdict.INCONCLUSIVE:
        return ""
    if needed is None:
        return "; the estimate does not keep the limit, so more images promise no pass"
    return f"; a limit of this size needs about {needed:,} images"
