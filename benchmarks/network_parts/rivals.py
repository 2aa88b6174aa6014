"""What NNCF and ONNX Runtime's quantizer make of the same file with the same pictures, counted as the artifacts are.

A process of its own: ``rivals.py SOURCE CALIBRATION TEST FOLDER NNCF_PYTHON`` prints decibels as JSON. NNCF's network
answers in OpenVINO, as ``cpu`` does; ONNX Runtime's (int8 with zero points, weights per channel, all in integers, the
nearest to ``arm``) as its Q and DQ are written.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from answers import decibels, decibels_between, onnx_answers, openvino_answers, read_pictures

from edgec.pipeline.data.dataset import batches, open_dataset
from edgec.pipeline.network.model_file import describe_onnx

ROUTES = Path(__file__).resolve().parents[1] / "quantizer_routes"
TOOLS = {"nncf": "default", "onnxruntime": "min-max"}


def main() -> None:
    source, calibration, test, folder = (Path(argument) for argument in sys.argv[1:5])
    pictures = list(batches(open_dataset(calibration), describe_onnx(source).preprocess))
    np.save(folder / "images.npy", np.concatenate(pictures))
    images = read_pictures(sorted(test.rglob("*.jpg")), pictures[0].shape[-1])
    reference = onnx_answers(source, images)
    for tool, variant in TOOLS.items():
        output = folder / f"{source.stem}-{tool}"
        python = sys.argv[5] if tool == "nncf" else sys.executable
        command = [python, ROUTES / f"from_{tool}.py", source, folder / "images.npy", variant, output]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
        if done.returncode:
            found = {"words": (done.stderr.strip().splitlines() or ["no words"])[-1][:300]}
        else:
            answers = _answers(tool, output, images)
            found = {"db": decibels(answers, reference), "between_db": decibels_between(answers, reference)}
        print(json.dumps({"tool": tool, **found}), flush=True)


def _answers(tool: str, output: Path, images: np.ndarray) -> np.ndarray:
    if tool == "nncf":
        return openvino_answers(output / "model.xml", images)
    return onnx_answers(output.with_suffix(".onnx"), images)


main()
