"""Every form of ``--weights``, and every way in which a file can be wrong."""

from __future__ import annotations

import argparse
import contextlib
import pickle
import random
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.network import models
from edgec.pipeline.network.models import state_dict, weights
from edgec.pipeline.network.models.checkpoint import read_checkpoint
from edgec.pipeline.network.models.initialise import smooth_noise
from edgec.pipeline.network.models.spec import NetworkConfig, build_network
from edgec.pipeline.network.models.weights import MOST_SETTLED_PX, load_weights, resolve_weights

SMALL = models.get("mobilenetv3-small")
WIDTH, PX, CLASSES = 0.25, 32, 5
CARD = """
model = "mobilenetv3-small"
state_dict = "small.safetensors"
names = "edgec"
padding = "tf-same"
width_multiplier = 0.25
num_classes = 5
labels = ["bolt", "gear", "nut", "pin", "washer"]
accuracy = 93.5
source = "a test"

[preprocess]
color = "BGR"
resize_px = 40
crop_px = 32
mean = [127.5, 127.5, 127.5]
std = [127.5, 127.5, 127.5]
"""


def _network(model: str = "mobilenetv3-small", width: float = WIDTH, classes: int = CLASSES) -> nn.Module:
    return build_network(NetworkConfig(model, width, PX, classes))


@pytest.fixture
def card(tmp_path: Path) -> Path:
    save_file(_network().state_dict(), tmp_path / "small.safetensors")
    path = tmp_path / "small.toml"
    path.write_text(CARD)
    return path


def _refused(path: Path, network: nn.Module | None = None) -> EdgecError:
    with pytest.raises(EdgecError) as caught:
        load_weights(network or _network(), resolve_weights(str(path), SMALL))
    return caught.value


# What each form resolves to.


def test_card_carries_everything_the_build_needs(card: Path) -> None:
    resolved = resolve_weights(str(card), SMALL)
    assert (resolved.kind, resolved.names, resolved.padding) == ("card", "edgec", "tf-same")
    assert resolved.labels == ("bolt", "gear", "nut", "pin", "washer")
    assert (resolved.accuracy, resolved.source, resolved.is_trained) == (93.5, "a test", True)
    assert (resolved.preprocess.color, resolved.preprocess.crop_px) == ("BGR", 32)
    assert resolved.network_config() == NetworkConfig("mobilenetv3-small", 0.25, 32, 5, "tf-same")
    network = build_network(resolved.network_config())
    load_weights(network, resolved)
    assert not network.training


def test_users_options_win_over_the_card(card: Path) -> None:
    config = resolve_weights(str(card), SMALL).network_config(input_px=64, padding="torch", num_classes=7)
    assert config == NetworkConfig("mobilenetv3-small", 0.25, 64, 7, "torch")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_bare_file_fills_the_network(suffix: str, tmp_path: Path) -> None:
    source, path = _network(), tmp_path / f"weights{suffix}"
    save = save_file if suffix == ".safetensors" else torch.save
    save(source.state_dict(), path)
    network = _network()
    load_weights(network, resolve_weights(str(path), SMALL))
    assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in source.state_dict().items())


@pytest.mark.parametrize("wrapper", ["state_dict", "model"])
def test_checkpoint_is_unwrapped(wrapper: str, tmp_path: Path) -> None:
    torch.save({wrapper: _network().state_dict(), "epoch": 3}, tmp_path / "checkpoint.pth")
    load_weights(_network(), resolve_weights(str(tmp_path / "checkpoint.pth"), SMALL))


