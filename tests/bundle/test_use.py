"""``edgec run`` on folders, ``edgec inspect`` on bundles, ``edgec export``: what users try first."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import TINY_PX, tiny_network

from edgec.pipeline.bundle.use import _apart, images_in
from edgec.pipeline.cli import main
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.forms.ort import OrtRunner


def test_a_folder_is_all_images_in_it(tiny_images: Path, tmp_path: Path) -> None:
    root = tmp_path / "photos"
    shutil.copytree(tiny_images, root)
    (root / "notes.txt").write_text("no image")
    one = next(root.rglob("3.png"))
    found = images_in([root, one])
    assert found[:-1] == sorted(root.rglob("*.png"))
    assert found[-1] == one
    with pytest.raises(EdgecError) as refusal:
        images_in([root, _empty(tmp_path)])
    assert refusal.value.code == "empty-data"


def _empty(tmp_path: Path) -> Path:
    (tmp_path / "empty").mkdir()
    return tmp_path / "empty"


@given(st.lists(st.sampled_from(["a", "b", "a-2", "a-3"]), max_size=8))
def test_names_never_meet(names: list[str]) -> None:
    found = _apart(names)
    assert len({*found}) == len(names)
    assert all(new == old or new.startswith(f"{old}-") for new, old in zip(found, names, strict=True))
    assert all(found[names.index(name)] == name for name in names)


def test_run_answers_a_folder_and_keeps_every_image(
    cpu_bundle: Path, tiny_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The class folders hold files of the same names."""
    arguments = ["run", str(cpu_bundle), str(tiny_images), "--output", str(tmp_path / "out"), "--json"]
    assert main(arguments) == 0
    said = json.loads(capsys.readouterr().out)
    assert len(said) == 24
    assert len(list((tmp_path / "out").glob("*.npz"))) == 24


@pytest.mark.parametrize("bundle", ["cpu_bundle", "mcu_bundle", "jetson_bundle"])
def test_inspect_takes_a_bundle(
    bundle: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    folder: Path = request.getfixturevalue(bundle)
    assert main(["inspect", str(folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["counts"]
    assert found["macs"] > 0


def test_inspect_of_a_folder_that_is_no_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(tmp_path)]) == 1
    assert "error[" in capsys.readouterr().err


def test_export_writes_what_build_takes(
    colours_toml: Path, tiny_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same answers, and the same preprocessing: a build of it is a build of the original."""
    output = tmp_path / "out.onnx"
    assert main(["export", str(colours_toml), "--output", str(output), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["output"], said["description"]) == (str(output), str(tmp_path / "out.toml"))
    batch = np.random.default_rng(0).normal(0, 1, (2, 3, TINY_PX, TINY_PX)).astype(np.float32)
    onnx.save(tiny_network(), tmp_path / "tiny.onnx")
    np.testing.assert_allclose(
        OrtRunner(output).predict(batch)[0], OrtRunner(tmp_path / "tiny.onnx").predict(batch)[0], rtol=1e-4, atol=1e-4
    )
    found = []
    for model in (colours_toml, tmp_path / "out.toml"):
        words = ["build", str(model), "--target", "onnxruntime", "--data", str(tiny_images), "--no-measure", "--json"]
        assert main([*words, "--output", str(tmp_path / model.stem)]) == 0
        found.append(json.loads(capsys.readouterr().out)["accuracy"])
    assert found[0] == found[1]


def test_export_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "small.onnx"
    given_ = ("--weights", "random", "--width-multiplier", "0.35", "--input-px", "64", "--num-classes", "5")
    assert main(["export", "mobilenetv2", *given_, "--output", str(output)]) == 0
    assert "edgec build" in capsys.readouterr().out
    model = onnx.load(output)
    assert [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim[1:]] == [3, 64, 64]
    assert "crop_px = 64" in output.with_suffix(".toml").read_text()


def test_export_over_the_network_itself(tiny_onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = tmp_path / "own.onnx"
    shutil.copy(tiny_onnx, own)
    assert main(["export", str(own), "--output", str(own)]) == 1
    assert "error[output-is-input]" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert main(["export", str(own), "--output", str(tmp_path / "file" / "x.onnx")]) == 1
    assert "error[output-not-writable]" in capsys.readouterr().err
