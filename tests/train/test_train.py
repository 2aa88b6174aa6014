"""Training: reproducible, resumable, kind to depthwise layers, and clear about what cannot be trained on."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from edgec.pipeline.cli.train import command
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.data.dataset import Dataset, open_dataset
from edgec.pipeline.network.models.cards import read_card
from edgec.pipeline.network.models.spec import NetworkConfig, build_network
from edgec.pipeline.network.models.weights import load_weights, resolve_weights
from edgec.pipeline.train import train as training
from edgec.pipeline.train.augment import Augment, augmented, random_affine
from edgec.pipeline.train.batch_norm import measure_batch_norm
from edgec.pipeline.train.curve import Epoch
from edgec.pipeline.train.data import TrainingData, folder_data
from edgec.pipeline.train.objective import CLASSIFICATION
from edgec.pipeline.train.pictures import read_pictures
from edgec.pipeline.train.recipe import Phase, TrainingRecipe
from edgec.pipeline.train.save_weights import half_precision, save_weights
from edgec.pipeline.train.train import Trained, parameter_groups, train
from edgec.pipeline.train.weights import begin, train_weights

STILL = Augment(rotation_deg=0, zoom=(1, 1), shift=0, brightness=0, contrast=0)
TINY = TrainingRecipe(phases=(Phase(32, 2, 0.01), Phase(40, 1, 0.005)), batch_size=8, warmup_epochs=0.5)


class Tiny(nn.Sequential):
    """Every kind of layer that training treats differently, dropout included."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__(
            nn.Conv2d(3, 8, 3, 2, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, groups=8, bias=False),
            nn.Conv2d(8, 8, 1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(8, 2),
        )


def weights_of(network: nn.Module) -> list[torch.Tensor]:
    return [tensor.clone() for tensor in network.state_dict().values()]


def equal(first: Trained, second: Trained) -> bool:
    pairs = zip(weights_of(first.network), weights_of(second.network), strict=True)
    return first.curve == second.curve and all(torch.equal(a, b) for a, b in pairs)


def stop_after(epoch_number: int) -> Callable[[Epoch], None]:
    def on_epoch(epoch: Epoch) -> None:
        if epoch.number == epoch_number:
            raise KeyboardInterrupt

    return on_epoch


def test_learns_and_reports_each_epoch(colours: Dataset) -> None:
    epochs: list[Epoch] = []
    batches: list[tuple[int, int]] = []
    train(Tiny(), colours, colours, TINY, None, lambda *counts: batches.append(counts), epochs.append)
    assert [(epoch.number, epoch.px) for epoch in epochs] == [(1, 32), (2, 32), (3, 40)]
    assert epochs[-1].loss < epochs[0].loss
    assert epochs[-1].figure == 100
    assert batches[-1] == (12, 12)


@pytest.mark.parametrize("done", [1, 2])
def test_resumed_run_equals_an_uninterrupted_one_bit_for_bit(colours: Dataset, tmp_path: Path, done: int) -> None:
    whole = train(Tiny(), colours, colours, TINY)
    checkpoint = tmp_path / "run.checkpoint"
    with pytest.raises(KeyboardInterrupt):
        train(Tiny(), colours, colours, TINY, checkpoint, on_epoch=stop_after(done))
    seen: list[Epoch] = []
    resumed = train(Tiny(), colours, colours, TINY, checkpoint, on_epoch=seen.append)
    assert [epoch.number for epoch in seen] == [1, 2, 3][done:]
    assert equal(whole, resumed)


def test_finished_run_resumes_to_its_result(colours: Dataset, tmp_path: Path) -> None:
    checkpoint = tmp_path / "run.checkpoint"
    whole = train(Tiny(), colours, colours, TINY, checkpoint)
    assert equal(whole, train(Tiny(), colours, colours, TINY, checkpoint))


def test_seed_decides_the_run(colours: Dataset) -> None:
    other = TrainingRecipe(**{**vars(TINY), "seed": 1})
    assert equal(train(Tiny(), colours, colours, TINY), train(Tiny(), colours, colours, TINY))
    assert not equal(train(Tiny(), colours, colours, TINY), train(Tiny(), colours, colours, other))