def test_half_precision_is_widened(tmp_path: Path) -> None:
    source = _network()
    save_file({name: tensor.half() for name, tensor in source.state_dict().items()}, tmp_path / "half.safetensors")
    network = _network()
    load_weights(network, resolve_weights(str(tmp_path / "half.safetensors"), SMALL))
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    torch.testing.assert_close(network.classifier.weight, source.classifier.weight, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("model", models.names())
def test_names_of_a_bare_file_are_recognised(model: str, tmp_path: Path) -> None:
    """The same file under any known naming convention fills the same network."""
    source = _network(model)
    for names, table in {"edgec": {}, **models.get(model).conventions}.items():
        theirs = {ours: name for name, ours in table.items()}
        state = state_dict.rename(source.state_dict(), theirs)
        assert state_dict.recognise(state) == (model, names)
        save_file(state, tmp_path / "named.safetensors")
        network = _network(model)
        load_weights(network, resolve_weights(str(tmp_path / "named.safetensors"), models.get(model)))
        for name, parameter in source.named_parameters():
            assert torch.equal(network.get_parameter(name), parameter)


def test_names_of_nothing_known_are_not_recognised() -> None:
    assert state_dict.recognise(["conv.weight", "fc.bias"]) is None


@pytest.mark.parametrize("model", models.names())
def test_conventions_name_every_module_once(model: str) -> None:
    ours = {name.rpartition(".")[0] for name in _network(model).state_dict()}
    for table in models.get(model).conventions.values():
        assert sorted(table.values()) == sorted(ours)


# Checkpoints as training tools write them.

PREFIXES = ["module.", "model.", "_orig_mod.", "backbone.", "net.", "model._orig_mod.module.", "a.b.c."]
WRAPPERS = ["state_dict", "model", "net", "model_state_dict", "weights", "anything"]
EXTRAS = {
    "total_ops": torch.zeros(1),
    "blocks.1.total_params": torch.zeros(1),
    "n_averaged": torch.tensor(5),
    "blocks.2.activation_post_process.scale": torch.ones(1),
    "stem.weight_fake_quant.zero_point": torch.zeros(1),
}


def _torchvision(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    table = SMALL.conventions["torchvision:mobilenet_v3_small"]
    return state_dict.rename(state, {ours: theirs for theirs, ours in table.items()})


def _loads(path: Path, source: nn.Module, argument: str = "") -> tuple[str, ...]:
    """Fill a network from the file, see that it is ``source``, and say what was left."""
    network = _network()
    left = load_weights(network, resolve_weights(argument or str(path), SMALL))
    assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in source.state_dict().items())
    return left


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    prefix=st.sampled_from(["", *PREFIXES]),
    wrappers=st.lists(st.sampled_from(WRAPPERS), max_size=3),
    extras=st.sets(st.sampled_from(sorted(EXTRAS))),
    foreign=st.booleans(),
)
def test_weights_are_found_wherever_they_lie(
    tmp_path: Path, prefix: str, wrappers: list[str], extras: set[str], *, foreign: bool
) -> None:
    source = _network()
    state = source.state_dict()
    state = _torchvision(state) if foreign else state
    state |= {name: EXTRAS[name] for name in extras}
    content: dict[str, object] = {f"{prefix}{name}": value for name, value in state.items()}
    optimizer = {"state": {0: {"step": torch.ones(1)}}, "param_groups": []}
    for wrapper in wrappers:
        content = {wrapper: content, "epoch": 3, "optimizer": optimizer}
    torch.save(content, tmp_path / "checkpoint.ckpt")
    left = _loads(tmp_path / "checkpoint.ckpt", source)
    assert sorted(left) == sorted(f"{prefix}{name}" for name in extras)


@pytest.mark.parametrize("name", ["w.pth", "w.pt", "w.ckpt", "w.pth.tar", "w.bin"])
def test_what_training_scripts_save_beside_weights(name: str, tmp_path: Path) -> None:
    source = _network()
    beside = {
        "args": argparse.Namespace(lr=0.1, data="x"),
        "best_acc1": np.float64(71.5),
        "losses": [np.float32(1.0), np.int64(3)],
        "loss": torch.tensor(0.5),
        "hyper_parameters": {"lr": 0.1, "class_weights": [1.0, 2.0]},
    }
    torch.save({"state_dict": source.state_dict(), **beside}, tmp_path / name)
    assert _loads(tmp_path / name, source) == ()


def test_what_lies_beside_the_network_is_left(tmp_path: Path) -> None:
    source = _network()
    state = {f"model.{name}": value for name, value in source.state_dict().items()}
    torch.save({"state_dict": {**state, "criterion.weight": torch.ones(5)}}, tmp_path / "l.ckpt")
    assert _loads(tmp_path / "l.ckpt", source) == ("criterion.weight",)


