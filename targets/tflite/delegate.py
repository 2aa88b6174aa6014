"""How much of a .tflite file XNNPACK takes, found by loading it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from edgec.pipeline.core.errors import EdgecError
from edgec.targets.tflite.flatbuffer import TfliteFile, read_tflite
from edgec.targets.tflite.runner import open_interpreter


@dataclass(frozen=True)
class Coverage:
    """What the delegate takes.

    Attributes:
        pieces: delegate nodes in the execution plan; one is right for a CNN. 0 where XNNPACK refuses the file.
        delegated: for each operator of the file, in its order, whether XNNPACK runs it.
        operators_percent: share of the operators.
        macs_percent: share of the multiply-accumulates.
        refusal: XNNPACK's words where the file loads only without it.
    """

    pieces: int
    delegated: tuple[bool, ...]
    operators_percent: float
    macs_percent: float
    refusal: str = ""


def delegate_coverage(content: bytes) -> Coverage:
    """Load the file with XNNPACK and see which operators its delegate nodes replaced.

    Raises:
        EdgecError: ``missing-runtime``; ``corrupt-tflite`` where the file does not load without XNNPACK either.
    """
    file = read_tflite(content)
    try:
        details = open_interpreter(content, threads=1, xnnpack=True)._get_ops_details()
    except EdgecError as error:
        if error.code != "corrupt-tflite":
            raise
        open_interpreter(content, threads=1, xnnpack=False)
        return Coverage(0, (False,) * len(file.operators), 0.0, 0.0, error.message)
    pieces = [node for node in details if node["op_name"] == "DELEGATE"]
    inside = set[int]()
    for piece in pieces:
        inside |= _replaced(file, piece)
    delegated = tuple(i in inside for i in range(len(file.operators)))
    macs = sum(op.macs for op, taken in zip(file.operators, delegated, strict=True) if taken)
    return Coverage(
        len(pieces),
        delegated,
        100.0 * len(inside) / max(len(delegated), 1),
        100.0 * macs / file.macs if file.macs else 100.0,
    )


def left_by_xnnpack(content: bytes) -> tuple[str, ...]:
    """In sentences, what a file will cost beside XNNPACK; nothing where it takes all at once, or judges by ranges.

    Raises:
        EdgecError: as ``delegate_coverage``.
    """
    coverage = delegate_coverage(content)
    kinds = (operator.kind for operator in read_tflite(content).operators)
    left = Counter(kind for kind, taken in zip(kinds, coverage.delegated, strict=True) if not taken)
    if coverage.refusal or not left:
        return ()
    named = ", ".join(f"{count} x {kind}" for kind, count in sorted(left.items()))
    return (f"XNNPACK takes the network in {coverage.pieces} pieces; TFLite's own kernels compute {named}",)


def _replaced(file: TfliteFile, piece: dict[str, Any]) -> set[int]:
    """The operators between a delegate node's outputs and its inputs."""
    makers = {output: i for i, op in enumerate(file.operators) for output in op.outputs}
    known = {int(i) for i in piece["inputs"]}
    waiting, found = [int(i) for i in piece["outputs"]], set[int]()
    while waiting:
        tensor = waiting.pop()
        maker = makers.get(tensor)
        if tensor not in known and maker is not None and maker not in found:
            found.add(maker)
            waiting += file.operators[maker].inputs
    return found
