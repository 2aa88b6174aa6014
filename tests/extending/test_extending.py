"""Another package brings a compiler with a format of its own, a family, a board, a scheme, a task and metrics.

No file of edgec names any of them: everything goes through a real process with real entry point metadata.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Edgec
    from workers import Once

TOY = Path(__file__).parent / "toy"


@pytest.fixture(scope="session")
def board(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy board, with its scheme beside it, somewhere on a user's disk."""
    folder = tmp_path_factory.mktemp("boards")
    for file in ("toyboard.toml", "toyscheme.toml"):
        shutil.copy(TOY / file, folder / file)
    return folder / "toyboard.toml"


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory, tiny_onnx: Path) -> Path:
    folder = tmp_path_factory.mktemp("toy-model")
    shutil.copy(tiny_onnx, folder / "tiny.onnx")
    path = folder / "colours.toml"
    path.write_text(
        'onnx = "tiny.onnx"\nlabels = ["blue", "green", "red"]\n'
        "[preprocess]\nresize_px = 40\ncrop_px = 32\nmean = [127.5, 127.5, 127.5]\nstd = [127.5, 127.5, 127.5]\n"
    )
    return path


def done(edgec: Edgec, *arguments: object) -> str:
    ran = edgec(*arguments)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.fixture(scope="session")
def bundle(edgec: Edgec, model: Path, board: Path, tiny_images: Path, once: Once) -> Path:
    given = ("build", model, "--target", board, "--data", tiny_images, "--no-measure", "--output")
    return once("toy", lambda folder: done(edgec, *given, folder))


def test_the_toy_format_goes_the_whole_way(edgec: Edgec, bundle: Path, tiny_images: Path, tmp_path: Path) -> None:
    manifest: dict[str, Any] = json.loads((bundle / "manifest.json").read_text())
    target = manifest["target"]
    assert (bundle / "model.toy").read_bytes().startswith(b"TOY1")
    assert (target["compiler"], target["format"], target["artifact"]) == ("toy", "toy", "model.toy")
    assert (target["runtime"], target["runtime_versions"]) == ("the toy runtime", ">=1.0")
    assert "the toy runtime" in (bundle / "README.md").read_text()
    assert manifest["origin"]["toolchain"]["toy"] == "1.0"
    assert manifest["origin"]["target"]["scheme"]["weight_granularity"] == "per_tensor"
    assert "toy-slow" in json.loads((bundle / "golden" / "golden.json").read_text())["kernel_sets"]
    assert not (bundle / "c").exists()
    assert "artifact has the inputs" in done(edgec, "verify", bundle)
    assert json.loads(done(edgec, "diff", bundle, bundle, "--json"))["step"] == "none"
    done(edgec, "report", bundle, "--output", tmp_path / "page.html")
    assert "toyboard" in (tmp_path / "page.html").read_text()
    assert json.loads(done(edgec, "evaluate", bundle, "--data", tiny_images, "--json"))["target"] == 100.0


def test_a_damaged_toy_artifact_is_its_formats_to_name(edgec: Edgec, bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy)
    (copy / "model.toy").write_bytes(b"TOY2" + (copy / "model.toy").read_bytes()[4:])
    ran = edgec("verify", copy)
    assert (ran.returncode, "corrupt-bundle" in ran.stderr) == (1, True)


def test_a_metric_of_another_package_stands_in_every_table(edgec: Edgec, bundle: Path) -> None:
    accuracy = json.loads((bundle / "accuracy.json").read_text())
    assert accuracy["metrics"]["top-2 %"] == {"float": 100.0, "reference": 100.0, "target": 100.0}
    for page in ("README.md", "report.html"):
        assert "top-2 %" in (bundle / page).read_text()


def test_checked_against_a_budget(edgec: Edgec, bundle: Path, tmp_path: Path) -> None:
    file = tmp_path / "budgets.toml"
    file.write_text(
        '[[budget]]\nmodel = "colours"\ntarget = "toyboard"\ndevice = "any"\nowner = "me"\nreason = "test"\n'
        "[budget.limits]\nsize_bytes = 100000\nagreement = 40.0\n"
    )
    report = json.loads(done(edgec, "check", bundle, "--budgets", file, "--no-device", "--json"))
    assert {line["limit"]: line["verdict"] for line in report["lines"]} == {"size_bytes": "pass", "agreement": "pass"}


def test_a_task_of_another_package(edgec: Edgec, model: Path, tiny_images: Path, tmp_path: Path) -> None:
    result = json.loads(
        done(edgec, "build", model, "--target", "onnxruntime", "--data", tiny_images, "--task", "brightness",
             "--output", tmp_path / "out", "--no-measure", "--json")
    )  # fmt: skip
    assert (result["accuracy"]["task"], result["accuracy"]["agreement"]) == ("brightness", 100.0)
    assert set(result["accuracy"]["metrics"]["mean brightness"]) == {"float", "reference", "target"}
    assert (tmp_path / "out" / "predictions.csv").read_text().startswith("file,brightness\n")
    picture = next(tiny_images.rglob("*.png"))
    assert json.loads(done(edgec, "run", tmp_path / "out", picture, "--json"))[0]["classes"][0] in ("bright", "dark")
    done(edgec, "verify", tmp_path / "out")


def test_a_family_of_another_package(edgec: Edgec, tiny_images: Path, tmp_path: Path) -> None:
    assert "toynet" in done(edgec, "models")
    result = json.loads(
        done(edgec, "build", "toynet", "--weights", "random", "--num-classes", 3, "--target", "onnxruntime",
             "--data", tiny_images, "--output", tmp_path / "out", "--no-measure", "--json")
    )  # fmt: skip
    assert result["model"] == "toynet"


def test_what_cannot_be_loaded_is_named(edgec: Edgec, site: Path, board: Path, tmp_path: Path) -> None:
    other = tmp_path / "broken.toml"
    other.write_text(
        board.read_text().replace('compiler = "toy"', 'compiler = "tyo"').replace("toyscheme.toml", "openvino")
    )
    ran = edgec("explain", "mobilenetv3-small", "--target", other)
    assert (ran.returncode, "error[unknown-compiler]" in ran.stderr, "'toy'" in ran.stderr) == (1, True, True)


@pytest.mark.parametrize(("text", "member"), [("FORMAT = 1\n", "TOOLCHAIN"), ("raise ImportError('no SDK')\n", "")])
def test_an_incomplete_package_is_named(text: str, member: str, tmp_path: Path) -> None:
    import os
    import subprocess
    import sys

    (tmp_path / "half.py").write_text(text)
    (tmp_path / "half-1.dist-info").mkdir()
    (tmp_path / "half-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: half\nVersion: 1\n")
    (tmp_path / "half-1.dist-info" / "entry_points.txt").write_text("[edgec.compilers]\nhalf = half\n")
    program = "from edgec.pipeline.forms.compiler import load_compiler\nload_compiler('half')"
    path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH", ""))))
    environment = {**os.environ, "PYTHONPATH": path}
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False)
    assert "bad-extension" in ran.stderr
    assert member in ran.stderr
