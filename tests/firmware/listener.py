"""Answers a firmware's stand-in with TFLite Micro itself: ``python listener.py MODEL TO FROM OFF``.

TO and FROM are named pipes. OFF is added to every answer: 0 is the truth.
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import numpy as np
from tflite_micro import runtime  # type: ignore[import-untyped]


def main(model: str, to_listener: str, from_listener: str, off: str) -> None:
    """Say sizes, then answer each input until the firmware ends; print how many operators it registered."""
    interpreter = runtime.Interpreter.from_bytes(Path(model).read_bytes(), arena_size=1 << 22)
    source, answer = interpreter.get_input_details(0), interpreter.get_output_details(0)
    sizes = [int(np.prod(tensor["shape"])) * np.dtype(tensor["dtype"]).itemsize for tensor in (source, answer)]
    with open(to_listener, "rb") as asked, open(from_listener, "wb", buffering=0) as said:
        print(*struct.unpack("<I", asked.read(4)), flush=True)
        said.write(struct.pack("<II", *sizes))
        while len(data := asked.read(sizes[0])) == sizes[0]:
            interpreter.set_input(np.frombuffer(data, source["dtype"]).reshape(source["shape"]), 0)
            interpreter.invoke()
            output = np.array(interpreter.get_output(0))
            said.write((output + output.dtype.type(int(off))).tobytes())


if __name__ == "__main__":
    main(*sys.argv[1:])
