"""What constant work before each block would take out of the noise: a control variate, on recorded processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgec.pipeline.gate.sampling import Process
from edgec.pipeline.gate.worker import turn_order

Recorded = Sequence[tuple[Process, np.ndarray | None]]


def show_control(pool: Mapping[tuple[str, str], Recorded]) -> None:
    """One row for each model and load: the ratio of an artifact to itself, as it is and with the constant work's share
    taken out of each turn."""
    if all(kernel is None for recorded in pool.values() for _, kernel in recorded):
        return
    heads = ("model", "load", "correlation", "coefficient", "one turn %", "with control", "between processes %")
    print(f"\n| {' | '.join((*heads, 'with control'))} |\n|{'---|' * (len(heads) + 1)}")
    for (model, load), recorded in pool.items():
        known = [(process, kernel) for process, kernel in recorded if kernel is not None]
        if not known:
            continue
        ratios = [process.turn_log_ratios(0, 1) for process, _ in known]
        controls = [control_log_ratios(kernel) for _, kernel in known]
        coefficient, correlation = fitted(np.concatenate(ratios), np.concatenate(controls))
        freed = [ratio - coefficient * control for ratio, control in zip(ratios, controls, strict=True)]
        spreads = [(_turn(values), _between(values)) for values in (ratios, freed)]
        turns, between = zip(*spreads, strict=True)
        figures = f"{correlation:.2f} | {coefficient:.2f} | {turns[0]:.2f} | {turns[1]:.2f}"
        print(f"| {model} | {load} | {figures} | {between[0]:.2f} | {between[1]:.2f} |")


def control_log_ratios(kernel: np.ndarray) -> np.ndarray:
    """``(turns,)``: mean log of the constant work around the blocks of contestant 0, less that around 1's.

    Args:
        kernel: ``(contestants, blocks)`` ms, before each block; that of the next block counts as behind it.
    """
    logs, count = np.log(kernel), len(kernel)
    turns = logs.shape[1] // 2
    order = [index for turn in range(turns) for index in turn_order(count, turn)]
    place, sequence, owner = [0] * count, [], []
    for index in order:
        sequence.append(logs[index, place[index]])
        owner.append(index)
        place[index] += 1
    values, owners = np.array(sequence), np.array(owner)
    around = (values + np.append(values[1:], values[-1])) / 2
    of_each = [around[owners == index].reshape(turns, 2).mean(axis=1) for index in (0, 1)]
    difference: np.ndarray = of_each[0] - of_each[1]
    return difference


def fitted(ratios: np.ndarray, controls: np.ndarray) -> tuple[float, float]:
    """(slope, correlation) without the hundredth of turns on either side that spikes of either make."""
    low, high = np.quantile(ratios, (0.01, 0.99)), np.quantile(controls, (0.01, 0.99))
    usual = (ratios > low[0]) & (ratios < low[1]) & (controls > high[0]) & (controls < high[1])
    x, y = controls[usual], ratios[usual]
    slope = float(np.cov(x, y)[0, 1] / max(x.var(ddof=1), 1e-12))
    return slope, float(np.corrcoef(x, y)[0, 1])


def _turn(ratios: Sequence[np.ndarray]) -> float:
    return 100 * float(np.median([np.subtract(*np.quantile(own, (0.75, 0.25))) / 1.349 for own in ratios]))


def _between(ratios: Sequence[np.ndarray]) -> float:
    return 100 * float(np.std([np.median(own) for own in ratios], ddof=1))