def _two(raw: dict, averaged: dict, form: str) -> object:
    flat = {
        "apart": ("module.", "ema_model."),
        "teacher": ("student.backbone.", "teacher.backbone."),
        "top": ("", "ema."),
    }
    if form in flat:
        first, second = flat[form]
        return {**{first + name: raw[name] for name in raw}, **{second + name: averaged[name] for name in averaged}}
    wrapped = {"module." + name: value for name, value in averaged.items()}
    return {
        "timm": {"state_dict": raw, "state_dict_ema": averaged},
        "torchvision": {"model": raw, "model_ema": {**wrapped, "n_averaged": torch.tensor(5)}},
        "deep": {"models": {"raw": raw, "ema": averaged}},
    }[form]


@pytest.mark.parametrize(
    ("form", "raw", "averaged"),
    [
        ("timm", "state_dict", "state_dict_ema"),
        ("torchvision", "model", "model_ema"),
        ("deep", "models/raw", "models/ema"),
        ("apart", "module", "ema_model"),
        ("teacher", "student.backbone", "teacher.backbone"),
        ("top", "", "ema"),
    ],
)
def test_averaged_weights_are_asked_for_and_never_chosen(form: str, raw: str, averaged: str, tmp_path: Path) -> None:
    path, networks = tmp_path / "both.pth", (_network(), _network())
    torch.save(_two(*(network.state_dict() for network in networks), form), path)
    error = _refused(path)
    assert error.code == "ambiguous-weights"
    assert averaged in error.message
    for entry, network in zip((raw, averaged), networks, strict=True):
        if entry:
            assert f"{path}#{entry}" in error.hint
            _loads(path, network, f"{path}#{entry}")
    card = CARD.replace("small.safetensors", "both.pth").replace("names", f'entry = "{averaged}"\nnames')
    (tmp_path / "both.toml").write_text(card)
    _loads(path, networks[1], str(tmp_path / "both.toml"))


def test_an_entry_that_is_not_there(tmp_path: Path) -> None:
    torch.save({"state_dict": _network().state_dict()}, tmp_path / "w.pth")
    with pytest.raises(EdgecError) as caught:
        load_weights(_network(), resolve_weights(f"{tmp_path / 'w.pth'}#state_dic", SMALL))
    assert (caught.value.code, caught.value.hint) == ("unknown-weights", "did you mean 'state_dict'?")


# Random weights.


def test_random_weights_follow_the_seed_and_say_that_they_are_random() -> None:
    def logits(seed: int) -> torch.Tensor:
        network = _network()
        load_weights(network, resolve_weights("random", SMALL, seed=seed))
        return network(torch.ones(1, 3, PX, PX)).detach()

    assert torch.equal(logits(1), logits(1))
    assert not torch.equal(logits(1), logits(2))
    resolved = resolve_weights("random", SMALL, seed=1)
    assert not resolved.is_trained
    assert resolved.sha256 != resolve_weights("random", SMALL, seed=2).sha256


def test_random_weights_do_not_disturb_the_callers_random_numbers() -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    network = _network()
    torch.manual_seed(3)
    load_weights(network, resolve_weights("random", SMALL))
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.parametrize("model", models.names())
def test_random_weights_keep_activations_in_scale(model: str) -> None:
    """Deep untrained networks without settled statistics reach 1e-8 or 1e8 in their last layers.

    Other pictures of the kind and size that they settled on: pooling a whole picture depends on both.
    """
    weights = resolve_weights("random", models.get(model))
    px = min(weights.preprocess.shape[1], MOST_SETTLED_PX)
    network = build_network(NetworkConfig(model, 0.5, px, 10))
    load_weights(network, weights)
    scales: list[float] = []
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(lambda _m, _i, output: scales.append(float(output.std())))
    with torch.no_grad():
        network.eval()(smooth_noise(2, px))
    assert all(0.03 < scale < 30 for scale in scales)


# Refusals.