def test_checkpoint_is_replaced_whole(colours: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run killed while it writes leaves the previous checkpoint as it was."""
    checkpoint = tmp_path / "run.checkpoint"
    run = training.Run(Tiny(), TINY)
    run.save(checkpoint)
    before = checkpoint.read_bytes()

    def torn(state: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", torn)
    with pytest.raises(KeyboardInterrupt):
        run.save(checkpoint)
    assert checkpoint.read_bytes() == before


def test_only_dense_and_pointwise_weights_decay() -> None:
    network = Tiny()
    decay, keep = parameter_groups(network, 0.05)
    named = {id(parameter): name for name, parameter in network.named_parameters()}
    assert {named[id(parameter)] for parameter in decay["params"]} == {"0.weight", "4.weight", "8.weight"}
    assert {named[id(parameter)] for parameter in keep["params"]} == {
        "1.weight",
        "1.bias",
        "3.weight",
        "4.bias",
        "8.bias",
    }
    assert (decay["weight_decay"], keep["weight_decay"]) == (0.05, 0.0)


def test_every_parameter_of_a_real_network_is_in_one_group() -> None:
    network = build_network(NetworkConfig("mobilenetv3-small", num_classes=4))
    groups = parameter_groups(network, 0.05)
    assert sum(len(group["params"]) for group in groups) == len(list(network.parameters()))


def test_learning_rate_warms_up_and_anneals_to_zero_in_every_phase() -> None:
    recipe = TrainingRecipe(phases=(Phase(32, 9, 0.1), Phase(64, 1, 0.02)), warmup_epochs=1.0)
    rates = [recipe.learning_rate_at(epoch) for epoch in (0.0, 0.5, 1.0, 5.0, 8.999, 9.25, 9.5, 9.75, 10.0)]
    assert rates == pytest.approx([0.0, 0.05, 0.1, 0.05, 0.0, 0.01, 0.02, 0.01, 0.0], abs=1e-6)
    assert [recipe.phase_at(epoch)[0].px for epoch in (0, 8, 9)] == [32, 32, 64]


def test_batch_norm_is_measured_on_the_pictures(colours: Dataset) -> None:
    network = Tiny()
    pictures = read_pictures(colours, 32, CLASSIFICATION)
    measure_batch_norm(network, pictures)
    expected = network[0](pictures.inputs(torch.arange(32)))
    assert torch.allclose(network[1].running_mean, expected.mean(dim=(0, 2, 3)), atol=1e-5)
    assert torch.allclose(network[1].running_var, expected.var(dim=(0, 2, 3)), rtol=1e-3)
    assert network[1].momentum == 0.1


def test_average_follows_with_its_decay() -> None:
    average, network = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    nn.init.constant_(average.weight, 1.0)
    nn.init.constant_(network.weight, 3.0)
    training.update_average(average.requires_grad_(False), network, 0.75)
    assert average.weight.item() == pytest.approx(1.5)


def test_no_augmentation_changes_nothing_but_mirrors() -> None:
    batch = torch.randn(16, 3, 8, 8)
    changed = augmented(batch, torch.zeros(16), STILL, torch.Generator().manual_seed(0))[0]
    for before, after in zip(batch, changed, strict=True):
        assert torch.allclose(after, before, atol=1e-5) or torch.allclose(after, before.flip(-1), atol=1e-5)
    assert not torch.allclose(changed, batch, atol=1e-5)


@pytest.mark.parametrize("vertical", [False, True])
def test_affine_matrices_rotate_zoom_and_mirror(vertical: bool) -> None:
    augment = Augment(rotation_deg=30, zoom=(2.0, 2.0), shift=0.1, vertical_flip=vertical)
    matrices = random_affine(200, augment, torch.Generator().manual_seed(0))
    determinant = torch.linalg.det(matrices[:, :, :2])
    assert torch.allclose(determinant.abs(), torch.full((200,), 0.25), atol=1e-5)
    assert (determinant < 0).any()
    assert matrices[:, :, 2].abs().max() <= 0.2
    assert bool((matrices[:, 1, 1] < 0).any()) is vertical


def test_stored_weights_are_half_precision_where_it_is_safe(tmp_path: Path) -> None:
    network = Tiny()
    network[1].running_var.fill_(1e6)
    kinds = {tensor.dtype for name, tensor in half_precision(network).items() if tensor.ndim > 1}
    assert kinds == {torch.float16}
    save_weights(network, tmp_path / "tiny.safetensors")
    assert network[1].running_var[0] == 1e6
    assert torch.equal(network[0].weight, network[0].weight.half().float())
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.safetensors"]


def test_trained_weights_load_by_their_card(colours: Dataset, tmp_path: Path) -> None:
    config = NetworkConfig("mobilenetv3-small", width_multiplier=0.35, input_px=32, num_classes=2)
    recipe = TrainingRecipe(phases=(Phase(32, 1, 0.003),), batch_size=8)
    data = TrainingData("colours", colours, colours, colours, license="CC0-1.0")
    output = tmp_path / "out" / "colours.safetensors"
    card, _ = train_weights(begin(config, None, (), 0), data, recipe, output)
    assert read_card(output.with_suffix(".toml")) == card
    assert (card.labels, card.license, card.names) == (("blue", "red"), "CC0-1.0", "edgec")
    assert "32 test images" in (card.source or "")
    from edgec.pipeline.network import models

    weights = resolve_weights(str(output.with_suffix(".toml")), models.get("mobilenetv3-small"))
    load_weights(build_network(weights.network_config()), weights)
    assert sorted(path.name for path in output.parent.iterdir()) == ["colours.safetensors", "colours.toml"]


def test_training_starts_from_given_weights(colours: Dataset, tmp_path: Path) -> None:
    """At a learning rate of nearly nothing the weights come out as they went in."""
    options = f"--px 32 --batch-size 8 --width-multiplier 0.35 --data {colours.root}".split()
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    for output, more in (
        (first, ["--learning-rate", "0.003"]),
        (second, ["--weights", str(first), "--learning-rate", "1e-12"]),
    ):
        arguments = ["mobilenetv3-small", *options, "--epochs", "1", *more, "--output", str(output)]
        result = CliRunner().invoke(command, arguments)
        assert result.exit_code == 0, result.output
    weights = [load_file(path)["stem.conv.weight"] for path in (first, second)]
    assert torch.equal(*weights)
    assert "started from first.safetensors" in second.with_suffix(".toml").read_text()
    assert "started from scratch" in first.with_suffix(".toml").read_text()


def test_folder_is_split_as_it_asks_to_be(colours: Dataset, tmp_path: Path) -> None:
    held_out = folder_data(colours.root, seed=0)
    assert (len(held_out.training), len(held_out.validation), held_out.test) == (29, 3, None)
    assert not set(held_out.training.samples) & set(held_out.validation.samples)
    for name in ("train", "val", "test"):
        shutil.copytree(colours.root, tmp_path / name)
    split = folder_data(tmp_path, seed=0)
    assert [len(part or ()) for part in (split.training, split.validation, split.test)] == [32, 32, 32]


def test_command_trains_on_a_folder(colours: Dataset, tmp_path: Path) -> None:
    output = tmp_path / "net.safetensors"
    options = {
        "--data": str(colours.root),
        "--px": "32",
        "--epochs": "1",
        "--learning-rate": "0.003",
        "--batch-size": "8",
        "--width-multiplier": "0.35",
        "--output": str(output),
    }
    words = [word for option in options.items() for word in option]
    result = CliRunner().invoke(command, ["mobilenetv3-small", *words])
    assert result.exit_code == 0, result.output
    assert "validation top-1" in result.output
    assert output.is_file()


@pytest.mark.parametrize(
    "options", [["--epochs", "1,2"], ["--px", "16"], ["--epochs", "x"], ["--learning-rate", "0,x"]]
)
def test_wrong_phases_are_usage_errors(options: list[str]) -> None:
    assert CliRunner().invoke(command, ["mobilenetv3-small", *options]).exit_code == 2


def unlabelled(colours: Dataset, tmp_path: Path) -> None:
    train(Tiny(), open_dataset(colours.root / "red"), colours, TINY)


def diverging(colours: Dataset, tmp_path: Path) -> None:
    network = Tiny()
    nn.init.constant_(network[8].bias, math.inf)
    train(network, colours, colours, TINY)


def damaged_checkpoint(colours: Dataset, tmp_path: Path) -> None:
    (tmp_path / "run.checkpoint").write_bytes(b"half")
    train(Tiny(), colours, colours, TINY, tmp_path / "run.checkpoint")


def foreign_checkpoint(colours: Dataset, tmp_path: Path) -> None:
    (tmp_path / "run.checkpoint").write_bytes(b"not a checkpoint of torch" * 9)
    train(Tiny(), colours, colours, TINY, tmp_path / "run.checkpoint")


def checkpoint_of_another_run(colours: Dataset, tmp_path: Path) -> None:
    training.Run(Tiny(), TrainingRecipe(**{**vars(TINY), "weight_decay": 0.5})).save(tmp_path / "run.checkpoint")
    train(Tiny(), colours, colours, TINY, tmp_path / "run.checkpoint")


def checkpoint_of_another_network(colours: Dataset, tmp_path: Path) -> None:
    training.Run(nn.Linear(2, 2), TINY).save(tmp_path / "run.checkpoint")
    train(Tiny(), colours, colours, TINY, tmp_path / "run.checkpoint")


def unfinished(colours: Dataset, tmp_path: Path) -> None:
    (tmp_path / "net.checkpoint").touch()
    data = TrainingData("colours", colours, colours, None)
    train_weights(begin(NetworkConfig("mobilenetv3-small"), None, (), 0), data, TINY, tmp_path / "net.safetensors")


def another_class(colours: Dataset, tmp_path: Path) -> None:
    green = Dataset(colours.root, colours.samples, ("green", "red"))
    data = TrainingData("colours", colours, green, None)
    train_weights(begin(NetworkConfig("mobilenetv3-small"), None, (), 0), data, TINY, tmp_path / "net.safetensors")


def too_few(colours: Dataset, tmp_path: Path) -> None:
    Image.new("RGB", (40, 40)).save(tmp_path / "one.png")
    folder_data(tmp_path, seed=0)


@pytest.mark.parametrize(
    ("code", "provoke"),
    [
        ("unlabelled-data", unlabelled),
        ("training-diverged", diverging),
        ("bad-checkpoint", damaged_checkpoint),
        ("bad-checkpoint", foreign_checkpoint),
        ("bad-checkpoint", checkpoint_of_another_run),
        ("bad-checkpoint", checkpoint_of_another_network),
        ("unfinished-run", unfinished),
        ("class-mismatch", another_class),
        ("empty-data", too_few),
    ],
)
def test_refusals(code: str, provoke: Callable[[Dataset, Path], None], colours: Dataset, tmp_path: Path) -> None:
    with pytest.raises(EdgecError) as refusal:
        provoke(colours, tmp_path)
    assert refusal.value.code == code
