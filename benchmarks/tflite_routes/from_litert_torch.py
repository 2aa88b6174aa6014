"""litert-torch and ai-edge-quantizer: edgec's own definition in torch. Same arguments as its neighbours.

One more argument is the file of a torch module that is converted instead of an untrained network.
"""

from __future__ import annotations

import sys

import litert_torch
import numpy as np
import torch
from ai_edge_quantizer import quantizer, recipe

from edgec.pipeline.network import models
from edgec.pipeline.network.models.initialise import initialise, settle_batch_norm
from edgec.pipeline.network.models.spec import NetworkConfig, build_network


def untrained(model: str, input_px: int) -> torch.nn.Module:
    torch.manual_seed(0)
    network = build_network(NetworkConfig(model, padding="torch", num_classes=models.get(model).num_classes))
    initialise(network)
    settle_batch_norm(network, input_px)
    return network


def main(model: str, source: str, images: str, output: str, module: str | None = None) -> None:
    data = np.load(images)
    network = torch.load(module, weights_only=False) if module else untrained(model, data.shape[-1])
    nhwc = litert_torch.to_channel_last_io(network.eval(), args=[0])
    sample = torch.from_numpy(np.ascontiguousarray(data[:1].transpose(0, 2, 3, 1)))
    float_file = f"{output}.float"
    litert_torch.convert(nhwc, (sample,)).export(float_file)
    tool = quantizer.Quantizer(float_file, recipe.static_wi8_ai8())
    signature = [{"args_0": image.transpose(1, 2, 0)[None]} for image in data]
    calibration = tool.calibrate({"serving_default": signature})
    tool.quantize(calibration).export_model(output, overwrite=True)


main(*sys.argv[1:])
