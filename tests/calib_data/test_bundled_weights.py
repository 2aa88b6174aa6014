"""The bundled weights load by name, are as accurate as their cards say, and leave room for eight bits."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from edgec.calib_data.scenes import CLASSES
from edgec.calib_data.splits import LABELS
from edgec.pipeline.data.bundled import bundled_data
from edgec.pipeline.data.dataset import Dataset
from edgec.pipeline.network.models import get, names
from edgec.pipeline.network.models.spec import build_network
from edgec.pipeline.network.models.weights import Weights, bundled, load_weights, resolve_weights
from edgec.pipeline.train.objective import objective_of
from edgec.pipeline.train.weights import measured_percent

MODELS = tuple(name for name in names() if bundled(name))
SEGMENTING = tuple(name for name in MODELS if get(name).task == "segmentation")
CLASSIFYING = tuple(name for name in MODELS if name not in SEGMENTING)
NOT_TRAINED_OUT = {"deeplabv3plus-xception65": 65}
"""At a quarter of its width, from a backbone that saw pictures of 96 px; its mIoU still rose (docs/segmentation.md)."""


def loaded(model: str) -> tuple[nn.Module, Weights]:
    weights = resolve_weights(None, get(model))
    network = build_network(weights.network_config())
    load_weights(network, weights)
    return network, weights


def some(dataset: Dataset) -> Dataset:
    """Every tenth image."""
    return replace(dataset, samples=dataset.samples[::10])


@pytest.mark.parametrize("model", MODELS)
def test_one_set_of_weights_is_the_default(model: str) -> None:
    expected = "scenes" if model in SEGMENTING else "parts"
    assert list(bundled(model)) == [expected]
    assert resolve_weights(None, get(model)).name == expected
    assert resolve_weights(None, get(model)).license == "Apache-2.0"


@pytest.mark.parametrize("model", CLASSIFYING)
def test_accuracy_is_what_the_card_says(model: str) -> None:
    """100 of the 1,000 test pictures: within four standard errors of the card's figure."""
    network, weights = loaded(model)
    few = some(bundled_data(get(model).task)[1])
    assert weights.labels == LABELS
    assert weights.accuracy is not None
    assert 90 <= weights.accuracy <= 98
    stated = weights.accuracy / 100
    error = 100 * (stated * (1 - stated) / len(few)) ** 0.5
    found = measured_percent(network, few, weights.preprocess, objective_of(model))
    assert found == pytest.approx(weights.accuracy, abs=4 * error)


@pytest.mark.parametrize("model", SEGMENTING)
def test_miou_is_what_the_card_says(model: str) -> None:
    """24 of the 240 scenes; how far the mIoU of so few lies from that of all is known from other draws of 24."""
    network, weights = loaded(model)
    _, test = bundled_data(get(model).task)
    assert weights.labels == CLASSES
    assert weights.accuracy is not None
    assert NOT_TRAINED_OUT.get(model, 75) <= weights.accuracy <= 90
    found = measured_percent(network, some(test), weights.preprocess, objective_of(model))
    assert found == pytest.approx(weights.accuracy, abs=8)


@pytest.mark.parametrize("model", MODELS)
def test_stored_in_half_precision(model: str) -> None:
    path = Path(resolve_weights(None, get(model)).path or "")
    assert {tensor.dtype for tensor in load_file(path).values() if tensor.ndim > 1} == {torch.float16}
    assert path.stat().st_size < 45e6


@pytest.mark.parametrize("model", MODELS)
def test_batch_norm_neither_explodes_nor_dies(model: str) -> None:
    network, _ = loaded(model)
    for norm in (module for module in network.modules() if isinstance(module, nn.BatchNorm2d)):
        assert norm.weight.abs().max() < 8
        assert norm.running_var.min() > 0
