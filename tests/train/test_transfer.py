"""Transfer: a new head where the classes differ, the head first, and nothing of the backbone lost on the way."""

from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file
from torch import nn

from edgec.pipeline.bundle.records import read_training
from edgec.pipeline.cli import main
from edgec.pipeline.cli.train import command, with_head
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.data.dataset import Dataset, batches
from edgec.pipeline.data.preprocess import Preprocess
from edgec.pipeline.network import models
from edgec.pipeline.network.models.cards import read_card
from edgec.pipeline.network.models.spec import NetworkConfig, build_network
from edgec.pipeline.network.models.weights import Weights, load_fitting, resolve_weights
from edgec.pipeline.train.batch_norm import restate_batch_norm
from edgec.pipeline.train.curve import Epoch, plot_curve
from edgec.pipeline.train.objective import (
    CLASSIFICATION,
    class_counts,
    class_weights,
    loss_of,
    objective_of,
)
from edgec.pipeline.train.pictures import at_size, read_pictures
from edgec.pipeline.train.recipe import Phase, TrainingRecipe
from edgec.pipeline.train.train import Run, Trained, train
from edgec.pipeline.train.weights import begin

MODEL = "mobilenetv3-small"
SMALL = NetworkConfig(MODEL, width_multiplier=0.35, input_px=32, num_classes=2)
HEAD_FIRST = TrainingRecipe(
    phases=(Phase(32, 2, 0.01, head_only=True), Phase(32, 3, 0.005)),
    batch_size=8,
    class_balance=0.5,
    patience=2,
    is_pretrained=True,
)


class Small(nn.Sequential):
    """A stem with batch norm, dropout, a classifier; folded, as published 8-bit weights are."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__(
            OrderedDict(
                conv=nn.Conv2d(3, 8, 3, 2, bias=False),
                bn=nn.BatchNorm2d(8),
                act=nn.ReLU(),
                pool=nn.AdaptiveAvgPool2d(1),
                flatten=nn.Flatten(),
                dropout=nn.Dropout(0.2),
                classifier=nn.Linear(8, 2),
            )
        )


@pytest.fixture
def thousand(tmp_path: Path) -> Path:
    """Weights of the small network with 1,000 classes."""
    torch.manual_seed(3)
    network = build_network(replace(SMALL, num_classes=1000))
    save_file(network.state_dict(), tmp_path / "thousand.safetensors")
    return tmp_path / "thousand.safetensors"


def backbone(network: nn.Module) -> dict[str, bytes]:
    return {
        name: tensor.numpy().tobytes()
        for name, tensor in network.state_dict().items()
        if not name.startswith("classifier.")
    }


def equal(first: Trained, second: Trained) -> bool:
    states = (trained.network.state_dict() for trained in (first, second))
    pairs = zip(*(state.values() for state in states), strict=True)
    return first.curve == second.curve and all(torch.equal(a, b) for a, b in pairs)


def test_weights_of_other_classes_fill_all_but_the_classifier(thousand: Path) -> None:
    network = build_network(SMALL)
    fresh = network.get_submodule("classifier").weight.clone()
    assert load_fitting(network, resolve_weights(str(thousand), models.get(MODEL))) is True
    stored = load_file(thousand)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, fresh) if name == "classifier.weight" else True
        assert name.startswith("classifier.") or torch.equal(tensor, stored[name])


def test_weights_of_the_same_classes_keep_the_classifier_unless_it_means_others(tmp_path: Path) -> None:
    original = build_network(SMALL)
    save_file(original.state_dict(), tmp_path / "same.safetensors")
    weights = resolve_weights(str(tmp_path / "same.safetensors"), models.get(MODEL))
    for with_classifier in (True, False):
        network = build_network(SMALL)
        assert load_fitting(network, weights, with_classifier=with_classifier) is not with_classifier
        same = torch.equal(network.state_dict()["classifier.weight"], original.state_dict()["classifier.weight"])
        assert same is with_classifier


def test_weights_without_a_classifier_get_one(thousand: Path) -> None:
    state = {name: tensor for name, tensor in load_file(thousand).items() if not name.startswith("classifier.")}
    save_file(state, thousand)
    assert load_fitting(build_network(SMALL), resolve_weights(str(thousand), models.get(MODEL))) is True


def test_weights_that_differ_elsewhere_are_refused(thousand: Path) -> None:
    with pytest.raises(EdgecError) as refusal:
        load_fitting(
            build_network(replace(SMALL, width_multiplier=0.5)), resolve_weights(str(thousand), models.get(MODEL))
        )
    assert refusal.value.code == "weights-mismatch"
    assert "classifier" not in refusal.value.message


def test_head_phase_leaves_every_byte_of_the_backbone(colours: Dataset) -> None:
    network = build_network(SMALL)
    before, head = backbone(network), network.state_dict()["classifier.weight"].clone()
    trained = train(network, colours, colours, replace(HEAD_FIRST, phases=HEAD_FIRST.phases[:1])).network
    assert backbone(trained) == backbone(network) == before
    assert not torch.equal(trained.state_dict()["classifier.weight"], head)


def test_all_layers_learn_after_the_head(colours: Dataset) -> None:
    network = Small()
    before = backbone(network)
    trained = train(network, colours, colours, replace(HEAD_FIRST, patience=None))
    after = backbone(trained.network)
    assert [name for name in before if before[name] == after[name]] == []
    assert [epoch.head_only for epoch in trained.curve] == [True, True, False, False, False]


@pytest.mark.parametrize("done", [1, 2, 3])
def test_resumed_transfer_equals_an_uninterrupted_one_bit_for_bit(colours: Dataset, tmp_path: Path, done: int) -> None:
    """Interrupted in the head's phase, between both, and behind the change of batch norm."""

    def stop(epoch: Epoch) -> None:
        if epoch.number == done:
            raise KeyboardInterrupt

    whole = train(Small(), colours, colours, HEAD_FIRST)
    with pytest.raises(KeyboardInterrupt):
        train(Small(), colours, colours, HEAD_FIRST, tmp_path / "run.checkpoint", on_epoch=stop)
    assert equal(whole, train(Small(), colours, colours, HEAD_FIRST, tmp_path / "run.checkpoint"))


