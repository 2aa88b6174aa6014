"""A build says whether INT8 pays on this runtime; times are stand-ins, what is timed is real."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from edgec.pipeline import deliver
from edgec.pipeline.build import Build
from edgec.pipeline.bundle.read import open_bundle
from edgec.pipeline.cli import main
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.stage import Artifact, Stage
from edgec.pipeline.core.store import Store
from edgec.pipeline.forms import observe
from edgec.pipeline.forms.first_answer import first_answer
from edgec.pipeline.forms.measure import Effort, FirstAnswer, Latency
from edgec.pipeline.forms.spec import TargetSpec

SLOWER = "INT8 is slower here (0.93x): ship float"
TWICE = "INT8 is 2.00x as fast as float here"


@pytest.fixture
def float_ms(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the float artifact takes where the shipped one takes 2 ms."""
    known = [4.0]

    def stand_in(invokes: Sequence[Callable[[], None]], threads: int, effort: Effort) -> list[Latency]:
        for invoke in invokes:
            invoke()
        times = [2.0, known[0]][: len(invokes)]
        return [Latency("measured", ms, ms, None, 10, threads, "a machine", 10, medians_ms=(ms,) * 10) for ms in times]

    monkeypatch.setattr(deliver, "measure_in_turns", stand_in)
    return known


@pytest.fixture
def refused_float(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """The compiler takes the integers, and refuses the float network with a code."""

    def refuse(code: str) -> None:
        def float_binary(self: Build) -> Artifact:
            raise EdgecError(code, "not in float", "")

        monkeypatch.setattr(Build, "float_binary", property(float_binary))

    return refuse


@pytest.mark.parametrize(("ms", "words"), [(1.86, SLOWER), (4.0, TWICE)])
def test_a_build_compares_with_its_own_float_artifact(
    ms: float,
    words: str,
    float_ms: list[float],
    shared_store: None,
    colours_toml: Path,
    tiny_images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    float_ms[0] = ms
    bundle = tmp_path / "out"
    given = ["build", str(colours_toml), "--target", "onnxruntime", "--data", str(tiny_images), "--output", str(bundle)]
    assert main(given) == 0
    assert words in capsys.readouterr().out
    result = json.loads((bundle / "result.json").read_text())
    latency = open_bundle(bundle).manifest.latency
    assert latency.beside_float is not None
    assert latency.beside_float.speedup == pytest.approx(ms / 2.0)
    assert latency.load_ms is not None
    assert latency.load_ms > 0
    assert latency.peak_rss_bytes is not None
    assert latency.peak_rss_bytes > 1_000_000
    assert latency.beside_float.float_load_ms is not None
    assert latency.beside_float.float_load_ms > 0
    assert latency.beside_float.float_peak_rss_bytes is not None
    assert latency.beside_float.float_peak_rss_bytes > 1_000_000
    assert latency.no_float == ""
    assert (words in result["notes"]) == (words == SLOWER)
    for name in ("README.md", "report.html"):
        assert words in (bundle / name).read_text()


def test_a_network_that_no_float_artifact_is_made_of_is_timed_alone(
    refused_float: Callable[[str], None],
    float_ms: list[float],
    shared_store: None,
    colours_toml: Path,
    tiny_images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Any other failure to compile it ends the build."""
    bundle = tmp_path / "out"
    given = ["build", str(colours_toml), "--target", "onnxruntime", "--data", str(tiny_images), "--output", str(bundle)]
    refused_float("disk-full")
    assert main(given) == 1
    assert "error[disk-full]" in capsys.readouterr().err
    assert not bundle.exists()
    refused_float("unsupported-operator")
    assert main(given) == 0
    latency = open_bundle(bundle).manifest.latency
    assert latency.p50_ms == 2.0
    assert latency.beside_float is None
    assert latency.no_float == "not in float"
    assert "not compared with float: not in float" in capsys.readouterr().out


def test_a_process_that_fails_says_nothing(jetson_bundle: Path) -> None:
    """An engine that nobody built has no first answer here."""
    bundle = open_bundle(jetson_bundle)
    image = np.zeros((1, *bundle.preprocess.shape), np.float32)
    found = first_answer(bundle.target, bundle.artifact, image, 1)
    assert (found.load_ms, found.peak_rss_bytes) == (None, None)


def test_float_is_not_compared_with_itself(
    float_ms: list[float], shared_store: None, colours_toml: Path, tiny_images: Path, tmp_path: Path
) -> None:
    pytest.importorskip("openvino")
    bundle = tmp_path / "out"
    given = ["build", str(colours_toml), "--target", "cpu", "--data", str(tiny_images), "--output", str(bundle)]
    assert main([*given, "--precision", "fp16"]) == 0
    assert open_bundle(bundle).manifest.latency.beside_float is None


@dataclass
class Machine:
    """Where the tiny network is built for ``onnxruntime``.

    Attributes:
        kernel: tells one machine from another.
    """

    kernel: str
    arguments: list[str]
    folder: Path

    def words(self) -> dict[str, str]:
        return {"kernel": self.kernel}

    def latency(self, name: str) -> Latency:
        """Of a new build."""
        assert main([*self.arguments, "--output", str(self.folder / name)]) == 0
        found = open_bundle(self.folder / name).manifest.latency
        assert isinstance(found, Latency)
        return found


@pytest.fixture
def machine(
    float_ms: list[float],
    shared_store: None,
    colours_toml: Path,
    tiny_images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Machine:
    """None that an earlier test was built on."""
    given = ["build", str(colours_toml), "--target", "onnxruntime", "--data", str(tiny_images)]
    made = Machine(f"of {tmp_path}", given, tmp_path)
    monkeypatch.setattr(deliver, "read_fingerprint", lambda threads: made)
    return made


def test_what_was_seen_is_kept_for_the_same_artifact_and_machine(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First answers and layer times are no latency: a warm build asks for neither, another machine for both."""
    asked: list[Path] = []

    def counted(target: TargetSpec, artifact: Path, image: np.ndarray, threads: int) -> FirstAnswer:
        asked.append(artifact)
        return FirstAnswer(7.0 + len(asked), 8_000_000)

    monkeypatch.setattr(observe, "first_answer", counted)
    first, second = machine.latency("first"), machine.latency("second")
    assert len(asked) == 2, "the artifact and the float one"
    assert (first.load_ms, second.load_ms) == (8.0, 8.0)
    assert second.beside_float is not None
    assert second.beside_float.float_load_ms == 9.0
    machine.kernel = f"another than {machine.kernel}"
    assert machine.latency("third").load_ms == 10.0
    assert len(asked) == 4


def test_a_first_answer_that_did_not_come_is_asked_for_again(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [FirstAnswer()]
    monkeypatch.setattr(observe, "first_answer", lambda *_: found[-1])
    first = machine.latency("first")
    assert (first.load_ms, first.p50_ms) == (None, 2.0)
    found.append(FirstAnswer(7.0, 8_000_000))
    assert machine.latency("second").load_ms == 7.0


def test_a_store_that_is_only_read_serves_a_build_on_another_machine(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.latency("first")
    plain = Store.run

    def read_only(self: Store, stage: Stage, *inputs: Artifact) -> Artifact:
        if isinstance(stage, observe.Observe):
            raise EdgecError("store-not-writable", "it may only be read", "")
        return plain(self, stage, *inputs)

    monkeypatch.setattr(Store, "run", read_only)
    monkeypatch.setattr(observe, "first_answer", lambda *_: FirstAnswer(7.0, 8_000_000))
    assert machine.latency("second").load_ms == 7.0
