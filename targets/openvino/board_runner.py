"""What edgec executes on a device for OpenVINO: one file that needs numpy and ``openvino``.

Prints JSON lines: ``{"done": 3, "total": 200}`` on the way, the answer as the last one, or ``{"error": code,
"message": ...}`` and exit status 1.

    board_runner.py facts
    board_runner.py predict MODEL.xml MODEL.bin INPUTS.npy OUTPUTS.npz [--precision f32]
    board_runner.py invoke MODEL.xml MODEL.bin --times N       (marks each inference for the instruction counter)
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
import threading
from typing import Any

WARM_UPS = 2


class Refusal(Exception):
    """What edgec reports under the code ``args[0]``."""


def say(answer: dict[str, Any]) -> None:
    """One JSON line."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def end_with_connection() -> None:
    """Exit when standard input ends: a lost connection leaves nothing running."""

    def watch() -> None:
        while os.read(0, 1024):
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def import_runtime() -> Any:
    """The module ``openvino``."""
    try:
        import openvino
    except ImportError as error:
        raise Refusal("missing-remote-runtime", f"{sys.executable} has no openvino: {error}") from None
    return openvino


def facts() -> dict[str, Any]:
    """The machine and its runtime; ``model`` is what /proc/cpuinfo says, under emulation the host's processor."""
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        names = re.findall(r"^model name\s*:\s*(.+)$", file.read(), re.MULTILINE)
    try:
        version = import_runtime().__version__.partition("-")[0]
    except Refusal:
        version = None
    return {
        "model": names[0] if names else None,
        "machine": platform.machine(),
        "python": platform.python_version(),
        "runtime": version and f"openvino {version}",
        "avx2": has_avx2(),
    }


def has_avx2() -> bool:
    """Whether this processor, emulated or not, has the instructions that most kernels are written in."""
    import numpy as np

    core = getattr(np, "_core", None) or np.core
    return bool(core._multiarray_umath.__cpu_features__.get("AVX2", False))


def load(options: argparse.Namespace) -> Any:
    """An infer request of the model on one thread."""
    openvino = import_runtime()
    config = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": 1,
        "INFERENCE_PRECISION_HINT": options.precision,
    }
    try:
        core = openvino.Core()
        compiled = core.compile_model(core.read_model(options.model, options.weights), "CPU", config)
    except RuntimeError as error:
        raise Refusal("unusable-artifact", f"the device's runtime refuses the file: {error}") from None
    return compiled.create_infer_request()


def predict(options: argparse.Namespace) -> dict[str, Any]:
    """Every image of INPUTS, ``(N, C, H, W)`` float32, to every output as float32."""
    import numpy as np

    request = load(options)
    images = np.load(options.inputs, mmap_mode="r")
    number = len(request.model_outputs)
    outputs: list[list[Any]] = [[] for _ in range(number)]
    for row in range(len(images)):
        request.infer({0: np.ascontiguousarray(images[row : row + 1])})
        for i in range(number):
            outputs[i].append(request.get_output_tensor(i).data[0].astype(np.float32))
        say({"done": row + 1, "total": len(images)})
    np.savez(options.outputs, *[np.stack(parts) for parts in outputs])
    return {"outputs": options.outputs, "board": facts()}


def invoke_marked(options: argparse.Namespace) -> dict[str, Any]:
    """``times`` inferences of zeros after some to warm up; getppid, which does nothing, marks begin and end of each."""
    request = load(options)
    request.get_input_tensor(0).data[:] = 0
    for _ in range(WARM_UPS):
        request.infer()
    for _ in range(options.times):
        os.getppid()
        request.infer()
        os.getppid()
    return {"times": options.times, "board": facts()}


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line; ``call`` is the command's function."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("facts").set_defaults(call=lambda options: {"board": facts()})
    for name, call in (("predict", predict), ("invoke", invoke_marked)):
        command = commands.add_parser(name)
        command.set_defaults(call=call)
        command.add_argument("model")
        command.add_argument("weights")
        command.add_argument("--precision", default="f32")
    commands.choices["predict"].add_argument("inputs")
    commands.choices["predict"].add_argument("outputs")
    commands.choices["invoke"].add_argument("--times", type=int, default=5)
    for command in commands.choices.values():
        command.add_argument("--attached", action="store_true", help="exit when standard input ends")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Do one command and say what came of it."""
    options = parse(arguments)
    if options.attached:
        end_with_connection()
    try:
        say(options.call(options))
    except Refusal as refusal:
        say({"error": refusal.args[0], "message": refusal.args[1]})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