def test_model_without_bundled_weights_asks_for_them_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "bundled", lambda model: {})
    with pytest.raises(EdgecError) as caught:
        resolve_weights(None, models.get("mobilenetv2"))
    assert caught.value.code == "weights-needed"
    assert all(
        form in caught.value.hint for form in ("imagenet", "random", "FILE.safetensors", "FILE.pth", "CARD.toml")
    )


def test_bundled_weights_are_the_default(monkeypatch, card: Path, tmp_path: Path) -> None:
    monkeypatch.setattr(weights, "bundled", lambda model: {"parts": card} if model == SMALL.name else {})
    assert resolve_weights(None, SMALL) == resolve_weights("parts", SMALL)
    assert resolve_weights("parts", SMALL).kind == "bundled"
    assert weights.available(SMALL) == ("parts", "imagenet", "random")
    with pytest.raises(EdgecError) as caught:
        resolve_weights("part", SMALL)
    assert (caught.value.code, caught.value.hint) == ("unknown-weights", "did you mean 'parts'?")


def test_missing_files(card: Path, tmp_path: Path) -> None:
    assert _refused(tmp_path / "nothing.pth").code == "no-such-file"
    assert _refused(tmp_path / "nothing.toml").code == "no-such-file"
    (tmp_path / "small.safetensors").unlink()
    error = _refused(card)
    assert error.code == "no-such-file"
    assert "small.safetensors" in error.message


@pytest.mark.parametrize("model", ["mobilenetv1", "xception"])
def test_weights_without_a_published_digest_are_not_downloaded(model: str) -> None:
    with pytest.raises(EdgecError) as caught:
        resolve_weights("imagenet", models.get(model))
    assert caught.value.code == "no-published-digest"
    assert models.get(model).imagenet.url in caught.value.hint
    assert "imagenet" not in weights.available(models.get(model))


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("damage", ["empty", "truncated", "garbage"])
def test_corrupt_file(suffix: str, damage: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(_network().state_dict(), path)
    content = path.read_bytes()
    path.write_bytes({"empty": b"", "truncated": content[: len(content) // 2], "garbage": b"\x07" * 4096}[damage])
    assert _refused(path).code == "corrupt-weights"


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("is_zip", [True, False])
def test_damaged_torch_file_never_shows_a_traceback(is_zip: bool, tmp_path: Path) -> None:
    """Flipped bytes, most of them in the pickle: refused, or read where only a number changed."""
    torch.save({"stem.conv.weight": torch.ones(8, 3, 3, 3)}, tmp_path / "w.pth", _use_new_zipfile_serialization=is_zip)
    content, stream = (tmp_path / "w.pth").read_bytes(), random.Random(5)
    for _ in range(300):
        damaged = bytearray(content)
        for _ in range(stream.choice((1, 3, 10))):
            damaged[stream.randrange(min(len(damaged), 700))] = stream.randrange(256)
        (tmp_path / "w.pth").write_bytes(damaged)
        with contextlib.suppress(EdgecError):
            read_checkpoint(tmp_path / "w.pth")


@pytest.mark.parametrize("value", [[1, 2], {1: torch.ones(1)}, {"a": torch.ones(2).to_sparse()}, {"a": 3}])
def test_torch_file_that_holds_something_else(value: object, tmp_path: Path) -> None:
    torch.save(value, tmp_path / "other.pth")
    assert _refused(tmp_path / "other.pth").code == "corrupt-weights"


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.int8])
@pytest.mark.parametrize("values", [1 << 31, 1 << 40])
def test_expanded_tensors_are_refused_before_they_are_made(dtype: torch.dtype, values: int, tmp_path: Path) -> None:
    state = {**_network().state_dict(), "stem.conv.weight": torch.zeros(1, dtype=dtype).expand(values)}
    torch.save(state, tmp_path / "w.pth")
    error = _refused(tmp_path / "w.pth")
    assert error.code == "corrupt-weights"
    assert "states tensors of" in error.message


def test_packed_members_are_refused_before_they_are_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(1 << 28))
        archive.writestr("archive/version", "3")
    tracemalloc.start()
    assert _refused(tmp_path / "w.pth").code == "corrupt-weights"
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("is_zip", [True, False])
def test_a_torch_file_cut_anywhere_is_refused(is_zip: bool, tmp_path: Path) -> None:
    torch.save(_network().state_dict(), tmp_path / "w.pth", _use_new_zipfile_serialization=is_zip)
    whole, stream = (tmp_path / "w.pth").read_bytes(), random.Random(4)
    for _ in range(25):
        (tmp_path / "w.pth").write_bytes(whole[: stream.randrange(len(whole) - 1)])
        with pytest.raises(EdgecError) as caught:
            read_checkpoint(tmp_path / "w.pth")
        assert caught.value.code == "corrupt-weights"


def _scalars(state: dict, network: nn.Module) -> None:
    for name in ("classifier.weight", "classifier.bias"):
        state[name] = torch.tensor(1.0)


def _scalar_stem(state: dict, network: nn.Module) -> None:
    state[next(iter(state))] = torch.tensor(1.0)


def _no_stem(state: dict, network: nn.Module) -> None:
    names = [name for name in state if "num_batches" not in name]
    del state[names[0]]
    state[names[5]] = torch.zeros(3, 3)


def _all_wrong(state: dict, network: nn.Module) -> None:
    for name in state:
        state[name] = torch.zeros(2)


def _integers(state: dict, network: nn.Module) -> None:
    state["stem.conv.weight"] = state["stem.conv.weight"].to(torch.int8)


def _escape(state: dict, network: nn.Module) -> None:
    state["a\n\x1b[31m"] = torch.zeros(1)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (_scalars, "everything but the classifier fits"),
        (_scalar_stem, "other shapes"),
        (_no_stem, "other shapes"),
        (_all_wrong, "other shapes"),
        (_integers, "int8"),
        (_escape, "'a\\n\\x1b[31m'"),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_wrong_layers_are_named_whatever_they_are(change, named: str, suffix: str, tmp_path: Path) -> None:
    state = _network().state_dict()
    change(state, _network())
    (torch.save if suffix == ".pth" else save_file)(dict(state), tmp_path / f"w{suffix}")
    error = _refused(tmp_path / f"w{suffix}")
    assert error.code == "weights-mismatch"
    assert named in str(error)


def test_a_missing_or_another_classifier_is_all_that_is_said(tmp_path: Path) -> None:
    state = {name: value for name, value in _network().state_dict().items() if not name.startswith("classifier.")}
    for head in ({}, {"classifier.1.weight": torch.zeros(4, 4)}):
        save_file({**state, **head}, tmp_path / "headless.safetensors")
        assert "everything but the classifier fits" in _refused(tmp_path / "headless.safetensors").hint


def test_safetensors_header_that_claims_too_much(tmp_path: Path) -> None:
    (tmp_path / "huge.safetensors").write_bytes(struct.pack("<Q", 1 << 62) + b"{}")
    assert _refused(tmp_path / "huge.safetensors").code == "corrupt-weights"


class _Malicious:
    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self):
        return (Path.touch, (self.witness,))


