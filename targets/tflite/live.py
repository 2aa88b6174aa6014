"""What TFLite Micro's arena holds while each operator of a file runs."""

from __future__ import annotations

from math import prod

import numpy as np

from edgec.pipeline.forms.format import MemoryStep
from edgec.targets.tflite.flatbuffer import FileTensor, TfliteFile

ALIGNMENT = 16  # TFLite Micro, micro_arena_constants.h


def memory_steps(file: TfliteFile) -> tuple[MemoryStep, ...]:
    """One for each operator, in the order they run.

    A tensor lives from the operator that writes it, an input of the network from the first one, to the last that reads
    it; outputs of the network live to the end (TFLite Micro, ``micro_allocation_info.cc``). Scratch buffers of kernels
    are not in the file.
    """
    spans, sizes = _spans(file), _sizes(file)
    return tuple(
        MemoryStep(
            operator.kind,
            file.tensors[operator.outputs[0]].shape,
            sum(size for index, size in sizes.items() if spans[index][0] <= step <= spans[index][1]),
        )
        for step, operator in enumerate(file.operators)
    )


def planned_bytes(file: TfliteFile) -> int:
    """What TFLite Micro's planner takes for all tensors: the largest first, each at the lowest place that is free.

    Of equal ones the last in the file comes first. Source: TFLite Micro, ``greedy_memory_planner.cc``. Scratch buffers
    of kernels are not in the file.
    """
    spans, sizes = _spans(file), _sizes(file)
    placed: list[tuple[int, int, tuple[int, int]]] = []  # start, stop, span
    for index in sorted(sizes, key=lambda index: (-sizes[index], -index)):
        first, last = spans[index]
        start = 0
        for other, stop, span in sorted(placed):
            if span[0] <= last and first <= span[1]:
                if other - start >= sizes[index]:
                    break
                start = max(start, stop)
        placed.append((start, start + sizes[index], (first, last)))
    return max((stop for _, stop, _ in placed), default=0)


def _sizes(file: TfliteFile) -> dict[int, int]:
    return {index: _bytes(file.tensors[index]) for index in _spans(file)}


def _spans(file: TfliteFile) -> dict[int, tuple[int, int]]:
    """First and last operator of each tensor that is no constant, by its index."""
    spans = dict.fromkeys(file.inputs, (0, 0))
    for step, operator in enumerate(file.operators):
        for index in operator.outputs:
            spans.setdefault(index, (step, step))
        for index in operator.inputs:
            if index in spans:
                spans[index] = (spans[index][0], step)
    end = len(file.operators) - 1
    return spans | {index: (spans[index][0], end) for index in file.outputs if index in spans}


def _bytes(tensor: FileTensor) -> int:
    """Rounded up as the memory planner does."""
    return -(-prod(tensor.shape) * np.dtype(tensor.dtype).itemsize // ALIGNMENT) * ALIGNMENT
