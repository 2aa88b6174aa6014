"""One network by one exporter for some targets: a line of JSON for each target as soon as it is done.

A process of its own: what ends in a traceback, or kills the process, shows by the line that is missing.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from answers import Images, decibels, decibels_between, onnx_answers, openvino_answers, read_pictures, tflite_answers

from edgec.pipeline.build import build
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.root import default_root
from edgec.pipeline.core.store import Store
from edgec.pipeline.deliver import Judging, deliver
from edgec.pipeline.recipe import Choices, DataFolders, Recipe, make_recipe


@dataclass(frozen=True)
class Cell:
    """What became of one network for one target.

    Attributes:
        outcome: ``built``, ``refused``, ``traceback`` or ``crash``.
        words: why it was not built.
        code: of the refusal.
        late: refused after quantization.
        db: signal to noise of the artifact against the float file, counted here.
        between_db: the same, of what tells images apart.
        said_db: what edgec says, on the same images read its own way.
        file_db: of the QDQ file that the artifact was compiled from, in ONNX Runtime as written.
        float_layers: convolutions and matrix products that compute in float.
        pieces: of the graph, for a delegate.
    """

    outcome: str
    seconds: float
    words: str = ""
    code: str | None = None
    late: bool = False
    db: float | None = None
    between_db: float | None = None
    said_db: float | None = None
    file_db: float | None = None
    float_layers: int | None = None
    pieces: int | None = None


def main() -> None:
    source, calibration, test, folder, *targets = sys.argv[1:]
    paths = sorted(Path(test).rglob("*.jpg"))
    images = read_pictures(paths, _side(Path(source)))
    reference = onnx_answers(Path(source), images)
    for target in targets:
        folders = DataFolders(None, Path(calibration), Path(test))
        cell = _built(source, target, folders, Path(folder), images, reference)
        print(json.dumps(asdict(cell)), flush=True)


def _built(source: str, target: str, folders: DataFolders, folder: Path, images: Images, reference: Images) -> Cell:
    started = time.perf_counter()
    store = Store(default_root())
    try:
        recipe = make_recipe(source, target, folders, Choices(), len(images), "fast")
        built = build(recipe, store)
        result = deliver(recipe, folder / f"{Path(source).stem}-{target}", Judging(timed=False))
    except EdgecError as error:
        late = any(run.stage == "quantize" for run in store.runs)
        return Cell("refused", time.perf_counter() - started, str(error.message), error.code, late)
    seconds, placement = time.perf_counter() - started, result["placement"]
    answers = _answers(recipe, folder / f"{Path(source).stem}-{target}" / result["artifact"], images, reference)
    return Cell(
        "built",
        seconds,
        db=decibels(answers, reference),
        between_db=decibels_between(answers, reference),
        said_db=result["accuracy"]["sqnr_db"],
        file_db=decibels(onnx_answers(built.qdq.path / "model.onnx", images), reference),
        float_layers=placement["num_float_layers"],
        pieces=placement["delegate_pieces"],
    )


def _answers(recipe: Recipe, artifact: Path, images: Images, reference: Images) -> Images:
    """Of the artifact in its runtime; of TensorRT's, which needs a GPU, by the QDQ file that engines are built of."""
    compiler = recipe.target.compiler
    if compiler == "openvino":
        return openvino_answers(next(iter(sorted(artifact.glob("*.xml")))), images)
    if compiler == "tflite":
        return tflite_answers(artifact, images, reference.shape[1:])
    return onnx_answers(next(iter(sorted(artifact.glob("*.onnx")))), images)


def _side(path: Path) -> int:
    import onnx

    shape = onnx.load(path, load_external_data=False).graph.input[0].type.tensor_type.shape
    return int(np.int64(shape.dim[3].dim_value))


main()
