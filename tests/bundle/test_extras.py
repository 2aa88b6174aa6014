"""What a bundle leaves out: it is had again from the rest, or its absence is named together with the way to it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import rfc8785
from onnx import TensorProto, helper

from edgec.pipeline.build import Build
from edgec.pipeline.bundle.extras import EXTRAS, check_extras, extras_of
from edgec.pipeline.bundle.float_network import float_network, stated
from edgec.pipeline.bundle.manifest import MANIFEST, SUMS, FloatNetwork, Source, sums
from edgec.pipeline.bundle.manifest_json import parse_manifest, to_bytes
from edgec.pipeline.bundle.read import Bundle, open_bundle
from edgec.pipeline.bundle.verify import verify
from edgec.pipeline.cli import main
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.stage import file_sha256, source
from edgec.pipeline.core.store import Store
from edgec.pipeline.forms.golden import inputs_of, read_golden
from edgec.pipeline.forms.spec import load_target
from edgec.pipeline.gate.proxies import Proxies
from edgec.pipeline.network.cost import network_cost
from edgec.pipeline.recipe import Choices, network_recipe


def paths(bundle: Path) -> set[str]:
    return {entry.path for entry in open_bundle(bundle).manifest.files}


def test_a_bundle_holds_what_nothing_else_tells(jetson_bundle: Path, mcu_bundle: Path, cpu_bundle: Path) -> None:
    inside = paths(jetson_bundle)
    assert extras_of(open_bundle(jetson_bundle).manifest) == ()
    assert "reference/qdq.onnx" in inside
    assert not [path for path in inside if path.startswith(("c/", "golden/inputs", "golden/real-"))]
    assert not [path for path in inside if path.startswith("golden/") and path.endswith(".bin")]
    assert extras_of(open_bundle(mcu_bundle).manifest) == EXTRAS  # its C sources came unasked
    assert extras_of(open_bundle(cpu_bundle).manifest) == EXTRAS
    assert not [path for path in (*paths(mcu_bundle), *paths(cpu_bundle)) if path.endswith(".bin") and "c/" in path]


@pytest.mark.parametrize("name", ["mcu_bundle", "cpu_bundle"])
def test_golden_inputs_are_made_again_bit_by_bit(name: str, request: pytest.FixtureRequest) -> None:
    bundle = open_bundle(request.getfixturevalue(name))
    tensor, folder = bundle.manifest.contract.inputs[0], bundle.folder / "golden"
    kept = np.load(folder / f"inputs.{tensor.dtype}.npy")
    np.testing.assert_array_equal(inputs_of(folder, read_golden(folder), tensor, bundle.preprocess), kept)


def test_other_pixels_are_not_those_of_the_golden_file(jetson_bundle: Path, tmp_path: Path) -> None:
    bundle = open_bundle(jetson_bundle)
    tensor, golden = bundle.manifest.contract.inputs[0], read_golden(jetson_bundle / "golden")
    pixels = np.load(jetson_bundle / "golden" / "pixels.npy")
    pixels[-1, 3, 4, 0] ^= 1
    np.save(tmp_path / "pixels.npy", pixels)
    none = replace(golden, vectors=tuple(vector for vector in golden.vectors if vector.kind != "stored"))
    flat = replace(tensor, shape=(1, 12))
    for wrong, source_ in ((golden, tensor), (none, tensor), (golden, flat)):
        with pytest.raises(EdgecError) as caught:
            inputs_of(tmp_path, wrong, source_, bundle.preprocess)
        assert caught.value.code == "corrupt-bundle"


def test_the_float_network_is_stated_by_digest_and_counts(cpu_bundle: Path, tmp_path: Path) -> None:
    bundle = open_bundle(cpu_bundle)
    found = bundle.manifest.float_network
    cost = network_cost(onnx.load(bundle.float_onnx))
    assert found == FloatNetwork(file_sha256(bundle.float_onnx), cost.macs, cost.params)
    assert float_network(bundle) == bundle.float_onnx
    assert (Proxies(bundle).count("macs"), Proxies(bundle).count("params")) == (cost.macs, cost.params)
    uncounted = helper.make_graph(
        [helper.make_node("Einsum", ["x", "x"], ["y"], equation="ij,ij->i")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
    )
    onnx.save(helper.make_model(uncounted), tmp_path / "e.onnx")
    counted = stated(source(tmp_path / "e.onnx"))
    assert counted == FloatNetwork(file_sha256(tmp_path / "e.onnx"))
    with pytest.raises(EdgecError) as caught:
        Proxies(replace(bundle, manifest=replace(bundle.manifest, float_network=counted))).count("macs")
    assert caught.value.code == "no-count"


def test_it_is_found_in_the_store_of_this_machine(
    jetson_bundle: Path, store_of_bundles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = open_bundle(jetson_bundle)
    assert bundle.manifest.float_network is not None
    with pytest.raises(EdgecError) as caught:
        float_network(bundle)
    assert caught.value.code == "float-left-out"
    assert "edgec export" in caught.value.hint
    assert "--with float" in caught.value.hint
    monkeypatch.setenv("EDGEC_CACHE", str(store_of_bundles))
    assert file_sha256(float_network(bundle)) == bundle.manifest.float_network.sha256


def of_weights(bundle: Bundle, name: str, found: FloatNetwork) -> Bundle:
    """As if it were made of a network that edgec defines."""
    network = {"model": "mobilenetv1", "width_multiplier": 0.25, "input_px": 32, "num_classes": 3}
    made_of = Source("weights", name, "0" * 64, network, True)
    origin = replace(bundle.manifest.origin, source=made_of)
    return replace(bundle, manifest=replace(bundle.manifest, origin=origin, float_network=found))


def test_it_is_made_again_of_weights_with_a_name(jetson_bundle: Path, tmp_path: Path) -> None:
    bundle = open_bundle(jetson_bundle)
    recipe = network_recipe("mobilenetv1", Choices("random", 0.25, 32, 3))
    found = stated(Build(recipe, Store(tmp_path / "elsewhere")).fp32)
    assert file_sha256(float_network(of_weights(bundle, "random", found))) == found.sha256
    for name, sha256 in (("random", "1" * 64), ("nowhere.pth", found.sha256[::-1])):
        with pytest.raises(EdgecError) as caught:
            float_network(of_weights(bundle, name, replace(found, sha256=sha256)))
        assert caught.value.code == "float-left-out"


def test_a_bundle_of_an_older_edgec_opens(cpu_bundle: Path, copy: Path) -> None:
    """Fields that it did not write have their defaults, and its files are where they were."""
    content = json.loads((copy / MANIFEST).read_bytes())
    del content["float_network"]
    scheme = content["origin"]["target"]["scheme"]
    scheme["float_prefix"] = scheme.pop("prefix")
    (copy / MANIFEST).write_bytes(rfc8785.dumps(content))
    listed = [(entry["path"], entry["sha256"]) for entry in content["files"]]
    (copy / SUMS).write_text(sums((*listed, (MANIFEST, file_sha256(copy / MANIFEST)))))
    assert verify(copy).skipped == ()
    old = open_bundle(copy)
    assert old.manifest.float_network is None
    assert float_network(old) == copy / "reference" / "float.onnx"
    assert Proxies(old).count("macs") == network_cost(onnx.load(old.float_onnx)).macs
    manifest = open_bundle(cpu_bundle).manifest
    assert parse_manifest(to_bytes(manifest), "new") == manifest


def test_c_sources_of_what_no_program_holds_are_refused(
    tiny_onnx: Path, tiny_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(EdgecError) as caught:
        check_extras(("c",), load_target("jetson"))
    assert caught.value.code == "no-c-sources"
    check_extras(("float", "vectors"), load_target("jetson"))
    check_extras(EXTRAS, load_target("arm"))
    given = ["build", str(tiny_onnx), "--data", str(tiny_images), "--output", str(tmp_path / "out"), "--no-measure"]
    assert main([*given, "--target", "jetson", "--with", "c"]) == 1
    assert "no-c-sources" in capsys.readouterr().err
    assert main([*given, "--target", "cpu", "--with", "everything"]) == 2
    assert not (tmp_path / "out").exists()
