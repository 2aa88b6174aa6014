"""Runs an ONNX graph in torch, node by node, so that passes can look at, change and differentiate through it.

Operators outside the table (``operators.py``) run in another evaluator: correct, slow, and without gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from edgec.pipeline.core.at_once import MOST_AT_ONCE, num_cores
from edgec.pipeline.network.graph import Graph, Node
from edgec.pipeline.quantize.operators import OPERATORS
from edgec.pipeline.quantize.reference import by_reference

Thing = TypeVar("Thing")
Made = TypeVar("Made")

Values = dict[str, Tensor]
After = Callable[[str, Tensor], Tensor]
"""Sees each activation under its name as it is made, the network's inputs included, and may replace it."""
Operator = Callable[[Node, Mapping[str, Tensor]], Iterable[Tensor]]
"""The outputs of a node, given its inputs by name."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch sums in another order with another number of threads: one gives the same bits on machines of any size."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def on_each_core(work: Callable[[Thing], Made], things: Sequence[Thing]) -> list[Made]:
    """``[work(thing) for thing in things]``, one on each core. A new thread has torch's usual number of threads for its
    sums, whatever its parent has: each gets one."""

    def alone(thing: Thing) -> Made:
        torch.set_num_threads(1)
        return work(thing)

    cores = min(num_cores(), MOST_AT_ONCE)
    if cores < 2 or len(things) < 2:
        return [work(thing) for thing in things]
    return list(_threads(cores).map(alone, things))


@lru_cache(maxsize=1)
def _threads(count: int) -> ThreadPoolExecutor:
    """Kept: each new thread would take memory from an arena of its own, which stays with it."""
    return ThreadPoolExecutor(count)


def run(
    graph: Graph,
    feeds: Mapping[str, Tensor],
    after: After | None = None,
    constants: Mapping[str, Tensor] | None = None,
    operator: Operator | None = None,
) -> Values:
    """Execute the graph and return its outputs by name.

    Args:
        feeds: the network's inputs, ``(N, C, H, W)``.
        after: hook on every activation.
        constants: as from ``tensors(graph)``; entries may be differentiable.
        operator: computes a node instead of ``compute``.
    """
    operator = operator or compute
    values = dict(constants) if constants is not None else tensors(graph)
    remaining = {name: len(nodes) for name, nodes in graph.consumers.items()}
    for name, feed in feeds.items():
        values[name] = after(name, feed) if after is not None else feed
    for node in graph.nodes:
        for name, value in zip(node.outputs, operator(node, values), strict=False):
            values[name] = after(name, value) if after is not None else value
        for name in dict.fromkeys(node.inputs):
            remaining[name] = remaining.get(name, 1) - 1
            if remaining[name] == 0 and name not in graph.constants and name not in graph.outputs:
                values.pop(name, None)
    return {name: values[name] for name in graph.outputs}


def tensors(graph: Graph) -> Values:
    """The graph's constants as torch tensors that share memory with nothing."""
    return {name: torch.from_numpy(np.array(array)) for name, array in graph.constants.items()}


def compute(node: Node, values: Mapping[str, Tensor]) -> Iterable[Tensor]:
    """The outputs of one node, given at least its inputs."""
    inputs = [values[name] if name else None for name in node.inputs]
    operator = OPERATORS.get(node.op) if node.domain in ("", "ai.onnx") else None
    if operator is None:
        return by_reference(node, inputs)
    parts = {"num_outputs": len(node.outputs)} if node.op == "Split" else {}
    result = operator({**node.attributes, **parts}, *inputs)
    return (result,) if isinstance(result, Tensor) else result
