"""A family of another package, unlike ours: no naming convention, no separable pairs. It is used, and breaks nobody."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest
import torch
from safetensors.torch import save_file

from edgec.pipeline.core import code, extensions
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.stage import stage_key, stage_modules
from edgec.pipeline.network import models
from edgec.pipeline.network.cost import network_cost
from edgec.pipeline.network.export import Export, export_onnx
from edgec.pipeline.network.models.complexity import count_complexity
from edgec.pipeline.network.models.spec import NetworkConfig, build_network
from edgec.pipeline.network.models.state_dict import OWN_NAMES, Convention, recognise
from edgec.pipeline.network.models.weights import load_weights, resolve_weights

FAMILY = """
from edgec.pipeline.network.models.spec import IMAGENET_PREPROCESS, ModelSpec, PublishedFigures


def builder(config):
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=4),
        nn.ConvTranspose2d(8, 4, 2, stride=2),
        nn.Conv2d(4, 4, 3, groups=4, bias=False),  # depthwise, and no pointwise convolution reads it
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, config.num_classes),
    )


published = PublishedFigures(1.0, 1.0, "none")
SPECS = (ModelSpec("{name}", "a toy", "none", 64, IMAGENET_PREPROCESS, published, builder, {{}}),)
"""


def install(folder: Path, package: str, module: str, source: str | None, entry: str = "toys") -> Path:
    """A package as an installer leaves it: its module, and its metadata beside it."""
    folder.mkdir(exist_ok=True)
    if source is not None:
        (folder / f"{module}.py").write_text(source)
    metadata = folder / f"{package}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[edgec.models]\n{entry} = {module}\n")
    return folder


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    models._brought.cache_clear()
    extensions._found.cache_clear()
    extensions._points.cache_clear()
    yield folder
    models._brought.cache_clear()
    extensions._found.cache_clear()
    extensions._points.cache_clear()
    for name in [name for name in sys.modules if name.startswith("toy_")]:
        del sys.modules[name]


def test_a_family_from_another_package(site: Path, tmp_path: Path) -> None:
    install(site, "toys", "toy_one", FAMILY.format(name="toynet"))
    assert models.names()[-1] == "toynet"
    network = build_network(NetworkConfig("toynet", num_classes=5)).eval()
    assert network(torch.zeros(2, 3, 64, 64)).shape == (2, 5)
    cost = count_complexity(network, 64)
    assert cost.plain_macs == cost.macs  # no half of a separable convolution, nothing to save
    export_onnx(network, 64, tmp_path / "m.onnx")
    assert network_cost(onnx.load(tmp_path / "m.onnx")).macs == cost.macs


def test_its_bare_weights_are_known_by_its_own_names_and_ours_still_load(site: Path, tmp_path: Path) -> None:
    install(site, "toys", "toy_two", FAMILY.format(name="toynet"))
    state = build_network(NetworkConfig("toynet")).state_dict()
    assert recognise(state) == Convention("toynet", OWN_NAMES)
    for name in ("toynet", "mobilenetv3-small", "mobilenetv1"):
        network = build_network(NetworkConfig(name))
        save_file(network.state_dict(), tmp_path / f"{name}.safetensors")
        weights = resolve_weights(str(tmp_path / f"{name}.safetensors"), models.get(name))
        load_weights(build_network(NetworkConfig(name)), weights)
    with pytest.raises(EdgecError) as refused:
        resolve_weights("imagenet", models.get("toynet"))
    assert refused.value.code == "no-published-digest"


def test_the_digest_follows_its_source(site: Path) -> None:
    install(site, "toys", "toy_three", FAMILY.format(name="toynet"))
    module = models.get("toynet").builder.__module__
    before = code.code_digests([module])
    (site / "toy_three.py").write_text(FAMILY.format(name="toynet") + "\n# edited\n")
    code._source_sha256.cache_clear()
    after = code.code_digests([module])
    assert [name for name in before if before[name] != after[name]] == ["toy_three"]


def test_the_command_line_lists_it(tmp_path: Path) -> None:
    folder = install(tmp_path / "site", "toys", "toy_four", FAMILY.format(name="toynet"))
    path = os.pathsep.join([str(folder), *sys.path])
    command = [sys.executable, "-m", "edgec.pipeline.cli", "models", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path}, check=True)
    assert [row["name"] for row in json.loads(done.stdout)] == [*models.names(), "toynet"]


BROKEN = {
    "no such module": (None, "cannot be loaded"),
    "a failing import": ("import no_such_module_anywhere", "cannot be loaded"),
    "no SPECS": ("", "has no SPECS"),
    "SPECS of another kind": ("SPECS = ('toynet',)", "has no SPECS"),
    "an import that fails otherwise": ("1 / 0", "ZeroDivisionError"),
    "a builder without a key": (
        FAMILY.format(name="toynet").replace("published, builder", "published, print"),
        "toynet",
    ),
    "one of our names": (FAMILY.format(name="xception"), "a name that is taken"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_package_is_named_and_our_models_are_there(site: Path, kind: str) -> None:
    source, fragment = BROKEN[kind]
    install(site, "toys", "toy_broken", source)
    with pytest.raises(EdgecError) as refused:
        models.names()
    assert refused.value.code == "bad-extension"
    assert fragment in refused.value.message
    assert "'toys'" in refused.value.hint
    assert models.get("xception").paper == "arXiv 1610.02357"


@pytest.mark.parametrize("entries", [("toys", "toys"), ("toys", "games")], ids=["same entry point", "same model"])
def test_two_packages_with_one_name(site: Path, entries: tuple[str, str]) -> None:
    for number, entry in enumerate(entries):
        install(site, f"package{number}", f"toy_twin{number}", FAMILY.format(name="toynet"), entry)
    with pytest.raises(EdgecError) as refused:
        models.get("toynet")
    assert refused.value.code == "bad-extension"


@pytest.mark.parametrize(
    ("old", "new", "fragment"),
    [("from torch import nn", "raise KeyError('config')", "KeyError"), ("return nn.Seq", "nn.Seq", "gave NoneType")],
)
def test_a_builder_that_fails_is_its_packages_fault(site: Path, old: str, new: str, fragment: str) -> None:
    install(site, "toys", "toy_fails", FAMILY.format(name="toynet").replace(old, new))
    state = build_network(NetworkConfig("mobilenetv1")).state_dict()
    for ask in (lambda: build_network(NetworkConfig("toynet")), lambda: recognise(state)):
        with pytest.raises(EdgecError) as refused:
            ask()
        assert refused.value.code == "bad-extension"
        assert "'toy_fails' cannot build its network 'toynet'" in refused.value.message
        assert fragment in refused.value.message


def test_a_class_may_be_a_builder(site: Path) -> None:
    """Its module is in the key, as a function's is."""
    source = FAMILY.format(name="toynet").replace("def builder(config):", "class builder:\n  def __new__(cls, config):")
    install(site, "toys", "toy_class", source)
    config = NetworkConfig("toynet")
    stage = Export(config, resolve_weights("random", models.get("toynet")), models.get("toynet").builder)
    assert stage_key(stage, ())
    assert "toy_class" in stage_modules(stage)
