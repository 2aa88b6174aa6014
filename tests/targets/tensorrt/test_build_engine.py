"""build_engine.py on stand-ins for TensorRT and CUDA: order, flags, proof, refusals. It measures no GPU."""

from __future__ import annotations

import errno
import fcntl
import json
import py_compile
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from seen_codes import note
from stand_ins import StandIn

from edgec.pipeline.tasks.metrics import sqnr_db
from edgec.targets.tensorrt import build_engine
from edgec.targets.tensorrt.compiler import SCRIPT

PRODUCTS = ["engine.json", "model.engine", "timing.cache"]


def answer(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """What programs read: progress lines, then one answer, and nothing else."""
    *progress, last = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(line.keys() == {"done", "total"} for line in progress)
    value: dict[str, Any] = last
    assert done.returncode == (1 if "error" in value else 0)
    if "error" in value:
        note(value["error"])
    assert ("Traceback" in done.stderr) == ("Error: stand-in" in value.get("message", "")), done.stderr
    return value


def products(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name in PRODUCTS or path.suffix == ".part")


def record_in(folder: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((folder / "engine.json").read_text())
    return value


def test_it_builds_proves_measures_and_keeps_everything(artifact: Path, stand_in: StandIn) -> None:
    done = stand_in.run(artifact)
    found = answer(done)
    assert products(artifact) == PRODUCTS
    assert found["key"]["gpu"] == "stand-in GPU"
    assert found["key"]["tensorrt"] == "10.3.0+stand-in"
    assert found["golden"]["num_golden"] == found["golden"]["agreed"] == 4
    assert found["golden"]["sqnr_db"] > 10
    assert found["status"] == "proved"
    assert found["layers"]["reformats"] == 1
    assert found["layers"]["int8"] + found["layers"]["fp16"] + 1 == found["layers"]["total"]
    assert len(found["layer_kinds"]) == found["layers"]["total"]
    assert found["unaccounted"] == []
    assert len(found["latency"]["gpu_ms"]) == len(found["latency"]["host_ms"]) >= 20
    assert found["latency"]["images_per_s"] > 0
    assert found["latency"]["copy_ms"].keys() == {"in", "out"}
    assert list(found["phases_s"]) == ["build", "load", "inspect", "prove", "measure"]
    assert record_in(artifact) == {key: value for key, value in found.items() if key != "products"}
    assert "trtexec --onnx=model_typed.onnx" in done.stderr
    assert "stand-in: a warning" in done.stderr
    assert "nobody reads this" not in done.stderr
    for told in ("build ...", "prove ...", "measure ..."):
        assert told in done.stderr


def test_an_engine_is_built_once_and_again_for_another_version(artifact: Path, stand_in: StandIn) -> None:
    for _ in range(2):
        answer(stand_in.run(artifact))
    assert stand_in.calls().count("build") == 1
    answer(stand_in.run(artifact, version="8.6.1"))
    assert stand_in.calls().count("build") == 2
    assert "timing cache of 21 bytes" in stand_in.calls()
    (artifact / "model.engine").write_bytes(b"damaged")
    answer(stand_in.run(artifact, version="8.6.1"))
    assert stand_in.calls().count("build") == 3


@pytest.mark.parametrize(
    ("version", "file", "network", "flags"),
    [
        ("8.5.2", "model.onnx", 1, ["FP16", "INT8"]),
        ("8.6.1", "model.onnx", 1, ["FP16", "INT8"]),
        ("10.2.0", "model.onnx", 0, ["FP16", "INT8"]),
        ("10.3.0", "model_typed.onnx", 2, []),
        ("11.4.0", "model_typed.onnx", 2, []),
    ],
)
def test_precision_in_the_words_of_each_version(
    version: str, file: str, network: int, flags: list[str], artifact: Path, stand_in: StandIn
) -> None:
    done = stand_in.run(artifact, version=version)
    assert answer(done)["key"]["typed"] == (file == "model_typed.onnx")
    calls = stand_in.calls()
    assert f"network {network}" in calls
    assert f"parse {file}" in calls
    assert [call.removeprefix("flag ") for call in calls if call.startswith("flag")] == flags
    assert f"workspace {512 << 20}" in calls
    assert (json.dumps({"done": 1, "total": 2}) in done.stdout) == version.startswith("1")


def test_the_builders_effort_is_passed_on_and_another_engine_results(artifact: Path, stand_in: StandIn) -> None:
    for words, level in (((), 3), (("--level", "1"), 1), (("--level", "1"), 1)):
        found = answer(stand_in.run(artifact, *words))
        assert found["key"]["level"] == (1 if words else None)
        assert f"level {level}" in stand_in.calls()
    assert stand_in.calls().count("build") == 2
    assert answer(stand_in.run(artifact, "--level", "1", version="8.5.2"))["error"] == "wrong-tensorrt"


def test_flags_may_be_asked_for_where_both_ways_exist(artifact: Path, stand_in: StandIn) -> None:
    """TensorRT 10 takes either file; an engine of the one is none of the other."""
    answer(stand_in.run(artifact))
    assert answer(stand_in.run(artifact, "--flags"))["key"]["typed"] is False
    assert [call for call in stand_in.calls() if call.startswith("parse")] == [
        "parse model_typed.onnx",
        "parse model.onnx",
    ]
    assert answer(stand_in.run(artifact, "--flags", version="11.4.0"))["error"] == "wrong-tensorrt"


def test_fp16_asks_for_no_int8(artifact: Path, stand_in: StandIn) -> None:
    change_spec(artifact, precision="fp16", int8_layers=[])
    answer(stand_in.run(artifact, version="8.6.1"))
    assert [call for call in stand_in.calls() if call.startswith("flag")] == ["flag FP16"]


def test_images_travel_as_raw_float32(artifact: Path, stand_in: StandIn, tmp_path: Path) -> None:
    spec = json.loads((artifact / "engine_spec.json").read_text())
    values = np.fromfile(artifact / "golden.bin", np.float32)
    size = spec["num_golden"] * int(np.prod(spec["input_shape"]))
    values[:size].tofile(tmp_path / "in.bin")
    done = stand_in.run(artifact, "--predict", str(tmp_path / "in.bin"), str(tmp_path / "out.bin"))
    assert answer(done)["num_images"] == 4
    assert json.dumps({"done": 4, "total": 4}) in done.stdout
    outputs, expected = np.fromfile(tmp_path / "out.bin", np.float32), values[size:]
    np.testing.assert_allclose(outputs, expected, atol=0.1 * float(np.abs(expected).max()))


OUTPUTS = {"logits": [1, 16, 1, 1], "rows": [1, 16, 64], "winner": [1, 8, 8], "second.dq": [1, 16, 8, 8]}


def test_several_outputs_stand_image_by_image_in_the_files_order(
    several: Path, stand_in: StandIn, tmp_path: Path
) -> None:
    """In golden.bin and in what is predicted, whatever order TensorRT lists them in; integers become float32."""
    spec = json.loads((several / "engine_spec.json").read_text())
    assert spec["outputs"] == OUTPUTS
    model = onnx.load(several / "model.onnx")
    assert [value.name for value in model.graph.output] == list(OUTPUTS)
    images, answers = np.split(np.fromfile(several / "golden.bin", np.float32), [4 * 16 * 64])
    sizes = [int(np.prod(shape)) for shape in OUTPUTS.values()]
    expected = np.split(answers.reshape(4, sum(sizes)), np.cumsum(sizes)[:-1], axis=1)
    session = ort.InferenceSession(model.SerializeToString())
    for row, image in enumerate(images.reshape(4, 1, 16, 8, 8)):
        for name, wanted in zip(OUTPUTS, expected, strict=True):
            found = session.run([name], {"input": image})[0]
            assert sqnr_db(found.reshape(-1), wanted[row]) > 20, name
    images.tofile(tmp_path / "in.bin")
    found = answer(stand_in.run(several, "--predict", str(tmp_path / "in.bin"), str(tmp_path / "out.bin")))
    assert (found["golden"]["agreed"], found["status"], found["num_images"]) == (4, "proved", 4)
    predicted = np.fromfile(tmp_path / "out.bin", np.float32).reshape(4, sum(sizes))
    for values, wanted in zip(np.split(predicted, np.cumsum(sizes)[:-1], axis=1), expected, strict=True):
        assert sqnr_db(values, wanted) > 20


def test_every_output_is_proved(several: Path, stand_in: StandIn) -> None:
    found = answer(stand_in.run(several, fault="wrong-last-output"))
    assert (found["error"], "'second.dq' has" in found["message"]) == ("golden-mismatch", True)


@pytest.mark.parametrize(
    ("outputs", "words"), [({"logits": [1, 16, 1, 1]}, "one input and logits"), (OUTPUTS | {"x": [1]}, "x, got")]
)
def test_an_engine_with_other_outputs(
    outputs: dict[str, list[int]], words: str, several: Path, stand_in: StandIn
) -> None:
    change_spec(several, outputs=outputs)
    found = answer(stand_in.run(several))
    assert (found["error"], words in found["message"]) == ("foreign-engine", True)


def change_spec(artifact: Path, **fields: Any) -> None:
    path = artifact / "engine_spec.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


REFUSALS: list[tuple[str, dict[str, str], dict[str, Any]]] = [
    ("wrong-gpu", {"compute_capability": "7.2"}, {}),
    ("wrong-gpu", {"compute_capability": "5.3"}, {"compute_capability": None}),
    ("missing-driver", {"no_gpu": "1"}, {}),
    ("wrong-tensorrt", {"version": "8.4.1"}, {}),
    ("wrong-tensorrt", {"version": "12.0.0"}, {}),
    ("wrong-tensorrt", {"version": "11.4.0"}, {"typed_sha256": None}),
    ("wrong-tensorrt", {"version": "8.5.2"}, {"hardware_compatible": True}),
    ("wrong-tensorrt", {"version": "8.5.2"}, {"version_compatible": True}),
]
FAILED_BUILDS = [("bad-onnx", "cannot read"), ("no-engine", "[mergeScales] Assertion failed")]
REFUSED_ENGINES: list[tuple[str, dict[str, str], dict[str, Any]]] = [
    ("foreign-engine", {"fault": "foreign"}, {}),
    ("cuda-failed", {"fault": "no-start"}, {}),
    ("golden-mismatch", {"fault": "wrong-answers"}, {}),
    ("golden-mismatch", {"fault": "nan-answers"}, {}),
    ("too-many-reformats", {}, {"max_reformats": 0}),
    ("wrong-precision", {"fault": "float-layers"}, {}),
    ("wrong-precision", {"fault": "broken-json"}, {}),
]


@pytest.mark.parametrize(("code", "settings", "spec"), REFUSALS, ids=lambda value: str(value))
def test_refusals_before_the_build_leave_nothing_behind(
    code: str, settings: dict[str, str], spec: dict[str, Any], artifact: Path, stand_in: StandIn
) -> None:
    change_spec(artifact, **spec)
    assert answer(stand_in.run(artifact, **settings))["error"] == code
    assert products(artifact) == []


@pytest.mark.parametrize(("fault", "words"), FAILED_BUILDS)
def test_a_failed_build_says_and_keeps_tensorrts_last_words(
    fault: str, words: str, artifact: Path, stand_in: StandIn
) -> None:
    found = answer(stand_in.run(artifact, fault=fault))
    assert found["error"] == "engine-build-failed"
    assert words in found["message"]
    assert products(artifact) == ["engine.json"]
    record = record_in(artifact)
    assert (record["status"], record["refusal"]) == ("failed", found)
    assert answer(stand_in.run(artifact))["status"] == "proved"


@pytest.mark.parametrize(("code", "settings", "spec"), REFUSED_ENGINES, ids=lambda value: str(value))
def test_an_engine_that_is_refused_is_kept_and_marked(
    code: str, settings: dict[str, str], spec: dict[str, Any], artifact: Path, stand_in: StandIn
) -> None:
    change_spec(artifact, **spec)
    found = answer(stand_in.run(artifact, **settings))
    assert found["error"] == code
    assert products(artifact) == PRODUCTS
    record = record_in(artifact)
    assert (record["status"], record["refusal"]) == ("refused", found)
    again = answer(stand_in.run(artifact, **settings))
    assert (again, stand_in.calls().count("build")) == (found, 1)
    if not spec:  # what was wrong is mended: the same engine is proved, and no mark stays
        assert answer(stand_in.run(artifact))["status"] == "proved"
        assert "refusal" not in record_in(artifact)
        assert stand_in.calls().count("build") == 1


def test_wrong_precision_names_the_layers(artifact: Path, stand_in: StandIn) -> None:
    spec = json.loads((artifact / "engine_spec.json").read_text())
    found = answer(stand_in.run(artifact, fault="float-layers"))
    assert found["error"] == "wrong-precision"
    assert all(f"'{name}'" in found["message"] for name in spec["int8_layers"][:5])
    change_spec(artifact, int8_layers=[], fp16_layers=spec["int8_layers"])
    assert answer(stand_in.run(artifact))["status"] == "proved"  # INT8 where FP16 was promised is no loss


def test_types_are_promised_by_the_typed_file_only(artifact: Path, stand_in: StandIn) -> None:
    """With flags FP16 is allowed to the builder, with types it is demanded."""
    change_spec(artifact, int8_layers=[], fp16_layers=["first"])
    model = onnx.load(artifact / "model_typed.onnx")
    name = next(node.name for node in model.graph.node if node.op_type == "Conv")
    change_spec(artifact, fp16_layers=[name])
    assert answer(stand_in.run(artifact, version="8.6.1", fault="float-layers"))["status"] == "proved"
    assert answer(stand_in.run(artifact, version="10.3.0", fault="float-layers"))["error"] == "wrong-precision"


def test_layers_that_tensorrt_hides_are_counted_and_named(artifact: Path, stand_in: StandIn) -> None:
    found = answer(stand_in.run(artifact, fault="hidden-layers"))
    spec = json.loads((artifact / "engine_spec.json").read_text())
    assert found["unaccounted"] == [*spec["fp16_layers"], *spec["int8_layers"]]
    assert found["layers"]["int8"] > 0


def test_a_build_waits_for_the_one_before_it(artifact: Path, stand_in: StandIn) -> None:
    """Both would choose kernels by times that the other one spoils."""
    assert stand_in.run(artifact).returncode == 0
    (lock,) = stand_in.log.parent.glob(".cache/edgec/tensorrt/*.lock")
    (artifact / "model.engine").unlink()
    built = stand_in.calls().count("build")
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        command = stand_in.command(artifact)
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, env=stand_in.environment(), **pipes) as waiting:
            assert waiting.stderr is not None
            assert next(line for line in waiting.stderr if line.startswith("waiting: another build"))
            assert stand_in.calls().count("build") == built
            fcntl.flock(held, fcntl.LOCK_UN)
            out, _ = waiting.communicate(timeout=60)
    assert json.loads(out.splitlines()[-1])["status"] == "proved"
    assert stand_in.calls().count("build") == built + 1


def test_a_cache_that_cannot_be_written_stops_no_build(artifact: Path, stand_in: StandIn) -> None:
    (stand_in.log.parent / ".cache").write_text("a file where a folder should be")
    done = stand_in.run(artifact)
    assert answer(done)["status"] == "proved"
    assert "warning: nothing keeps other builds off this GPU" in done.stderr


@pytest.mark.parametrize("fault", ["chatter", "chatter no-engine", "chatter wrong-answers", "chatter raises-late"])
def test_what_libraries_print_is_not_the_answer(fault: str, artifact: Path, stand_in: StandIn) -> None:
    done = stand_in.run(artifact, fault=fault)
    assert ("error" in answer(done)) == (fault != "chatter")
    assert "none of ours" not in done.stdout
    assert "words on standard output" in done.stderr


@pytest.mark.parametrize(
    ("fault", "words", "kept"),
    [
        ("raises", "RuntimeError: stand-in: nobody foresaw this", []),
        ("raises-late", "RuntimeError: stand-in: nobody foresaw this", PRODUCTS),
        ("dies-late", "ended with signal 11 while it was to prove", PRODUCTS),
    ],
)
def test_what_nobody_foresaw_is_an_answer_and_the_engine_stays(
    fault: str, words: str, kept: list[str], artifact: Path, stand_in: StandIn
) -> None:
    found = answer(stand_in.run(artifact, fault=fault))
    assert found["error"] == "engine-crashed"
    assert words in found["message"]
    assert products(artifact) == kept
    if kept:
        assert record_in(artifact)["status"] == "built"
    assert answer(stand_in.run(artifact))["status"] == "proved"
    assert stand_in.calls().count("build") == 1 + (not kept)


def test_timing_caches_are_shared_between_bundles(artifact: Path, stand_in: StandIn, tmp_path: Path) -> None:
    other = Path(shutil.copytree(artifact, tmp_path / "other"))
    for folder, size in ((artifact, 0), (other, 21)):
        answer(stand_in.run(folder))
        assert stand_in.calls()[-5:].count(f"timing cache of {size} bytes") == 1
    answer(stand_in.run(other, version="10.4.0"))  # another version, another cache; this bundle's own is tried
    (tmp_path / "not a folder").write_text("")
    third = Path(shutil.copytree(other, tmp_path / "third", ignore=shutil.ignore_patterns(*PRODUCTS)))
    done = stand_in.run(third, "--timing-cache", str(tmp_path / "not a folder" / "cache"))
    assert answer(done)["status"] == "proved"
    assert "the timing cache is not shared" in done.stderr


def test_before_10_a_timing_cache_is_its_networks_own(artifact: Path, stand_in: StandIn, tmp_path: Path) -> None:
    """Seen on a GPU: 8.6 takes none that another network has left."""
    same, other = (Path(shutil.copytree(artifact, tmp_path / name)) for name in ("same", "other"))
    spec = json.loads((other / "engine_spec.json").read_text())
    (other / "engine_spec.json").write_text(json.dumps({**spec, "least_sqnr_db": 11.0}))
    for folder, size in ((artifact, 0), (same, 21), (other, 0)):
        assert answer(stand_in.run(folder, version="8.6.1"))["status"] == "proved"
        assert [call for call in stand_in.calls() if call.startswith("timing cache")][
            -1
        ] == f"timing cache of {size} bytes"


def test_kernels_load_when_they_are_used(artifact: Path, stand_in: StandIn) -> None:
    answer(stand_in.run(artifact))
    assert "CUDA_MODULE_LOADING=LAZY" in stand_in.calls()


def test_several_outputs_of_several_images_at_a_time(several: Path, stand_in: StandIn) -> None:
    single = answer(stand_in.run(several))
    assert answer(stand_in.run(several, "--batch", "3"))["golden"] == pytest.approx(single["golden"])


@pytest.mark.parametrize("batch", [3, 8])
def test_several_images_at_a_time(batch: int, artifact: Path, stand_in: StandIn) -> None:
    """An engine of its own beside the other, proved by the same inputs."""
    single = answer(stand_in.run(artifact))
    found = answer(stand_in.run(artifact, "--batch", str(batch)))
    assert found["golden"] == pytest.approx(single["golden"])
    assert found["latency"]["batch"] == batch
    names = {path.name for path in artifact.iterdir()}
    assert {f"batch{batch}-{name}" for name in PRODUCTS} | set(PRODUCTS) <= names
    assert answer(stand_in.run(artifact, "--batch", str(batch)))["status"] == "proved"
    assert stand_in.calls().count("build") == 2


def test_wrong_answers_in_one_place_of_a_batch_are_found(artifact: Path, stand_in: StandIn) -> None:
    found = answer(stand_in.run(artifact, "--batch", "3", fault="wrong-answers"))
    assert found["error"] == "golden-mismatch"


def test_cuda_graphs_are_reported_as_such(artifact: Path, stand_in: StandIn) -> None:
    assert answer(stand_in.run(artifact))["latency"]["cuda_graph"] is False
    assert answer(stand_in.run(artifact, "--cuda-graph"))["latency"]["cuda_graph"] is True
    assert record_in(artifact)["latency"]["cuda_graph"] is True


def test_an_engine_for_later_versions(artifact: Path, stand_in: StandIn) -> None:
    """It brings code along, which the runtime must be allowed to use."""
    change_spec(artifact, version_compatible=True)
    assert answer(stand_in.run(artifact))["status"] == "proved"
    assert "flag VERSION_COMPATIBLE" in stand_in.calls()


@pytest.mark.parametrize("name", ["model.onnx", "model_typed.onnx", "golden.bin"])
def test_changed_and_missing_files(name: str, artifact: Path, stand_in: StandIn) -> None:
    content = bytearray((artifact / name).read_bytes())
    content[len(content) // 2] ^= 1
    (artifact / name).write_bytes(content)
    found = answer(stand_in.run(artifact, "--check"))
    assert found["error"] == "tampered-file"
    assert name in found["message"]
    (artifact / name).unlink()
    assert answer(stand_in.run(artifact, "--check"))["error"] == "missing-file"
    assert stand_in.calls() == []


def test_without_driver_and_without_tensorrt(artifact: Path, stand_in: StandIn) -> None:
    environment = stand_in.environment()
    for name, code in (("PYTHONPATH", "missing-tensorrt"), ("LD_LIBRARY_PATH", "missing-driver")):
        left = {key: value for key, value in environment.items() if key != name}
        command = stand_in.command(artifact, "--check")
        done = subprocess.run(command, env=left, capture_output=True, text=True, check=False)
        if code == "missing-driver" and answer(done).get("error") != code:
            pytest.skip("this machine has an NVIDIA driver")
        assert answer(done)["error"] == code


def test_a_full_disk_keeps_what_was_there(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PRODUCTS:
        (artifact / name).write_text("old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(build_engine.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        build_engine.keep(str(artifact), dict.fromkeys(PRODUCTS, b"new"))
    assert {(artifact / name).read_text() for name in PRODUCTS} == {"old"}


def test_killed_while_building_and_tried_again(artifact: Path, stand_in: StandIn) -> None:
    process = subprocess.Popen(stand_in.command(artifact), env=stand_in.environment(fault="hang"))
    deadline = time.monotonic() + 30
    while "build" not in stand_in.calls() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert products(artifact) == []
    answer(stand_in.run(artifact))
    assert products(artifact) == PRODUCTS


def test_python_38_takes_the_file(tmp_path: Path) -> None:
    """With Python 3.8 itself where it is installed; its grammar through ``feature_version`` everywhere."""
    import ast

    ast.parse(SCRIPT.read_text(), feature_version=(3, 8))
    py_compile.compile(str(SCRIPT), str(tmp_path / "out.pyc"), doraise=True)
    candidates = [*Path.home().glob(".pyenv/versions/3.8.*/bin/python"), shutil.which("python3.8")]
    for old in filter(None, candidates):
        done = subprocess.run([str(old), str(SCRIPT), "--help"], capture_output=True, text=True, check=False)
        if done.returncode != 127:  # a version manager's word for "not installed"
            assert "build_engine.py --check" in done.stdout
            return
    pytest.skip("no Python 3.8 here: only its grammar was checked")


HERE = """
import sys
import numpy as np
from pathlib import Path
from edgec.pipeline.forms.spec import load_target
from edgec.targets.tensorrt import open_runner, probe, settings

target = settings(load_target("jetson"))
found = probe(target)
runner = open_runner(Path(sys.argv[1]), target, 1)
outputs = runner.predict(np.random.default_rng(0).standard_normal((3, 16, 8, 8)).astype(np.float32))
runner.single(np.zeros((1, 16, 8, 8), np.float32))()
print(found.can_run, found.facts, *(f"{one.shape}{one.dtype}" for one in outputs), sep="|")
"""


@pytest.mark.parametrize("version_compatible", [False, True])
def test_a_gpu_in_this_machine_runs_the_engine_in_process(
    version_compatible: bool, artifact: Path, stand_in: StandIn, tmp_path: Path
) -> None:
    change_spec(artifact, version_compatible=version_compatible)
    environment = stand_in.environment() | {"EDGEC_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-c", HERE, str(artifact)]
    for _ in range(2):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        facts = "TensorRT 10.3.0+stand-in, stand-in GPU (8.7), CUDA 12.6"
        assert done.stdout.strip() == f"True|{facts}|(3, 16, 1, 1)float32"
    assert stand_in.calls().count("build") == 1


def test_a_gpu_in_this_machine_gives_every_output(several: Path, stand_in: StandIn, tmp_path: Path) -> None:
    environment = stand_in.environment() | {"EDGEC_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-c", HERE, str(several)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    shapes = [f"{(3, *shape[1:])}float32" for shape in OUTPUTS.values()]
    assert done.stdout.strip().split("|")[2:] == shapes