@pytest.mark.parametrize("writer", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value, protocol=2))])
def test_malicious_pickle_is_refused_and_not_run(writer, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    writer({"stem.conv.weight": _Malicious(witness)}, tmp_path / "evil.pth")
    assert _refused(tmp_path / "evil.pth").code == "unsafe-weights"
    assert not witness.exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite(value: float, tmp_path: Path) -> None:
    state = _network().state_dict()
    state["blocks.3.project.conv.weight"][0, 0] = value
    save_file(state, tmp_path / "broken.safetensors")
    error = _refused(tmp_path / "broken.safetensors")
    assert error.code == "weights-not-finite"
    assert "blocks.3.project.conv.weight" in error.message


@pytest.mark.parametrize(
    ("source", "hint"),
    [
        (("mobilenetv3-small", WIDTH, 9), "the file has 9 classes: --num-classes 9"),
        (("mobilenetv3-small", 1.0, CLASSES), "wrong width multiplier? the first layer has 16 channels in the file, 8"),
        (("mobilenetv3", WIDTH, CLASSES), "the names look like those of 'mobilenetv3'"),
        (("xception", WIDTH, CLASSES), "the names look like those of 'xception'"),
    ],
)
def test_mismatch_names_the_likely_mistake(source: tuple, hint: str, tmp_path: Path) -> None:
    save_file(_network(*source).state_dict(), tmp_path / "other.safetensors")
    error = _refused(tmp_path / "other.safetensors")
    assert error.code == "weights-mismatch"
    assert hint in error.hint


def test_mismatch_lists_at_most_ten_names(tmp_path: Path) -> None:
    state = _network().state_dict()
    missing = [name for name in state if name.startswith("blocks.1.") and "num_batches" not in name]
    for name in missing:
        del state[name]
    state["stray.weight"] = torch.zeros(1)
    save_file(state, tmp_path / "holes.safetensors")
    error = _refused(tmp_path / "holes.safetensors")
    assert error.code == "weights-mismatch"
    assert error.message.count("missing ") == 10
    assert f"and {len(missing) + 1 - 10} more" in error.message


def test_unexpected_name_is_listed(tmp_path: Path) -> None:
    save_file({**_network().state_dict(), "stray.weight": torch.zeros(1)}, tmp_path / "stray.safetensors")
    assert "unexpected stray.weight" in _refused(tmp_path / "stray.safetensors").message


def test_step_counters_of_batch_norm_may_be_absent(tmp_path: Path) -> None:
    state = {name: tensor for name, tensor in _network().state_dict().items() if "num_batches" not in name}
    save_file(state, tmp_path / "old.safetensors")
    load_weights(_network(), resolve_weights(str(tmp_path / "old.safetensors"), SMALL))


# Cards.


@pytest.mark.parametrize("model", models.names())
def test_bundled_cards_fill_their_network_and_name_their_classes(model: str) -> None:
    for name in weights.bundled(model):
        resolved = resolve_weights(name, models.get(model))
        load_weights(build_network(resolved.network_config()), resolved)
        assert len(resolved.labels) == resolved.num_classes
        assert resolved.accuracy is not None


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (("crop_px = 32", "crop_px = 32\ncolour = 1"), "preprocess.colour"),
        (('names = "edgec"', 'names = "edgec"\nwidth = 1.0'), "width"),
        (('model = "mobilenetv3-small"', ""), "model"),
        (('padding = "tf-same"', 'padding = "same"'), "padding"),
        (("num_classes = 5", "num_classes = 0"), "num_classes"),
        (("num_classes = 5", "num_classes = 6"), "5 labels for num_classes 6"),
        (("resize_px = 40", "resize_px = 30"), "smaller than crop_px"),
        (("std = [127.5, 127.5, 127.5]", "std = [127.5, 0.0, 127.5]"), "std has to be positive"),
        (("mean = [127.5, 127.5, 127.5]", "mean = [127.5]"), "preprocess.mean"),
        (('source = "a test"', 'source = "a test'), "source"),
        (('source = "a test"', 'sha256 = "123"'), "sha256"),
        (("accuracy = 93.5", "accuracy = 935"), "accuracy"),
    ],
)
def test_card_is_strict(change: tuple[str, str], named: str, card: Path) -> None:
    card.write_text(CARD.replace(*change))
    error = _refused(card)
    assert error.code == "invalid-card"
    assert named in error.message or named == "source"


def test_card_that_is_no_text(card: Path) -> None:
    card.write_bytes(b"\xff\xfe\x00")
    assert _refused(card).code == "invalid-card"


def test_card_with_names_that_the_model_does_not_know(card: Path) -> None:
    card.write_text(CARD.replace('"edgec"', '"torchvision:mobilenet_v3_smal"'))
    error = _refused(card)
    assert (error.code, error.hint) == ("invalid-card", "did you mean 'torchvision:mobilenet_v3_small'?")


def test_card_of_another_model(card: Path) -> None:
    with pytest.raises(EdgecError) as caught:
        resolve_weights(str(card), models.get("mobilenetv2"))
    assert caught.value.code == "weights-mismatch"
    assert "edgec build mobilenetv3-small" in caught.value.hint


def test_card_with_a_digest_that_the_file_does_not_have(card: Path) -> None:
    card.write_text(CARD.replace("[preprocess]", f'sha256 = "{"0" * 64}"\n[preprocess]'))
    assert _refused(card).code == "weights-digest"
