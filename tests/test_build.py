"""The whole line on a small network, through the command line as a user runs it."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from tiny import tiny_network

from edgec.pipeline.cli import main
from edgec.targets.openvino import compiler

RESULT_FIELDS = {
    "model": str, "target": str, "weights": str, "bundle": str, "artifact": str, "size_bytes": int, "accuracy": dict,
    "latency": dict, "build_seconds": dict, "cached_stages": list,
}  # fmt: skip
ACCURACY_FIELDS = {"metric", "float", "reference", "target", "drop_pp", "agreement", "sqnr_db", "num_images"}
LATENCY_FIELDS = {"status", "p50_ms", "p90_ms", "p99_ms", "num_samples", "threads", "device"}
STAGES = [
    "importonnx", "simplify", "check", "calibrate", "quantize", "compile",
    "place", "answer float", "answer reference", "answer target", "score", "golden",
]  # fmt: skip


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit status, standard output, standard error."""
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def built(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    status, out, err = run(capsys, "build", *arguments, "--json")
    assert status == 0, err
    result: dict[str, Any] = json.loads(out)
    return result


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The error's code; every refusal is one message with exit status 1 and empty standard output."""
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (1, "")
    assert re.fullmatch(r"(?: *[\d.]+ s  .+\n)*error\[.+\]: (?s:.+)", err), "stages, then the refusal"
    assert "Traceback" not in err
    return err.partition("error[")[2].partition("]")[0]


def mine(tmp_path: Path, tiny_onnx: Path) -> Path:
    """``model.toml`` for the tiny network."""
    shutil.copy(tiny_onnx, tmp_path / "tiny.onnx")
    path = tmp_path / "colours.toml"
    path.write_text(
        'onnx = "tiny.onnx"\nlabels = ["blue", "green", "red"]\n'
        "[preprocess]\nresize_px = 40\ncrop_px = 32\nmean = [127.5, 127.5, 127.5]\nstd = [127.5, 127.5, 127.5]\n"
    )
    return path


@pytest.mark.parametrize("target", ["onnxruntime", "cpu"])
def test_from_onnx_to_a_measured_bundle(
    target: str, tmp_path: Path, tiny_onnx: Path, tiny_images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "out"
    arguments = (
        mine(tmp_path, tiny_onnx),
        "--target",
        target,
        "--data",
        tiny_images,
        "--output",
        folder,
        "--threads",
        1,
    )
    result = built(capsys, *arguments)
    for name, kind in RESULT_FIELDS.items():
        assert isinstance(result[name], kind), name
    assert result["accuracy"].keys() >= ACCURACY_FIELDS
    assert result["latency"].keys() >= LATENCY_FIELDS
    assert result["accuracy"]["float"] == 100.0
    assert result["accuracy"]["target"] == 100.0
    assert result["accuracy"]["num_images"] == 12
    assert result["accuracy"]["sqnr_db"] > 20
    assert result["latency"]["status"] == "measured"
    assert result["latency"]["p50_ms"] <= result["latency"]["p90_ms"] <= result["latency"]["p99_ms"]
    assert result["cached_stages"] == []
    assert json.loads((folder / "result.json").read_text()) == result
    again = built(capsys, *arguments)
    beside = ["compile", "observe", "observe"]
    assert again["cached_stages"] == [*STAGES, *beside], "the last ones are of the float network, to compare with"
    assert again["accuracy"] == result["accuracy"]


@pytest.mark.usefixtures("shared_store")
def test_the_manifest_lists_every_file_with_its_digest(
    tmp_path: Path, tiny_onnx: Path, tiny_images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "out"
    built(capsys, mine(tmp_path, tiny_onnx), "--target", "cpu", "--data", tiny_images, "--output", folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    listed = {entry["path"]: entry["sha256"] for entry in manifest["files"]}
    found = {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in ("manifest.json", "SHA256SUMS", "result.json", "result.json.sha256")
    }
    assert listed == found
    assert {"openvino/model.xml", "openvino/model.bin", "preprocess.json", "labels.txt"} <= found.keys()
    assert (folder / "labels.txt").read_text().split() == ["blue", "green", "red"]
    origin = manifest["origin"]
    assert origin["calibration_set"]["num_images"] == origin["test_set"]["num_images"] == 12
    assert str(tmp_path) not in (folder / "manifest.json").read_text()


@pytest.mark.usefixtures("shared_store")
def test_plain_onnx_says_that_preprocessing_is_assumed(
    tmp_path: Path, tiny_onnx: Path, tiny_images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = built(capsys, tiny_onnx, "--target", "onnxruntime", "--data", tiny_images, "--output", tmp_path / "out")
    assert "preprocessing assumed" in result["notes"][0]


@pytest.mark.usefixtures("shared_store")
def test_a_build_says_what_holding_the_drop_took(
    tmp_path: Path, crowded_onnx: Path, tiny_images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The network is too far off until the layers around its crowded tensor are back in float."""
    folder = tmp_path / "out"
    arguments = (mine(tmp_path, crowded_onnx), "--target", "cpu", "--data", tiny_images, "--output", folder)
    result = built(capsys, *arguments, "--max-drop-pp", 1)
    note = result["notes"][-1]
    assert "sensitive layers stay in float: the drop is 0.00 pp on 6 other images, 1 allowed" in note
    assert "all in integers" in note
    assert result["accuracy"]["num_images"] == 6
    assert any("sensitive" in layer["reason"] for layer in result["float_layers"])
    origin = json.loads((folder / "manifest.json").read_text())["origin"]
    assert (origin["max_drop_pp"], origin["deciding_set"]["num_images"]) == (1.0, 6)


@pytest.mark.usefixtures("shared_store")
def test_unlabelled_images_give_agreement(
    tmp_path: Path, tiny_onnx: Path, tiny_images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    for index, image in enumerate(sorted(tiny_images.rglob("*.png"))):
        shutil.copy(image, plain / f"{index}.png")
    result = built(
        capsys, mine(tmp_path, tiny_onnx), "--target", "onnxruntime", "--data", plain, "--output", tmp_path / "out"
    )
    assert result["accuracy"]["metric"] == "agreement"
    assert result["accuracy"]["float"] is None
    assert result["accuracy"]["agreement"] == 100.0


def test_random_weights_are_agreement_only_and_every_output_says_so(
    tmp_path: Path, tiny_images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["mobilenetv1", "--weights", "random", "--width-multiplier", 0.25, "--input-px", 32, "--num-classes", 3]
    arguments += ["--target", "onnxruntime", "--data", tiny_images, "--output", tmp_path / "out"]
    result = built(capsys, *arguments)
    assert result["accuracy"]["metric"] == "agreement"
    assert "random weights" in result["notes"][0]
    status, out, _ = run(capsys, "build", *arguments)
    assert status == 0
    assert "random weights" in out


@pytest.mark.usefixtures("shared_store")
def test_bundle_commands(
    tmp_path: Path,
    tiny_onnx: Path,
    tiny_images: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "out"
    built(capsys, mine(tmp_path, tiny_onnx), "--target", "cpu", "--data", tiny_images, "--output", folder)
    status, out, _ = run(capsys, "evaluate", folder, "--data", tiny_images, "--json")
    assert status == 0
    assert json.loads(out)["num_images"] == 24
    assert json.loads(out)["target"] == 100.0
    status, out, _ = run(capsys, "measure", folder, "--threads", 1, "--json")
    assert status == 0
    assert json.loads(out)["status"] == "measured"
    red = sorted((tiny_images / "red").iterdir())[0]
    status, out, _ = run(capsys, "run", folder, red, "--json")
    assert status == 0
    assert json.loads(out)[0]["classes"][0] == "red"
    status, out, _ = run(capsys, "run", folder, red, "--top", 2)
    assert status == 0
    assert out.splitlines()[1].endswith("red")
    there = ("--on", "ssh://nobody@nowhere")
    assert refused(capsys, "evaluate", folder, "--data", tiny_images, *there) == "cannot-run-there"
    with monkeypatch.context() as patch:
        patch.setattr(compiler, "find_spec", lambda _: None)
        assert refused(capsys, "measure", folder) == "cannot-run-here"
    (folder / "labels.txt").write_text("changed")
    assert refused(capsys, "measure", folder) == "corrupt-bundle"


def test_explain_before_and_after(
    tmp_path: Path, tiny_onnx: Path, tiny_images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = (mine(tmp_path, tiny_onnx), "--target", "onnxruntime", "--data", tiny_images)
    status, out, _ = run(capsys, "explain", *arguments, "--json")
    before = json.loads(out)
    assert status == 0
    assert [plan["stage"] for plan in before] == STAGES
    assert before[0]["reason"] == "never ran"
    assert before[1]["reason"] == "needs the result of importonnx"
    built(capsys, *arguments, "--output", tmp_path / "out")
    _, out, _ = run(capsys, "explain", *arguments)
    assert [line.split()[0] for line in out.splitlines()] == ["kept"] * len(STAGES) + ["run"]
    _, out, _ = run(capsys, "explain", *arguments, "--quantizer", "accurate")
    assert "parameters.level: fast -> accurate" in out
    several = (*arguments[:2], "onnxruntime,cpu", *arguments[3:])
    _, out, _ = run(capsys, "explain", *several)
    assert [line for line in out.splitlines() if line.endswith(":")] == ["onnxruntime:", "cpu:"]
    _, out, _ = run(capsys, "explain", *several, "--json")
    assert {target: plans[0]["cached"] for target, plans in json.loads(out).items()} == {
        "onnxruntime": True,
        "cpu": True,
    }


@pytest.mark.usefixtures("shared_store")
class TestRefusals:
    """Bad input: a clear error, exit status 1, and nothing left behind."""

    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path) -> Path:
        return tmp_path / "out"

    def code(self, capsys: pytest.CaptureFixture[str], folder: Path, *arguments: object) -> str:
        code = refused(capsys, "build", *arguments, "--output", folder)
        assert not folder.exists()
        assert not list(folder.parent.glob(".out*"))
        return code

    def test_unknown_names(self, capsys: pytest.CaptureFixture[str], folder: Path) -> None:
        assert self.code(capsys, folder, "mobilnetv2", "--target", "cpu") == "unknown-model"
        assert self.code(capsys, folder, "mobilenetv2", "--target", "cpi") == "unknown-target"

    def test_a_drop_among_integers_alone(
        self, capsys: pytest.CaptureFixture[str], folder: Path, crowded_onnx: Path, tiny_images: Path
    ) -> None:
        """Where no layer can stay in float, the limit is a condition."""
        network = mine(folder.parent, crowded_onnx)
        arguments = (network, "--target", "arm", "--data", tiny_images, "--max-drop-pp", 1)
        assert self.code(capsys, folder, *arguments) == "drop-not-held"

    def test_weights_needed(self, capsys: pytest.CaptureFixture[str], folder: Path) -> None:
        assert self.code(capsys, folder, "xception65", "--target", "cpu") == "weights-needed"

    def test_data_needed(self, capsys: pytest.CaptureFixture[str], folder: Path, tiny_onnx: Path) -> None:
        assert self.code(capsys, folder, tiny_onnx, "--target", "cpu") == "data-needed"

    def test_conflicting_data(
        self, capsys: pytest.CaptureFixture[str], folder: Path, tiny_onnx: Path, tiny_images: Path
    ) -> None:
        assert self.code(capsys, folder, tiny_onnx, "--target", "cpu", "--test-data", tiny_images) == "conflicting-data"

    def test_option_not_for_onnx(self, capsys: pytest.CaptureFixture[str], folder: Path, tiny_onnx: Path) -> None:
        assert (
            self.code(capsys, folder, tiny_onnx, "--target", "cpu", "--width-multiplier", 0.5) == "option-not-for-onnx"
        )

    def test_bad_model_file(self, capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path) -> None:
        (tmp_path / "m.toml").write_text('onnx = "x.onnx"\nmean = 3\n')
        assert self.code(capsys, folder, tmp_path / "m.toml", "--target", "cpu") == "bad-model-file"

    def test_truncated_onnx(
        self, capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path, tiny_onnx: Path, tiny_images: Path
    ) -> None:
        path = mine(tmp_path, tiny_onnx)
        (tmp_path / "tiny.onnx").write_bytes(tiny_onnx.read_bytes()[:400])
        assert self.code(capsys, folder, path, "--target", "cpu", "--data", tiny_images) == "corrupt-onnx"

    def test_other_classes(
        self, capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path, tiny_onnx: Path, tiny_images: Path
    ) -> None:
        other = tmp_path / "other"
        shutil.copytree(tiny_images, other)
        (other / "red").rename(other / "yellow")
        assert (
            self.code(capsys, folder, mine(tmp_path, tiny_onnx), "--target", "cpu", "--data", other) == "class-mismatch"
        )

    def test_broken_image(
        self, capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path, tiny_onnx: Path, tiny_images: Path
    ) -> None:
        broken = tmp_path / "broken"
        shutil.copytree(tiny_images, broken)
        (broken / "red" / "3.png").write_bytes(b"\x89PNG not really")
        assert (
            self.code(capsys, folder, mine(tmp_path, tiny_onnx), "--target", "onnxruntime", "--data", broken)
            == "unreadable-image"
        )

    def test_operator_that_the_target_cannot_take(
        self, capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path, tiny_images: Path
    ) -> None:
        model = tiny_network()
        model.graph.node[1].CopyFrom(helper.make_node("Relu", ["c1"], ["x1"], "relu"))
        model.graph.node.insert(2, helper.make_node("Det", ["x1"], ["det"], "volume"))
        model.graph.node.insert(3, helper.make_node("Identity", ["x1"], ["r1"]))
        model.graph.output.append(helper.make_tensor_value_info("det", 1, ["N", 6]))
        onnx.save(model, tmp_path / "m.onnx")
        status, _, err = run(
            capsys, "build", tmp_path / "m.onnx", "--target", "cpu", "--data", tiny_images, "--output", folder
        )
        assert status == 1
        assert "error[unsupported-operator]" in err
        assert "'Det'" in err
        assert "'volume'" in err

    def test_output_that_is_no_bundle(
        self, capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path, tiny_onnx: Path, tiny_images: Path
    ) -> None:
        folder.mkdir()
        (folder / "thesis.txt").write_text("only copy")
        arguments = ("build", mine(tmp_path, tiny_onnx), "--target", "cpu", "--data", tiny_images, "--output", folder)
        assert refused(capsys, *arguments) == "output-exists"
        assert (folder / "thesis.txt").read_text() == "only copy"

    def test_output_below_a_file(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path, tiny_onnx: Path, tiny_images: Path
    ) -> None:
        (tmp_path / "file").write_text("")
        arguments = (
            "build",
            mine(tmp_path, tiny_onnx),
            "--target",
            "onnxruntime",
            "--data",
            tiny_images,
            "--output",
            tmp_path / "file" / "x",
        )
        assert refused(capsys, *arguments) == "output-not-writable"

    def test_no_bundle(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        assert refused(capsys, "measure", tmp_path / "gone") == "no-such-file"
        assert refused(capsys, "measure", tmp_path) == "no-bundle"


HANGS_IN = """
import json, os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a runner in the background ignores it; children inherit that
import edgec.pipeline.deliver as deliver
import edgec.pipeline.core.store as store
import edgec.pipeline.quantize.quantizer, edgec.targets.onnxruntime, onnx, onnxruntime, scipy.stats
from edgec.pipeline.cli import main

how, stages, arguments = int(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3:]
make, ends = store.Store._make, {}
assert main(["explain", *arguments[1:-2]]) == 0  # whatever is imported and read once is there for all forks

def build(hang, stage):
    store.Store._make = lambda self, s, *a: hang() if store.stage_name(s) == stage else make(self, s, *a)
    if stage == "measure":
        deliver.latency_of = hang
    return main(arguments)

for stage in stages:
    here, there = os.pipe()
    child = os.fork()
    if child == 0:
        sys.exit(build(lambda *_: (os.write(there, b"x"), time.sleep(60)), stage))
    os.close(there)
    os.read(here, 1)
    os.kill(child, how)
    ends[stage] = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), os.path.exists("out")]
print(json.dumps(ends))
"""
"""A fork for each stage, of one process that has imported what a build needs."""


@pytest.mark.parametrize(("how", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_interrupted_in_every_stage(
    how: signal.Signals,
    status: int,
    tmp_path: Path,
    tiny_onnx: Path,
    tiny_images: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ctrl-C or kill -9 in each stage in turn: no output, no half result, and every run continues the last one."""
    monkeypatch.chdir(tmp_path)
    arguments = [str(mine(tmp_path, tiny_onnx)), "--target", "onnxruntime", "--data", str(tiny_images)]
    arguments += ["--output", "out"]
    stages = [*STAGES, "measure"]
    program = [sys.executable, "-c", HANGS_IN, str(int(how)), json.dumps(stages), "build", *arguments]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == {stage: [status, False] for stage in stages}
    assert "Traceback" not in done.stderr
    assert built(capsys, *arguments)["cached_stages"] == STAGES
    assert (tmp_path / "out" / "manifest.json").is_file()


def test_store_on_a_full_disk(
    tmp_path: Path,
    tiny_onnx: Path,
    tiny_images: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """/dev/full stands in for the disk: every write to it fails with ENOSPC, as on a full one."""
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full on this system")

    def write(array: np.ndarray, path: Path) -> None:
        full.write_bytes(b"x" * 100_000)

    monkeypatch.setattr(onnx, "save", write)
    arguments = (
        "build",
        mine(tmp_path, tiny_onnx),
        "--target",
        "onnxruntime",
        "--data",
        tiny_images,
        "--output",
        tmp_path / "out",
    )
    assert refused(capsys, *arguments) == "disk-full"
    monkeypatch.undo()