def test_restated_batch_norm_computes_the_same_and_now_also_in_training(colours: Dataset) -> None:
    network = Small()
    with torch.no_grad():
        network.conv.weight *= 7  # far from what the statistics state
        network.bn.bias += 0.5
    pictures = read_pictures(colours, 32, CLASSIFICATION)
    inputs = pictures.inputs(torch.arange(32))
    network.eval()
    before = network(inputs)
    restate_batch_norm(network, pictures)
    assert torch.allclose(network(inputs), before, rtol=1e-4, atol=1e-5)
    seen = network.conv(inputs)
    assert torch.allclose(network.bn.running_var, seen.var(dim=(0, 2, 3), correction=0), rtol=1e-4)
    network.train()
    network.dropout.eval()
    assert torch.allclose(network(inputs), before, rtol=1e-3, atol=1e-4)


def noted(figures: list[float], px: list[int] | None = None) -> Run:
    recipe = replace(HEAD_FIRST, phases=(Phase(32, 6, 0.01), Phase(40, 6, 0.01)), patience=2)
    run = Run(Small(), recipe)
    for figure in figures:
        nn.init.constant_(run.average.classifier.bias, figure)
        run.add(Epoch(run.next_epoch + 1, recipe.phase_at(run.next_epoch)[0].px, 0.1, figure))
    return run


@pytest.mark.parametrize(
    ("figures", "next_epoch"),
    [
        ([], 0),
        ([10], 1),
        ([10, 20, 15], 3),
        ([10, 20, 15, 20], 6),  # equal is no gain: the phase ends
        ([10, 20, 15, 20, 5, 4], 8),  # another size begins anew
        ([10, 20, 15, 20, 5, 4, 3], 12),
        ([10, 20, 30, 40, 50, 60], 6),
    ],
)
def test_patience_ends_a_phase(figures: list[float], next_epoch: int) -> None:
    assert noted(figures).next_epoch == next_epoch


def test_best_epoch_at_the_last_size_is_the_result() -> None:
    assert noted([10, 20, 15, 20]).result().classifier.bias[0] == 20
    assert noted([10, 90, 15, 20, 5, 7, 6]).result().classifier.bias[0] == 7


def test_without_patience_the_last_epoch_is_the_result(colours: Dataset) -> None:
    run = Run(Small(), replace(HEAD_FIRST, patience=None))
    for number, figure in enumerate([90.0, 10.0], start=1):
        nn.init.constant_(run.average.classifier.bias, figure)
        run.add(Epoch(number, 32, 0.1, figure))
    assert run.next_epoch == 2
    assert run.result().classifier.bias[0] == 10


def test_class_weights_by_hand() -> None:
    counts = class_counts(torch.tensor([0, 0, 0, 0, 0, 0, 0, 0, 1, 1]))
    assert class_weights(counts, 2, 0) is None
    assert torch.allclose(class_weights(counts, 2, 1), torch.tensor([10 / 16, 10 / 4]))
    half = class_weights(counts, 2, 0.5)
    assert half[1] / half[0] == pytest.approx(2.0)
    assert (half * torch.tensor([8, 2])).sum() == pytest.approx(10)
    assert len(class_weights(counts, 4, 1)) == 4


