"""What every peer starts from: network.pt, float.onnx and images.npy. Arguments: MODEL SAMPLES DATA or '' FOLDER.

torch's own exporter and Pillow, called as edgec calls them: the network, the weights and the pixels are those of its
build. The file is not simplified, and nothing is proven.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from edgec.pipeline.data.dataset import batches
from edgec.pipeline.network.export import export_onnx
from edgec.pipeline.network.models.spec import build_network
from edgec.pipeline.network.models.weights import load_weights
from edgec.pipeline.recipe import Choices, DataFolders, TorchSource, make_recipe


def main(model: str, samples: str, data: str, folder: str) -> None:
    recipe = make_recipe(model, "cpu", DataFolders(Path(data) if data else None), Choices(), int(samples))
    source, output = recipe.source, Path(folder)
    if not isinstance(source, TorchSource):
        raise SystemExit(f"'{model}' is no network of edgec's own")
    network = build_network(source.config)
    load_weights(network, source.weights)
    torch.save(network, output / "network.pt")
    export_onnx(network, recipe.preprocess.shape[1], output / "float.onnx")
    np.save(output / "images.npy", np.concatenate(list(batches(recipe.calibration, recipe.preprocess))))


main(*sys.argv[1:])
