"""``edgec sensitivity``: which layers of an ONNX file quantize badly."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.progress import reporter
from edgec.pipeline.core.store import Store, source
from edgec.pipeline.data.dataset import batches, open_dataset
from edgec.pipeline.forms.scheme import load_scheme
from edgec.pipeline.network.import_onnx import ImportOnnx
from edgec.pipeline.network.simplify import Simplify
from edgec.pipeline.quantize.stages import BATCH_SIZE, Calibrate
from edgec.pipeline.recipe import describe_onnx

if TYPE_CHECKING:
    from edgec.pipeline.quantize.sensitivity import Sensitivity


def sensitivity_file(
    model: Path, scheme: str, data: Path, store: Store, calibration_samples: int = 256
) -> list[Sensitivity]:
    """Calibrate ``model`` (ONNX or ``model.toml``) on ``data`` and rank its layers, the worst first.

    Raises:
        EdgecError: ``unknown-scheme`` and what ``describe_onnx``, ``open_dataset`` and the stages raise.
    """
    import onnx

    from edgec.pipeline.quantize.calibrate import Calibration
    from edgec.pipeline.quantize.quantizer import sensitivities

    rules, description = load_scheme(scheme), describe_onnx(model)
    images, preprocess = open_dataset(data).take(calibration_samples), description.preprocess
    fp32 = store.run(Simplify(), store.run(ImportOnnx(), source(Path(description.onnx))))
    statistics = store.run(Calibrate(preprocess, images), fp32, images.artifact())

    def stream() -> Iterator[npt.NDArray[np.float32]]:
        return batches(images, preprocess, BATCH_SIZE)

    calibration = Calibration.load(statistics.path)
    return sensitivities(onnx.load(fp32.path), calibration, rules, stream, reporter("sensitivity"))


def check_can_plot() -> None:
    """Refuse before the work, not after it.

    Raises:
        EdgecError: ``missing-matplotlib``.
    """
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        raise EdgecError("missing-matplotlib", "matplotlib is not installed", "pip install 'edgec[plot]'")


def plot(ranked: list[Sensitivity], title: str, output: Path, count: int = 20) -> None:
    """Bars of the worst layers as an image; the suffix chooses the format.

    Raises:
        EdgecError: ``output-not-writable``.
    """
    from matplotlib.figure import Figure

    worst = ranked[:count][::-1]
    figure = Figure(figsize=(9, 1 + 0.28 * len(worst)), layout="constrained")
    axes = figure.subplots()
    axes.barh([entry.layer.name for entry in worst], [entry.sqnr_db for entry in worst], color="#4477aa")
    axes.set_xlabel("SQNR of the output in dB with only this layer quantized")
    axes.set_title(title)
    axes.tick_params(axis="y", labelsize=7)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(output)
    except (OSError, ValueError) as error:
        message = f"cannot write '{output}': {error}"
        raise EdgecError("output-not-writable", message, "choose another --plot, ending in .svg or .png") from error
