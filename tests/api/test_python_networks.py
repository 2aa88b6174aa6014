"""Networks that a caller holds become the files that a recipe is made from."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from tiny import TINY_PX, tiny_network
from torch import nn

from edgec.pipeline.api.networks import Described, Source, as_file
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.toml_file import read_toml
from edgec.pipeline.forms.ort import OrtRunner

PX = 8


class Answers(nn.Module):
    """A convolution, and what it answers with in many shapes."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.layer = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Dropout(0.5))

    def forward(self, image: torch.Tensor) -> Any:
        found = self.layer(image)
        kinds: dict[str, Any] = {
            "tensor": found,
            "tuple": (found, found.mean((2, 3))),
            "dictionary": {"map": found, "mean": found.mean((2, 3))},
            "nested": (found, (found,)),
            "nothing": None,
        }
        if self.kind == "raises":
            raise RuntimeError("no such thing")
        return kinds[self.kind]


@pytest.mark.parametrize(
    ("kind", "names"),
    [("tensor", ["output"]), ("tuple", ["output_0", "output_1"]), ("dictionary", ["map", "mean"])],
)
def test_a_module_is_traced_as_it_answers(kind: str, names: list[str]) -> None:
    """In evaluation mode, which is taken back: the same numbers with another batch than it was traced with."""
    network = Answers(kind)
    network.layer[0].eval()
    with as_file(network, Described(), PX) as source:
        model = onnx.load(source.model)
        batch = np.random.default_rng(0).normal(0, 1, (3, 3, PX, PX)).astype(np.float32)
        found = OrtRunner(Path(source.model)).predict(batch)
        assert source == Source(source.model, None, "a torch.nn.Module (Answers)")
        assert Path(source.model).name == "answers.onnx"
    assert [value.name for value in model.graph.output] == names
    assert [module.training for module in network.modules()] == [True, True, False, True]
    said = network.eval()(torch.from_numpy(batch))
    expected = [said] if kind == "tensor" else list(said.values() if kind == "dictionary" else said)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other.detach().numpy(), atol=1e-5)
    assert not Path(source.model).exists()


@pytest.mark.parametrize("kind", ["nested", "nothing", "raises"])
def test_a_module_that_cannot_be_traced(kind: str) -> None:
    network = Answers(kind)
    with pytest.raises(EdgecError) as refusal, as_file(network, Described(), PX):
        pass
    assert refusal.value.code == "module-does-not-export"
    assert network.training
    assert network.layer.training


@pytest.mark.parametrize(
    ("preprocess", "shape"),
    [
        ({"crop_px": 16}, [3, 16, 16]),
        ({"height_px": 12, "width_px": 20}, [3, 12, 20]),
        ({"color": "GRAY", "crop_px": 10}, [1, 10, 10]),
        ({"color": "RGBA", "width_px": 10}, [4, PX, 10]),
    ],
)
def test_the_preprocessing_says_the_sides(preprocess: dict[str, Any], shape: list[int]) -> None:
    network = nn.Conv2d(shape[0], 2, 3)
    with as_file(network, Described("sides", preprocess, ("a", "b")), PX) as source:
        told = read_toml(Path(source.model), "bad-toml")
        model = onnx.load(told["onnx"])
    assert [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim[1:]] == shape
    assert told["preprocess"] == preprocess
    assert told["labels"] == ["a", "b"]
    assert Path(source.model).name == "sides.toml"


def test_an_onnx_model_is_written_as_it_is(tmp_path: Path) -> None:
    onnx.save(tiny_network(), tmp_path / "tiny.onnx")
    with as_file(tiny_network(), Described(), None) as source:
        assert Path(source.model).name == "tiny.onnx"
        assert Path(source.model).read_bytes() == (tmp_path / "tiny.onnx").read_bytes()
        assert source.held == "an ONNX model from memory"


def test_a_path_or_a_name_is_itself(tiny_onnx: Path) -> None:
    for given in ("mobilenetv2", tiny_onnx, str(tiny_onnx)):
        with as_file(given, Described(), 96) as source:
            assert source == Source(str(given), 96)
    with as_file(tiny_onnx, Described(labels=("a",)), None) as source:
        assert read_toml(Path(source.model), "bad-toml")["onnx"] == str(tiny_onnx)
        assert Path(source.model).stem == tiny_onnx.stem
    with as_file("net (1).onnx", Described(labels=("a",)), None) as source:  # nobody gave it that name as an argument
        assert Path(source.model).name == "net (1).toml"


@pytest.mark.parametrize(
    ("model", "described", "input_px"),
    [
        (7, Described(), None),
        (nn.Conv2d(3, 2, 3), Described(), None),
        (nn.Conv2d(3, 2, 3), Described(preprocess={"crop_px": "8"}), None),
        (nn.Conv2d(3, 2, 3), Described(preprocess={"color": "CMYK"}), 8),
        ("mobilenetv2", Described(labels=("a",)), None),
        ("my.toml", Described(name="mine"), None),
        (tiny_network(), Described(name="../tiny"), None),
        (tiny_network(), Described(name=".."), None),
        (tiny_network(), Described(preprocess={"mean": [object()]}), None),
    ],
    ids=itertools.count(),
)
def test_what_cannot_be_taken_is_refused(model: Any, described: Described, input_px: int | None) -> None:
    with pytest.raises(EdgecError) as refusal, as_file(model, described, input_px):
        pass
    assert refusal.value.code == "bad-argument"


def test_the_side_of_the_tiny_network_is_its_own() -> None:
    """``input_px`` stays an option where it is not a module's."""
    with as_file(tiny_network(), Described(), TINY_PX) as source:
        assert source.input_px == TINY_PX
