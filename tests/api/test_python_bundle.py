"""An opened bundle answers as ``edgec run`` does, and says what it is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import edgec
from edgec.pipeline.bundle.use import ask_bundle
from edgec.pipeline.cli import main
from edgec.pipeline.data.dataset import read_image
from edgec.pipeline.data.preprocess import Preprocess

BUNDLES = ("cpu_bundle", "mcu_bundle")


@pytest.fixture(params=BUNDLES)
def bundle(request: pytest.FixtureRequest) -> edgec.Bundle:
    return edgec.open_bundle(request.getfixturevalue(request.param))


def test_pixels_paths_and_inputs_get_the_same_answers(bundle: edgec.Bundle, tiny_images: Path) -> None:
    """As ``edgec run`` gives them; inputs in the layout of the network and, of a .tflite, of the contract."""
    files = sorted(tiny_images.rglob("*.png"))[::3]
    arrays = [np.asarray(Image.open(file)) for file in files]
    found = bundle.predict(np.stack(arrays))
    (name,) = found
    assert name == bundle.manifest.contract.outputs[0].name
    assert found[name].shape == (len(files), 3)
    assert found[name].dtype == np.float32
    preprocess = bundle.opened.preprocess
    inputs = preprocess.normalise(np.stack([read_image(file, preprocess) for file in files]))
    alike: list[Any] = [files, map(str, files), arrays, iter(arrays), [Image.open(file) for file in files], inputs]
    if bundle.manifest.contract.inputs[0].layout == "NHWC":
        alike.append(inputs.transpose(0, 2, 3, 1))
    for images in alike:
        np.testing.assert_array_equal(bundle.predict(images)[name], found[name])
    said = [reply.lines for reply in bundle.ask(arrays, top=2)]
    assert said == [one.reply.lines for one in ask_bundle(bundle.path, files, 2)]
    assert [lines[0][0] for lines in said] == [file.parent.name for file in files]


@pytest.mark.parametrize("color", ["RGB", "BGR", "GRAY", "RGBA"])
@pytest.mark.parametrize("channels", [(), (3,), (4,)], ids=str)
def test_an_array_is_prepared_as_its_file_would_be(color: str, channels: tuple[int, ...], tmp_path: Path) -> None:
    sides = {"RGB": 3, "BGR": 3, "GRAY": 1, "RGBA": 4}[color]
    preprocess = Preprocess(color, 12, 8, (1.0,) * sides, (2.0,) * sides)
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (20, 15, *channels), np.uint8))
    image.save(tmp_path / "x.png")
    found = preprocess.pixels_of(image.convert(preprocess.mode))
    np.testing.assert_array_equal(found, preprocess.pixels(tmp_path / "x.png"))
    assert found.shape == (8, 8, sides)


@pytest.mark.parametrize(
    ("images", "code"),
    [
        ([], "bad-images"),
        (np.zeros((2, 3, 8, 8), np.float32), "bad-images"),
        (np.zeros((3, 32, 32), np.float32), "bad-images"),
        (np.zeros((40, 40, 3), np.uint8), "bad-images"),
        (np.zeros((2, 40, 40, 3), np.int64), "bad-images"),
        ("photo.png", "bad-images"),
        (["no-such.png"], "no-such-file"),
    ],
    ids=["none", "other sides", "one input", "one image", "integers", "a path alone", "no such file"],
)
def test_what_is_no_input_is_refused(cpu_bundle: Path, images: Any, code: str) -> None:
    with pytest.raises(edgec.EdgecError) as refusal:
        edgec.open_bundle(cpu_bundle).predict(images)
    assert refusal.value.code == code


def test_it_says_what_it_is(cpu_bundle: Path) -> None:
    bundle = edgec.open_bundle(str(cpu_bundle))
    said = json.loads((cpu_bundle / "manifest.json").read_text())
    assert bundle.path == cpu_bundle
    assert bundle.artifact == cpu_bundle / "openvino"
    assert bundle.size_bytes == said["size_bytes"]
    assert bundle.labels == ("blue", "green", "red")
    assert bundle.accuracy.target == said["accuracy"]["target"]
    assert bundle.latency.status == "not-measured"
    assert bundle.report().read_text().startswith("<!doctype html>")
    assert repr(bundle).startswith(f"<edgec.Bundle '{cpu_bundle}': model colours 1.0.0; target cpu (INT8, OpenVINO)")
    assert "top-1 100.00 %, float 100.00 %, 12 images" in repr(bundle)
    shown = bundle._repr_html_()
    assert "<td>top-1 %</td><td>100.00</td>" in shown
    assert shown.count("<table>") == shown.count("</table>") == 2


def test_what_is_shown_in_a_notebook_is_text_and_no_markup(cpu_bundle: Path) -> None:
    from dataclasses import replace

    opened = edgec.open_bundle(cpu_bundle).opened
    manifest = replace(opened.manifest, notes=("<script>alert(1)</script>",))
    shown = edgec.Bundle(replace(opened, manifest=manifest))._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown


def test_verify_and_evaluate(cpu_bundle: Path, tiny_images: Path, tmp_path: Path) -> None:
    bundle = edgec.open_bundle(cpu_bundle)
    assert "golden vectors were not run again: not asked for" in bundle.verify(no_run=True).skipped
    files = sorted(tiny_images.rglob("*.png"))
    arrays = [np.asarray(Image.open(file)) for file in files]
    held = bundle.evaluate(edgec.Images(arrays, [file.parent.name for file in files]))
    assert held == bundle.evaluate(tiny_images)
    assert held.num_images == 24
    shutil.copytree(cpu_bundle, tmp_path / "copy")
    (tmp_path / "copy" / "labels.txt").write_text("cat\n")
    with pytest.raises(edgec.EdgecError) as refusal:
        edgec.open_bundle(tmp_path / "copy")
    assert refusal.value.code == "corrupt-bundle"


BUDGETS = """\
[[budget]]
model = "colours"
target = "cpu"
device = "any"
owner = "tests"
reason = "the tiny network"
[budget.limits]
agreement = 50.0
size_bytes = {size}
"""


@pytest.mark.parametrize(("size", "verdict"), [(10_000_000, "pass"), (10, "fail")])
def test_check_is_the_command(
    size: int, verdict: str, cpu_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "budgets.toml").write_text(BUDGETS.format(size=size))
    bundle = edgec.open_bundle(cpu_bundle)
    found = edgec.check(bundle, tmp_path / "budgets.toml", no_device=True)
    assert (found.verdict, found.passed) == (verdict, verdict == "pass")
    assert len(found.lines) == 2
    main(["check", str(cpu_bundle), "--budgets", str(tmp_path / "budgets.toml"), "--no-device", "--json"])
    assert json.loads(found.text("json")) == json.loads(capsys.readouterr().out)
    assert f"verdict: {verdict}" in repr(found)
    assert found._repr_html_().startswith("<pre>")
    with pytest.raises(edgec.EdgecError) as refusal:
        found.text("yaml")
    assert refusal.value.code == "bad-argument"


def test_check_refuses_with_codes(cpu_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(edgec.EdgecError) as refusal:
        edgec.check([cpu_bundle], tmp_path / "none.toml")
    assert refusal.value.code == "no-such-file"
    with pytest.raises(edgec.EdgecError) as refusal:
        edgec.check(cpu_bundle, budget_s=0)
    assert refusal.value.code == "bad-argument"
