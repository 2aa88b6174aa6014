"""Training on masks: the same loop; picture and mask move together, void teaches and judges nothing."""

from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import nn

from edgec.calib_data import scenes
from edgec.pipeline.cli.train import command
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.data.dataset import Dataset
from edgec.pipeline.data.masks import VOID
from edgec.pipeline.network import models
from edgec.pipeline.network.models.cards import read_card
from edgec.pipeline.network.models.weights import resolve_weights
from edgec.pipeline.train.augment import Augment, augmented
from edgec.pipeline.train.curve import Epoch
from edgec.pipeline.train.data import TrainingData, folder_data, scenes_data
from edgec.pipeline.train.objective import (
    CLASSIFICATION,
    SEGMENTATION,
    class_counts,
    loss_of,
    mean_iou,
)
from edgec.pipeline.train.pictures import read_pictures
from edgec.pipeline.train.recipe import Phase, TrainingRecipe
from edgec.pipeline.train.train import Trained, train

RECIPE = TrainingRecipe(
    phases=(Phase(32, 3, 0.02), Phase(48, 2, 0.01)), batch_size=4, class_balance=0.5, ema_decay=0.9, patience=3
)
CLASSES = ("floor", "red", "blue")


class Dense(nn.Sequential):
    """Logits for each pixel, at half the size and back."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__(
            OrderedDict(
                conv=nn.Conv2d(3, 8, 3, 2, 1, bias=False),
                bn=nn.BatchNorm2d(8),
                act=nn.ReLU(),
                classifier=nn.Conv2d(8, 3, 1),
                up=nn.Upsample(scale_factor=2.0, mode="bilinear"),
            )
        )


def write_scene(root: Path, split: str, index: int) -> None:
    """A red and a blue square on grey noise, and a void border around each."""
    random = np.random.default_rng((index, len(split)))
    pixels = random.integers(60, 140, (48, 48, 3), np.uint8)
    mask = np.zeros((48, 48), np.uint8)
    for kind, channel in ((1, 0), (2, 2)):
        x, y = random.integers(0, 24, 2) + (0 if kind == 1 else 1)
        mask[y : y + 20, x : x + 20] = VOID
        mask[y + 1 : y + 19, x + 1 : x + 19] = kind
        pixels[y : y + 20, x : x + 20] //= 2
        pixels[y : y + 20, x : x + 20, channel] += 100
    Image.fromarray(pixels).save(root / "images" / split / f"{index}.png")
    Image.fromarray(mask).save(root / "masks" / split / f"{index}.png")


@pytest.fixture(scope="session")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("squares")
    for split, count in (("train", 12), ("val", 4), ("test", 4)):
        for kind in ("images", "masks"):
            (root / kind / split).mkdir(parents=True)
        for index in range(count):
            write_scene(root, split, index)
    (root / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    return root


@pytest.fixture(scope="session")
def data(squares: Path) -> TrainingData:
    return folder_data(squares, seed=0)


def run(data: TrainingData, **more: object) -> Trained:
    return train(Dense(), data.training, data.validation, RECIPE, objective=SEGMENTATION, **more)


def equal(first: Trained, second: Trained) -> bool:
    states = (trained.network.state_dict().values() for trained in (first, second))
    return first.curve == second.curve and all(torch.equal(a, b) for a, b in zip(*states, strict=True))


def test_learns_masks(data: TrainingData) -> None:
    curve = run(data).curve
    assert curve[-1].loss < 0.7 * curve[0].loss
    assert curve[-1].figure > 70 > curve[0].figure


@pytest.mark.parametrize("done", [1, 3])
def test_resumed_run_equals_an_uninterrupted_one_bit_for_bit(data: TrainingData, tmp_path: Path, done: int) -> None:
    def stop(epoch: Epoch) -> None:
        if epoch.number == done:
            raise KeyboardInterrupt

    whole = run(data)
    with pytest.raises(KeyboardInterrupt):
        run(data, checkpoint=tmp_path / "run.checkpoint", on_epoch=stop)
    assert equal(whole, run(data, checkpoint=tmp_path / "run.checkpoint"))


def test_mask_goes_the_way_of_its_picture() -> None:
    """A picture that shows its own mask: wherever no two classes mix, the warped two still say the same."""
    masks = torch.zeros(32, 24, 24, dtype=torch.uint8)
    masks[:, 4:14, 6:20] = 1
    masks[:, 16:22, 2:9] = VOID
    pictures = masks.float()[:, None].expand(-1, 3, -1, -1)
    augment = Augment(rotation_deg=180, zoom=(0.7, 1.4), shift=0.2, vertical_flip=True, brightness=0, contrast=0)
    changed, moved = augmented(pictures, masks, augment, torch.Generator().manual_seed(0))
    for value in (0, 1, VOID):
        pure = (changed[:, 0] - value).abs() < 1e-3
        assert pure.any()
        assert (moved[pure] == value).all()
    assert moved.dtype == torch.uint8
    assert not torch.equal(moved, masks)
    assert {*moved.unique().tolist()} == {0, 1, VOID}


def test_classes_of_whole_pictures_stay_as_they_are() -> None:
    labels = torch.arange(4)
    _, same = augmented(torch.zeros(4, 3, 8, 8), labels, Augment(), torch.Generator().manual_seed(0))
    assert torch.equal(same, labels)


def test_void_pixels_do_not_teach() -> None:
    logits = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    truth = torch.full((2, 4, 4), VOID, dtype=torch.uint8)
    truth[0, 1, 2], truth[1, 3, 0] = 2, 1
    loss = loss_of(logits, truth, None, 0.0)
    by_hand = [-torch.log_softmax(logits[n, :, y, x], 0)[label] for n, y, x, label in ((0, 1, 2, 2), (1, 3, 0, 1))]
    assert loss.item() == pytest.approx(sum(value.item() for value in by_hand) / 2, rel=1e-5)
    loss.backward()
    assert logits.grad.abs().sum(dim=1).nonzero().tolist() == [[0, 1, 2], [1, 3, 0]]
    assert class_counts(truth).tolist() == [0, 1, 1]


def test_batch_of_void_alone_has_no_loss() -> None:
    logits = torch.randn(1, 3, 2, 2, requires_grad=True)
    assert loss_of(logits, torch.full((1, 2, 2), VOID, dtype=torch.uint8), None, 0.1).item() == 0.0


def test_class_255_of_whole_pictures_is_a_class() -> None:
    logits = torch.zeros(1, 300)
    assert loss_of(logits, torch.tensor([VOID]), None, 0.0).item() == pytest.approx(np.log(300))
    assert CLASSIFICATION.figure([(np.array([VOID]), np.eye(300, dtype=np.float32)[[VOID]])]) == 100


def says(classes: list[list[list[int]]]) -> np.ndarray:
    """Logits of three classes that answer so."""
    return np.moveaxis(np.eye(3, dtype=np.float32)[np.array(classes)], -1, 1)


def test_mean_iou_by_hand() -> None:
    """Two batches count as one: 2/4 and 3/5 of two classes; void left out, and a class that the truth lacks."""
    first = (np.array([[[0, 0, 1]]]), says([[[0, 1, 1]]]))
    second = (np.array([[[0, 1, 1, 1, VOID]]]), says([[[0, 1, 0, 1, 2]]]))
    assert mean_iou([first, second]) == pytest.approx(100 * (2 / 4 + 3 / 5) / 2)
    assert mean_iou([first]) == pytest.approx(100 * (1 / 2 + 1 / 2) / 2)


def test_pictures_have_their_masks(data: TrainingData) -> None:
    pictures = read_pictures(data.training, 32, SEGMENTATION)
    assert (pictures.truth.shape, pictures.truth.dtype) == ((12, 32, 32), torch.uint8)
    assert data.num_classes == 3
    assert {*pictures.truth.unique().tolist()} == {0, 1, 2, VOID}


def test_command_trains_a_segmenting_network(squares: Path, tmp_path: Path) -> None:
    model, output = "deeplabv3plus-mobilenetv2", tmp_path / "squares.safetensors"
    options = f"--px 32 --epochs 1 --learning-rate 3e-3 --batch-size 4 --width-multiplier 0.1 --data {squares}"
    result = CliRunner().invoke(command, [model, *options.split(), "--output", str(output)])
    assert result.exit_code == 0, result.output
    assert "validation mIoU" in result.output
    card = read_card(output.with_suffix(".toml"))
    assert (card.labels, card.num_classes, card.preprocess.crop_px) == (CLASSES, 3, 32)
    assert "float mIoU of these half-precision weights on 4 test images" in (card.source or "")
    weights = resolve_weights(str(output.with_suffix(".toml")), models.get(model))
    assert weights.network_config().width_multiplier == 0.1


def test_scenes_are_drawn_for_a_segmenting_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenes, "NUM_SCENES", {"train": 4, "val": 1, "test": 1, "calibration": 1})
    one_process = scenes.write_scenes
    monkeypatch.setattr(scenes, "write_scenes", lambda *words, progress=None: one_process(*words, processes=1))
    drawn = scenes_data(tmp_path, 2)
    assert [len(part) for part in (drawn.training, drawn.validation, drawn.test or ())] == [2, 1, 1]
    assert (drawn.num_classes, drawn.license) == (8, "Apache-2.0")
    assert scenes_data(tmp_path, 2).training.samples == drawn.training.samples
    assert [path.name for path in next(tmp_path.glob("scenes-*")).iterdir()] == ["train-2"]


def unmasked(colours: Dataset, data: TrainingData) -> None:
    train(Dense(), colours, colours, RECIPE, objective=SEGMENTATION)


def unlabelled(colours: Dataset, data: TrainingData) -> None:
    train(Dense(), data.training, data.validation, RECIPE)


def more_than_named(colours: Dataset, data: TrainingData) -> None:
    short = [replace(part, classes=CLASSES[:2]) for part in (data.training, data.validation)]
    TrainingData("squares", *short, None).check()


def untaught(colours: Dataset, data: TrainingData) -> None:
    few = replace(data.training, samples=data.training.samples[:4])
    table = (0, 0, 2)
    TrainingData("squares", replace(few, coding=replace(few.coding, classes=table)), data.validation, None).check()


@pytest.mark.parametrize(
    ("code", "provoke"),
    [
        ("unlabelled-data", unmasked),
        ("unlabelled-data", unlabelled),
        ("class-mismatch", more_than_named),
        ("class-mismatch", untaught),
    ],
)
def test_refusals(code: str, provoke, colours: Dataset, data: TrainingData) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(EdgecError) as refusal:
        provoke(colours, data)
    assert refusal.value.code == code
