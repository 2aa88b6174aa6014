"""Noise that is known by construction: what a measuring process would see under it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgec.pipeline.gate.fingerprint import Fingerprint
from edgec.pipeline.gate.sampling import Process
from edgec.pipeline.gate.worker import turn_order

Values = npt.NDArray[np.float64]
SIMULATED = Fingerprint("simulated", "", "", (0,), 1, None, None, None, None, "")
BASE_MS = 2.0
STEP_MS = 40.0  # how long the environment stays as it is
LAYOUT = 0.003  # spread between processes of one artifact: memory layout, drawn once for each


@dataclass(frozen=True)
class Noise:
    """One kind of disturbance.

    Attributes:
        environment: from a generator and a number of steps of ``STEP_MS`` to their log factors.
        call: from a generator and a shape to log factors of single calls.
    """

    environment: Callable[[np.random.Generator, int], Values]
    call: Callable[[np.random.Generator, tuple[int, int]], Values]


def _still(stream: np.random.Generator, count: int) -> Values:
    return stream.normal(0, 0.003, count)


def _autocorrelated(stream: np.random.Generator, count: int) -> Values:
    """AR(1) with coefficient 0.9: a neighbour that comes and goes."""
    out, last = np.empty(count), stream.normal(0, 0.046)
    for i, step in enumerate(stream.normal(0, 0.02, count)):
        last = 0.9 * last + step
        out[i] = last
    return out


def _drifting(stream: np.random.Generator, count: int) -> Values:
    """Up to 15 % over the process, and a random walk on top: a clock that gets hot."""
    return np.linspace(0, stream.uniform(-0.15, 0.15), count) + stream.normal(0, 0.004, count).cumsum()


def _bursts(stream: np.random.Generator, count: int) -> Values:
    """About a fifth of the time 20 to 100 % slower, for 2 to 20 blocks at a time."""
    out, at = _still(stream, count), 0
    while at < count:
        at += int(stream.geometric(1 / 40))
        length = int(stream.integers(2, 21))
        out[at : at + length] += np.log(stream.uniform(1.2, 2.0))
        at += length
    return out


def _light(stream: np.random.Generator, shape: tuple[int, int]) -> Values:
    return stream.normal(0, 0.01, shape)


def _heavy(stream: np.random.Generator, shape: tuple[int, int]) -> Values:
    """Student's t with 2 degrees of freedom, and one call in fifty that takes 2 to 10 times as long."""
    spikes = np.where(stream.random(shape) < 0.02, np.log(stream.uniform(2, 10, shape)), 0.0)
    return np.abs(0.02 * stream.standard_t(2, shape)) + spikes


def _everything(stream: np.random.Generator, count: int) -> Values:
    return _autocorrelated(stream, count) + _drifting(stream, count) + _bursts(stream, count)


NOISES = {
    "still": Noise(_still, _light),
    "autocorrelated": Noise(_autocorrelated, _light),
    "drifting": Noise(_drifting, _light),
    "heavy-tailed": Noise(_still, _heavy),
    "bursts": Noise(_bursts, _light),
    "everything": Noise(_everything, _heavy),
}


def simulate(noise: Noise, slowdowns: tuple[float, ...], stream: np.random.Generator, turn_s: float = 2.0) -> Process:
    """One process of single calls by turns: contestant i takes ``1 + slowdowns[i]`` times as long."""
    count = len(slowdowns)
    turns = round(1000 * turn_s / (2 * count * BASE_MS))
    levels = np.log(BASE_MS * (1 + np.array(slowdowns))) + stream.normal(0, LAYOUT, count)
    order = np.concatenate([turn_order(count, turn) for turn in range(turns)])
    steps = (np.arange(len(order)) * BASE_MS / STEP_MS).astype(int)
    environment = noise.environment(stream, int(steps[-1]) + 1)[steps]
    times = np.exp(levels[order] + environment + noise.call(stream, (1, len(order)))[0])
    return Process(tuple(times[order == index][:, None] for index in range(count)), SIMULATED, spikes=(0,) * count)
