"""The bundled weights load by name, are as accurate as their cards say, and leave room for eight bits."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from edgec.calib_data.splits import LABELS, parts_dir
from edgec.pipeline.data.dataset import Dataset, open_dataset
from edgec.pipeline.network.models import get, names
from edgec.pipeline.network.models.spec import build_network
from edgec.pipeline.network.models.weights import Weights, bundled, load_weights, resolve_weights
from edgec.pipeline.train.objective import objective_of
from edgec.pipeline.train.weights import measured_percent

MODELS = tuple(name for name in names() if bundled(name))


def loaded(model: str) -> tuple[nn.Module, Weights]:
    weights = resolve_weights(None, get(model))
    network = build_network(weights.network_config())
    load_weights(network, weights)
    return network, weights


def some(dataset: Dataset) -> Dataset:
    """Every tenth image."""
    return Dataset(dataset.root, dataset.samples[::10], dataset.classes)


@pytest.mark.parametrize("model", MODELS)
def test_one_set_of_weights_is_the_default(model: str) -> None:
    assert list(bundled(model)) == ["parts"]
    assert resolve_weights(None, get(model)).name == "parts"
    assert resolve_weights(None, get(model)).license == "Apache-2.0"


@pytest.mark.parametrize("model", MODELS)
def test_accuracy_is_what_the_card_says(model: str) -> None:
    """100 of the 1,000 test pictures: within four standard errors of the card's figure."""
    network, weights = loaded(model)
    few = some(open_dataset(parts_dir("test")))
    assert weights.labels == LABELS
    assert weights.accuracy is not None
    assert 90 <= weights.accuracy <= 98
    stated = weights.accuracy / 100
    error = 100 * (stated * (1 - stated) / len(few)) ** 0.5
    found = measured_percent(network, few, weights.preprocess, objective_of(model))
    assert found == pytest.approx(weights.accuracy, abs=4 * error)


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
