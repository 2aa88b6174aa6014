"""What a Jetson says is checked field by field before anything is made of it; nothing else of it is fetched."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec.pipeline.core.errors import EdgecError
from edgec.targets.devices.answer import Transcript
from edgec.targets.tensorrt.device import DeviceEngine
from edgec.targets.tensorrt.format import SCHEMA, read_spec

STATE = {"clock_mhz": 1300, "clocks_locked": False, "power_mode": "MAXN", "tegrastats": None, "nvidia_smi": None}
KEY = {"gpu": "Orin", "compute_capability": "8.7", "driver": "CUDA 12.6", "tensorrt": "10.3.0", "typed": False}
TIMES = {"gpu_ms": [1.0, 2.0], "host_ms": [1.5, 2.5], "num_warmup": 3, "before": STATE, "after": STATE}
GOLDEN = {"num_golden": 4, "agreed": 4, "sqnr_db": 40.5}
ANSWER = {"key": KEY, "layers": {"total": 3, "reformats": 1}, "golden": GOLDEN, "latency": TIMES}
OTHERS = (None, 5, "x", [], {}, [{}], "9" * 5000, {"gpu_ms": ["x"]})


class Says:
    """A device whose scripts answer what it was told, and whose every file is ``content``."""

    name = "ssh://jetson"

    def __init__(self, answer: object, content: bytes = b"") -> None:
        self._answer, self._content = answer, content
        self.pulled: list[str] = []

    def push(self, path: Path, progress: object = None) -> str:
        return f"/home/x/{path.name}"

    def run(self, script: Path, arguments: Sequence[str], timeout_s: float, progress: object = None) -> dict[str, Any]:
        transcript = Transcript(self.name)
        transcript.feed(json.dumps(self._answer).encode() + b"\n")
        return transcript.answer(0)

    def pull(self, there: str, path: Path) -> None:
        self.pulled.append(there)
        path.write_bytes(self._content)


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    (tmp_path / "engine_spec.json").write_text(json.dumps({"schema": SCHEMA, "outputs": {"y": [1, 3]}}))
    return tmp_path


def refusal(device: Says, artifact: Path, what: str) -> EdgecError:
    engine = DeviceEngine(device, artifact)  # type: ignore[arg-type]
    with pytest.raises(EdgecError) as caught:
        engine.fetch(artifact) if what == "fetch" else getattr(engine, what)()
    assert caught.value.code == "remote-failed"
    return caught.value


def test_a_good_answer(artifact: Path) -> None:
    cost = DeviceEngine(Says(ANSWER), artifact).cost()  # type: ignore[arg-type]
    assert (cost.latency.p50_ms, cost.latency.num_samples, cost.latency.num_warmup) == (1.5, 2, 3)
    assert cost.latency.device == "Orin (8.7), TensorRT 10.3.0, CUDA 12.6"
    assert "power mode MAXN" in cost.latency.note
    assert cost.board["layers"]["reformats"] == 1
    assert cost.board["before"] == STATE


class Refuses(Says):
    """Takes the artifact, and refuses the engine of another one."""

    def __init__(self, answer: object, code: str) -> None:
        super().__init__(answer)
        self._code = code

    def run(self, script: Path, arguments: Sequence[str], timeout_s: float, progress: object = None) -> dict[str, Any]:
        if script.parent.name == "float":
            raise EdgecError(self._code, "no memory for it", "")
        return super().run(script, arguments, timeout_s, progress)


def test_float_is_timed_before_and_after(artifact: Path) -> None:
    """Ten blocks of each in one process: those of float before it beside its own first ones."""
    samples = {"gpu_ms": [2.0] * 10, "host_ms": [3.0] * 10}
    asked: list[float] = []

    class Both(Says):
        def run(
            self, script: Path, arguments: Sequence[str], timeout_s: float, progress: object = None
        ) -> dict[str, Any]:
            asked.append(float(arguments[arguments.index("--budget-s") + 1]))
            own = script.parent.name != "float"
            self._answer = ANSWER | {
                "latency": TIMES | ({"gpu_ms": [1.0] * 10, "host_ms": [3.0] * 10} if own else samples)
            }
            return super().run(script, arguments, timeout_s, progress)

    (artifact / "float").mkdir()
    latency = DeviceEngine(Both(ANSWER), artifact).cost(artifact / "float").latency  # type: ignore[arg-type]
    assert asked == [4.0, 8.0, 4.0]
    assert (latency.p50_ms, latency.num_samples, latency.no_float) == (1.0, 10, "")
    assert latency.beside_float is not None
    assert (latency.beside_float.float_p50_ms, latency.beside_float.speedup) == (2.0, 2.0)


def test_a_device_that_makes_no_engine_of_float_says_why(artifact: Path) -> None:
    (artifact / "float").mkdir()
    engine = DeviceEngine(Refuses(ANSWER, "engine-build-failed"), artifact)  # type: ignore[arg-type]
    latency = engine.cost(artifact / "float").latency
    assert (latency.p50_ms, latency.beside_float, latency.no_float) == (1.5, None, "no memory for it")
    with pytest.raises(EdgecError) as caught:
        DeviceEngine(Refuses(ANSWER, "connection-lost"), artifact).cost(artifact / "float")  # type: ignore[arg-type]
    assert caught.value.code == "connection-lost"


@pytest.mark.parametrize("value", OTHERS, ids=lambda value: str(value)[:12])
@pytest.mark.parametrize(
    "place", [*((name,) for name in ANSWER), *(("latency", name) for name in TIMES), ("key", "gpu")]
)
def test_fields_of_another_kind(place: tuple[str, ...], value: object, artifact: Path) -> None:
    """Those that happen to fit are taken; no samples are met below."""
    answer: dict[str, Any] = json.loads(json.dumps(ANSWER))
    inner = answer
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    fits = {
        ("layers", "{}"),
        ("golden", "{}"),
        ("latency.gpu_ms", "[]"),
        ("latency.host_ms", "[]"),
        ("latency.num_warmup", "5"),
    }
    if (".".join(place), str(value)) not in fits and not (place == ("key", "gpu") and isinstance(value, str)):
        assert place[-1] in refusal(Says(answer), artifact, "cost").message


@pytest.mark.parametrize("samples", [[], [0.0, 1.0], [-1.0, 1.0], [1.0]])
def test_times_that_are_none(samples: list[float], artifact: Path) -> None:
    refusal(Says(ANSWER | {"latency": TIMES | {"gpu_ms": samples}}), artifact, "cost")


@pytest.mark.parametrize("facts", [{"a": 1}, {**KEY, "gpu": None}, {**KEY, "driver": ["x"]}])
def test_it_does_not_say_who_it_is(facts: object, artifact: Path) -> None:
    refusal(Says(facts), artifact, "identity")


def test_only_what_lies_beside_the_upload_is_fetched(artifact: Path) -> None:
    device = Says({**ANSWER, "products": ["/etc/passwd", "../../x"], "outputs": "/etc/passwd"})
    device._content = b'{"layers": {"reformats": 2}}'
    (artifact / "there").mkdir()
    DeviceEngine(device, artifact).fetch(artifact / "there")  # type: ignore[arg-type]
    folder = "/home/x/engine_spec-engine"
    assert device.pulled == [f"{folder}/{name}.copy" for name in ("model.engine", "timing.cache", "engine.json")]


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff", b"[" * 99999, b'{"layers": {"reformats": "x"}}'])
def test_a_record_that_is_none(content: bytes, artifact: Path) -> None:
    refusal(Says(ANSWER, content), artifact, "fetch")


@pytest.mark.parametrize("size", [0, 4, 23, 25, 24 << 10])
def test_answers_of_another_size(size: int, artifact: Path) -> None:
    engine = DeviceEngine(Says(ANSWER, bytes(size)), artifact)  # type: ignore[arg-type]
    with pytest.raises(EdgecError, match="remote-failed"):
        engine.predict(np.zeros((2, 3, 4, 4), np.float32))


def test_answers_of_the_right_size(artifact: Path) -> None:
    device = Says(ANSWER, np.arange(6, dtype="<f4").tobytes())
    (answers,) = DeviceEngine(device, artifact).predict(np.zeros((2, 3, 4, 4), np.float32))  # type: ignore[arg-type]
    assert answers.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert device.pulled == ["/home/x/inputs.bin.outputs"]


def test_answers_of_several_outputs(artifact: Path) -> None:
    """Image by image in the file, output by output here."""
    (artifact / "engine_spec.json").write_text(
        json.dumps({"schema": SCHEMA, "outputs": {"y": [1, 1, 2], "x": [1, 3], "w": [1]}})
    )
    device = Says(ANSWER, np.arange(12, dtype="<f4").tobytes())
    found = DeviceEngine(device, artifact).predict(np.zeros((2, 3, 4, 4), np.float32))  # type: ignore[arg-type]
    assert [answers.tolist() for answers in found] == [[[[0, 1]], [[6, 7]]], [[2, 3, 4], [8, 9, 10]], [5, 11]]
    refused = Says(ANSWER, bytes(40))
    with pytest.raises(EdgecError, match="remote-failed"):
        DeviceEngine(refused, artifact).predict(np.zeros((2, 3, 4, 4), np.float32))  # type: ignore[arg-type]


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"{}", b'{"schema": 2, "output_shape": [1, 3]}'])
def test_a_folder_of_another_edgec_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "engine_spec.json").write_bytes(content)
    with pytest.raises(EdgecError) as caught:
        read_spec(tmp_path)
    assert caught.value.code == "corrupt-artifact-file"
