"""Training on a GPU: found or refused, with what a CPU computes, and a checkpoint that either can continue."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from test_train import STILL, TINY, Tiny, stop_after

from edgec.pipeline.cli.train import command
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.data.dataset import Dataset
from edgec.pipeline.train.device import device_name, find_device
from edgec.pipeline.train.recipe import Phase, TrainingRecipe
from edgec.pipeline.train.train import train

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("wanted", "has_gpu", "found"), [("auto", False, "cpu"), ("auto", True, "cuda"), ("cpu", True, "cpu")]
)
def test_the_device_that_is_asked_for(wanted: str, has_gpu: bool, found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    assert find_device(wanted).type == found


def test_a_gpu_that_is_not_there_is_refused_before_any_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    words = ["mobilenetv3-small", "--device", "cuda", "--output", str(tmp_path / "a.safetensors")]
    refusal = CliRunner().invoke(command, words).exception
    assert isinstance(refusal, EdgecError)
    assert refusal.code == "missing-gpu"
    assert not list(tmp_path.iterdir())


def test_the_card_names_what_computed() -> None:
    assert device_name(CPU) == f"CPU, {torch.get_num_threads()} threads"


@pytest.fixture
def gpu() -> torch.device:
    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU")
    return torch.device("cuda")


def test_a_gpu_computes_what_a_cpu_does(gpu: torch.device, colours: Dataset) -> None:
    """One step only: rounding differs, and steps enlarge it."""
    recipe = TrainingRecipe(phases=(Phase(32, 1, 1e-4),), batch_size=32, augment=STILL)
    here, there = (train(Tiny().eval(), colours, colours, recipe, device=device) for device in (CPU, gpu))
    assert there.curve[0].loss == pytest.approx(here.curve[0].loss, rel=0.05)  # dropout draws from another generator
    assert {tensor.device.type for tensor in there.network.state_dict().values()} == {"cpu"}


def test_a_run_goes_on_from_gpu_to_cpu_and_back(gpu: torch.device, colours: Dataset, tmp_path: Path) -> None:
    checkpoint = tmp_path / "run.checkpoint"
    for number, device in ((1, gpu), (2, CPU)):
        with pytest.raises(KeyboardInterrupt):
            train(Tiny(), colours, colours, TINY, checkpoint, on_epoch=stop_after(number), device=device)
    done = train(Tiny(), colours, colours, TINY, checkpoint, device=gpu)
    assert [epoch.number for epoch in done.curve] == [1, 2, 3]
    assert done.curve[-1].figure == 100