def test_balanced_loss_weighs_a_rare_class_like_a_common_one() -> None:
    truth = torch.tensor([0, 0, 0, 1])
    logits = torch.tensor([[2.0, 0.0]] * 4, requires_grad=True)
    weights = class_weights(class_counts(truth), 2, 1)
    first, second = (-torch.log_softmax(logits[0], 0)[label] for label in (0, 1))
    assert loss_of(logits, truth, weights, 0.0).item() == pytest.approx((first + second).item() / 2)


@pytest.mark.parametrize("side", [(), (3, 3)], ids=["pictures", "pixels"])
def test_loss_is_torch_s_where_every_class_weighs_alike(side: tuple[int, ...]) -> None:
    draws = torch.Generator().manual_seed(1)
    logits = torch.randn(4, 5, *side, generator=draws)
    truth = torch.randint(0, 5, (4, *side), generator=draws)
    expected = torch.nn.functional.cross_entropy(logits, truth, label_smoothing=0.1).item()
    assert loss_of(logits, truth, None, 0.1).item() == pytest.approx(expected)
    assert loss_of(logits, truth, torch.ones(5), 0.1).item() == pytest.approx(expected)


def test_what_is_smoothed_weighs_as_much_as_its_picture() -> None:
    """A frequent class beside seven rare ones: a tenth of its target is spread, whatever they weigh."""
    weights = torch.tensor([0.5] + [4.0] * 7)
    best = torch.log(torch.tensor([1 - 0.1 * 7 / 8] + [0.1 / 8] * 7))[None].requires_grad_()
    loss_of(best, torch.tensor([0]), weights, 0.1).backward()
    assert best.grad is not None
    assert best.grad.abs().max() < 1e-6


def test_pictures_are_normalised_as_the_weights_know_them(colours: Dataset) -> None:
    preprocess = Preprocess("BGR", 256, 224, (103.53, 116.28, 123.675), (57.375, 57.12, 58.395))
    pictures = read_pictures(colours, 32, CLASSIFICATION, preprocess)
    expected = next(batches(colours, at_size(preprocess, 32), len(colours)))
    assert torch.allclose(pictures.inputs(torch.arange(32)), torch.from_numpy(expected), atol=1e-5)


def test_command_says_that_the_head_is_new_and_draws_the_curve(
    colours: Dataset, thousand: Path, tmp_path: Path
) -> None:
    options = f"--px 32 --epochs 1 --head-epochs 1 --batch-size 8 --width-multiplier 0.35 --data {colours.root}"
    output = tmp_path / "out.safetensors"
    more = ["--weights", str(thousand), "--plot", str(tmp_path / "curve.svg"), "--output", str(output)]
    result = CliRunner().invoke(command, [MODEL, *options.split(), *more])
    assert result.exit_code == 0, result.output
    assert "everything but its classifier is taken; a new one of 2 is trained" in result.output
    assert result.output.count("classifier alone") == 1
    assert "</svg>" in (tmp_path / "curve.svg").read_text()
    card = output.with_suffix(".toml").read_text()
    assert "with a new classifier" in card
    assert "1 epochs of the classifier alone at 32 px" in card
    assert read_card(output.with_suffix(".toml")).preprocess.mean == models.get(MODEL).preprocess.mean


def test_build_takes_the_card_and_its_report_shows_the_curve(colours: Dataset, tmp_path: Path) -> None:
    output, bundle = tmp_path / "colours.safetensors", tmp_path / "bundle"
    options = f"--px 32 --epochs 2 --learning-rate 3e-3 --batch-size 8 --width-multiplier 0.35 --data {colours.root}"
    trained = CliRunner().invoke(command, [MODEL, *options.split(), "--output", str(output)])
    assert trained.exit_code == 0, trained.output
    card = output.with_suffix(".toml")
    options = f"--weights {card} --data {colours.root} --target onnxruntime --no-measure --output {bundle}"
    assert main(["build", MODEL, *options.split()]) == 0
    curve = read_training(bundle)
    assert curve == read_card(card).curve
    assert curve is not None
    assert (curve.epoch, curve.px) == ((1, 2), (32, 32))
    assert "top-1 on validation, epoch by epoch" in (bundle / "report.html").read_text()


