"""``python -m edgec.targets.tflite.micro_worker MODEL INPUTS.npy OUTPUTS.npz``: TFLite Micro in a process of its own.

TFLite Micro aborts the process on what it cannot do, and writes its account of the arena to standard error.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np


def main(model: str, inputs: str, outputs: str, arena_bytes: str, num_outputs: str) -> None:
    """Run every input ``(N, H, W, C)`` through the model in an arena of the given size."""
    from tflite_micro import runtime  # type: ignore[import-untyped]

    interpreter = runtime.Interpreter.from_bytes(Path(model).read_bytes(), arena_size=int(arena_bytes))
    results = []
    for image in np.load(inputs):
        interpreter.set_input(image[None], 0)
        interpreter.invoke()
        results.append([np.array(interpreter.get_output(i)) for i in range(int(num_outputs))])
    np.savez(outputs, *(np.concatenate(parts) for parts in zip(*results, strict=True)))
    interpreter.print_allocations()


if __name__ == "__main__":
    main(*sys.argv[1:])