def test_card_whose_curve_has_gaps_is_refused(tmp_path: Path) -> None:
    text = """model = "mobilenetv2"
    state_dict = "x.safetensors"
    [preprocess]
    resize_px = 32
    crop_px = 32
    mean = [1, 1, 1]
    std = [1, 1, 1]
    [curve]
    metric = "top-1"
    epoch = [1, 2]
    px = [32, 32]
    loss = [1.0]
    validation = [1.0, 2.0]
    """
    (tmp_path / "card.toml").write_text(text)
    with pytest.raises(EdgecError) as refusal:
        read_card(tmp_path / "card.toml")
    assert (refusal.value.code, "one for each epoch" in refusal.value.message) == ("invalid-card", True)


def test_head_phase_is_there_where_it_is_new_or_asked_for() -> None:
    phases = (Phase(32, 4, 0.001),)
    assert [p.epochs for p in with_head(phases, None, True)] == [3, 4]
    assert [p.epochs for p in with_head(phases, None, False)] == [4]
    assert [p.epochs for p in with_head(phases, 0, True)] == [4]
    assert [p.epochs for p in with_head(phases, 5, False)] == [5, 4]


def test_plot_is_refused_before_the_training(tmp_path: Path) -> None:
    result = CliRunner().invoke(command, [MODEL, "--plot", str(tmp_path / "curve.xls")])
    assert isinstance(result.exception, EdgecError)
    assert result.exception.code == "bad-plot-format"


def test_plot_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EdgecError) as refusal:
        plot_curve([Epoch(1, 32, 0.5, 50.0)], "top-1", "x", tmp_path / "file" / "curve.svg")
    assert refusal.value.code == "output-not-writable"


def test_task_that_cannot_be_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = replace(models.get(MODEL), task="tensors")
    monkeypatch.setattr(models, "get", lambda name: spec)
    with pytest.raises(EdgecError) as refusal:
        objective_of(MODEL)
    assert refusal.value.code == "wrong-task"


SEGMENTING = NetworkConfig("deeplabv3plus-mobilenetv3", width_multiplier=0.35, input_px=64, num_classes=3)


@pytest.fixture
def classifying(tmp_path: Path) -> Path:
    """Weights of the network that DeepLabV3+ is built on, with batch norm that has seen something."""
    torch.manual_seed(5)
    network = build_network(replace(SEGMENTING, model="mobilenetv3", num_classes=7))
    for name, tensor in network.state_dict().items():
        if name.endswith("running_mean"):
            tensor.uniform_(-1, 1)
    save_file(network.state_dict(), tmp_path / "classifying.safetensors")
    return tmp_path / "classifying.safetensors"


def weights_at(path: Path, width: float) -> Weights:
    found = resolve_weights(str(path), models.get("mobilenetv3"))
    return replace(found, width_multiplier=width, num_classes=7)


def test_a_backbone_keeps_every_byte_and_the_rest_is_as_from_scratch(classifying: Path) -> None:
    given = load_file(classifying)
    start = begin(SEGMENTING, None, (), 1, weights_at(classifying, 0.35))
    scratch = begin(SEGMENTING, None, (), 1)
    for name, tensor in start.network.state_dict().items():
        inside = name.removeprefix("backbone.")
        expected = scratch.network.state_dict()[name] if inside == name else given.get(inside, tensor)
        assert torch.equal(tensor, expected), name
    assert sum(name.startswith("backbone.") for name in start.network.state_dict()) > 100
    assert start.words.startswith("backbone from classifying.safetensors, sha256 ")
    assert start.preprocess == weights_at(classifying, 0.35).preprocess != scratch.preprocess


def test_a_backbone_of_another_width_is_refused(classifying: Path) -> None:
    with pytest.raises(EdgecError) as refusal:
        begin(replace(SEGMENTING, width_multiplier=0.5), None, (), 1, weights_at(classifying, 0.35))
    assert refusal.value.code == "weights-mismatch"


@pytest.mark.parametrize(
    ("model", "more", "expected"),
    [
        ("deeplabv3plus-xception71", [], "weights-mismatch"),
        ("mobilenetv2", [], "weights-mismatch"),
        ("deeplabv3plus-mobilenetv3", ["--weights", "random"], "2"),
    ],
)
def test_a_backbone_that_nothing_is_built_on(model: str, more: list[str], expected: str) -> None:
    result = CliRunner().invoke(command, [model, "--backbone-weights", "random", *more])
    assert expected == (result.exception.code if isinstance(result.exception, EdgecError) else str(result.exit_code))


@pytest.mark.parametrize("name", [name for name in models.names() if models.get(name).backbone])
def test_every_backbone_is_a_model_that_classifies(name: str) -> None:
    backbone = models.get(str(models.get(name).backbone))
    assert backbone.task is None
    given = replace(resolve_weights("random", backbone), width_multiplier=0.35)
    config = replace(SEGMENTING, model=name)
    assert begin(config, None, (), 0, given).backbone == given
