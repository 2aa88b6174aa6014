"""The history of a model: appended, read, its change points found and drawn."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from noise import HERE

from edgec.pipeline.cli import main
from edgec.pipeline.forms.measure import Latency
from edgec.pipeline.gate.change_points import MIN_SEGMENT, change_points, split_statistics
from edgec.pipeline.gate.history import shown
from edgec.pipeline.gate.plot import in_terminal
from edgec.pipeline.gate.record import Measured

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Exit status, standard output, standard error."""

    def runs(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main(["history", *map(str, arguments)])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return runs


def energy(left: np.ndarray, right: np.ndarray) -> float:
    """Matteson & James, equations 5 and 7, term by term."""
    m, k = len(left), len(right)
    between = sum(abs(a - b) for a in left for b in right)
    inside = [sum(abs(a - b) for i, a in enumerate(part) for b in part[:i]) for part in (left, right)]
    return m * k / (m + k) * (2 * between / (m * k) - 2 * inside[0] / (m * (m - 1)) - 2 * inside[1] / (k * (k - 1)))


def test_split_statistics_term_by_term() -> None:
    values = np.random.default_rng(0).normal(size=11)
    splits = range(MIN_SEGMENT, len(values) - MIN_SEGMENT + 1)
    expected = [energy(values[:i], values[i:]) for i in splits]
    assert split_statistics(np.abs(values[:, None] - values[None, :])) == pytest.approx(expected)


def series(*levels: tuple[int, float], spread: float = 0.01, seed: int = 0) -> list[float]:
    stream = np.random.default_rng(seed)
    return [float(value) for count, level in levels for value in level + stream.normal(0, spread, count)]


def test_steps_are_found_where_they_are() -> None:
    points = change_points(series((12, 2.0), (10, 2.2), (14, 1.9)))
    strong = [point for point in points if point.strong]
    assert [point.index for point in strong] == [12, 22]
    assert strong[0].ratio == pytest.approx(1.1, abs=0.01)


def test_a_step_of_few_commits_is_weak() -> None:
    points = change_points(series((9, 2.0), (3, 2.03)))
    assert [(point.index, point.strong) for point in points] == [(9, False)]


def test_outliers_and_short_histories_are_no_change() -> None:
    values = series((20, 2.0))
    values[9] = 9.0
    assert change_points(values) == []
    assert change_points(series((2, 1.0), (3, 2.0))) == []
    assert change_points([2.0] * 10) == []


def test_equal_histories_give_equal_points_in_any_unit() -> None:
    values = series((10, 2.0), (8, 2.1))
    again, scaled = change_points(values), change_points([1000 * value for value in values])
    assert change_points(values) == again
    assert [(p.index, p.p_value) for p in scaled] == [(p.index, p.p_value) for p in again]


def test_noise_alone_rarely_changes() -> None:
    """At the weak threshold of 5 %, forty histories have more than seven false points in one case of a thousand."""
    found = sum(bool(change_points(series((16, 2.0), seed=seed))) for seed in range(40))
    assert found <= 7


def report(path: Path, p50_ms: float, **changes: object) -> Path:
    latency = Latency("measured", p50_ms, num_samples=500, medians_ms=(2.0,), noise_floor=0.004)
    record = Measured("tiny", "cpu", "d", HERE, latency, 1, {"macs": 5}).plain()
    path.write_text(json.dumps({"measured": [{**record, **changes}]}))
    return path


@pytest.fixture
def kept(run: Run, tmp_path: Path) -> Path:
    """Sixteen commits; the ninth made it slower."""
    for index, value in enumerate(series((8, 2.0), (8, 2.3))):
        status, _, _ = run(
            "add", report(tmp_path / "r.json", value), "--history", tmp_path / "h.jsonl", "--commit", f"c{index:02}"
        )
        assert status == 0
    return tmp_path / "h.jsonl"


def test_adding_only_appends(run: Run, kept: Path, tmp_path: Path) -> None:
    before = kept.read_text()
    run("add", report(tmp_path / "r.json", 2.0), "--history", kept, "--commit", "next")
    assert kept.read_text().startswith(before)
    assert len(kept.read_text().splitlines()) == 17


def test_show_names_the_commit(run: Run, kept: Path) -> None:
    status, out, _ = run("show", "--history", kept)
    assert status == 0
    assert "strong change at c08: 2." in out
    (found,) = json.loads(run("show", "--history", kept, "--json")[1])
    assert [point["commit"] for point in found["change_points"]] == ["c08"]
    assert len(found["values"]) == 16


def test_series_of_other_fingerprints_are_apart(run: Run, kept: Path, tmp_path: Path) -> None:
    other = report(tmp_path / "r.json", 9.0, fingerprint={**asdict(HERE), "governor": "powersave"})
    run("add", other, "--history", kept, "--commit", "x")
    assert len(json.loads(run("show", "--history", kept, "--json")[1])) == 2


def test_counts_have_a_history_too(run: Run, kept: Path) -> None:
    status, out, _ = run("show", "--history", kept, "--measure", "macs")
    assert (status, "macs over 16 entries" in out) == (0, True)


def test_counts_are_shown_to_the_last_unit(run: Run, tmp_path: Path) -> None:
    """A model that grew by six bytes is another one; thousandths of milliseconds are not hidden either."""
    history = tmp_path / "h.jsonl"
    for commit, size in (("a", 2894664), ("b", 2894670)):
        counts = {"model": "m", "target": "t", "values": {"size_bytes": size}}
        (tmp_path / "r.json").write_text(json.dumps({"measured": [], "known": [counts]}))
        assert run("add", tmp_path / "r.json", "--history", history, "--commit", commit)[0] == 0
    for command in ("show", "plot"):
        out = run(command, "--history", history, "--measure", "size_bytes")[1]
        assert "2,894,664" in out
        assert "2,894,670" in out
    assert (shown(4.0), shown(4.1234567)) == ("4", "4.12346")


def test_a_check_without_a_device_has_a_history(run: Run, bundle: Path, tmp_path: Path) -> None:
    """Size, counts and accuracy are one series, whatever machine timed the commit before."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    names = f'model = "{manifest["model"]["name"]}"\ntarget = "{manifest["target"]["name"]}"\ndevice = "any"'
    file = tmp_path / "budgets.toml"
    file.write_text(f'[[budget]]\n{names}\nowner = "o"\nreason = "r"\n[budget.limits]\nsize_bytes = 100_000_000\n')
    command = [
        "check",
        str(bundle),
        "--budgets",
        str(file),
        "--no-device",
        "--format",
        f"json={tmp_path / 'gate.json'}",
    ]
    assert main(command) == 0
    for commit in ("a", "b"):
        assert run("add", tmp_path / "gate.json", "--history", tmp_path / "h", "--commit", commit)[0] == 0
    timed = json.loads((tmp_path / "h").read_text().splitlines()[0]) | {"device": "x86", "fingerprint": "f" * 64}
    timed["values"] |= {"p50_ms": 2.0}
    with (tmp_path / "h").open("a") as stream:
        stream.write(json.dumps(timed) + "\n")
    for measure in ("size_bytes", "accuracy", "sqnr_db", "macs"):
        (series,) = json.loads(run("show", "--history", tmp_path / "h", "--measure", measure, "--json")[1])
        assert (len(series["values"]), series["fingerprint"], series["device"]) == (3, "", "")
    assert "fingerprint" not in run("show", "--history", tmp_path / "h", "--measure", "macs")[1]
    (series,) = json.loads(run("show", "--history", tmp_path / "h", "--json")[1])
    assert (len(series["values"]), series["device"]) == (1, "x86")


def test_a_folder_holds_the_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    run("add", report(tmp_path / "r.json", 2.0), "--history", tmp_path / "kept", "--commit", "x")
    assert (tmp_path / "kept" / "history.jsonl").is_file()


def test_plot_in_the_terminal(run: Run, kept: Path) -> None:
    _, out, _ = run("plot", "--history", kept)
    rows = out.splitlines()
    assert len(rows) == 1 + 8 + 1
    assert rows[-1].index("▲") - rows[-1].index("│") == 9
    assert in_terminal([1.0, 1.0, 1.0], []).count("▁") == 3


@pytest.mark.parametrize(("suffix", "magic"), [("svg", b"<?xml"), ("png", b"\x89PNG")])
def test_plot_to_a_file(suffix: str, magic: bytes, run: Run, kept: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    pictures = [tmp_path / f"{name}.{suffix}" for name in ("one", "two")]
    for picture in pictures:
        assert run("plot", "--history", kept, "--output", picture)[0] == 0
    contents = [picture.read_bytes() for picture in pictures]
    assert contents[0].startswith(magic)
    assert contents[0] == contents[1]


def test_no_matplotlib(run: Run, kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    status, _, err = run("plot", "--history", kept, "--output", tmp_path / "x.svg")
    assert (status, "missing-matplotlib" in err) == (1, True)


def cut_off(kept: Path, tmp_path: Path) -> list[object]:
    kept.write_text(kept.read_text()[:-20])
    return ["add", report(tmp_path / "r.json", 2.0), "--history", kept, "--commit", "x"]


def a_word(kept: Path, tmp_path: Path) -> list[object]:
    entry = json.loads(kept.read_text().splitlines()[0])
    with kept.open("a", encoding="utf-8") as file:
        file.write(json.dumps({**entry, "values": {"p50_ms": "fast"}}) + "\n")
    return ["show", "--history", kept]


def no_text(kept: Path, tmp_path: Path) -> list[object]:
    kept.write_bytes(kept.read_bytes() + b"\xff\n")
    return ["show", "--history", kept]


def no_report(kept: Path, tmp_path: Path) -> list[object]:
    (tmp_path / "bad.json").write_text('{"measured": [{}]}')
    return ["add", tmp_path / "bad.json", "--history", kept, "--commit", "x"]


def nothing_measured(kept: Path, tmp_path: Path) -> list[object]:
    (tmp_path / "bad.json").write_text('{"measured": []}')
    return ["add", tmp_path / "bad.json", "--history", kept, "--commit", "x"]


def not_writable(kept: Path, tmp_path: Path) -> list[object]:
    return ["add", report(tmp_path / "r.json", 2.0), "--history", kept / "below", "--commit", "x"]


MISTAKES: dict[str, tuple[str, Callable[[Path, Path], list[object]]]] = {
    "a line cut off": ("bad-history", cut_off),
    "a value that is no number": ("bad-history", a_word),
    "bytes that are no text": ("bad-history", no_text),
    "no history yet": ("no-such-file", lambda kept, tmp: ["show", "--history", tmp / "none.jsonl"]),
    "no report there": ("no-such-file", lambda kept, tmp: ["add", tmp / "none.json", "--commit", "x"]),
    "another file": ("bad-report", no_report),
    "a report without latency": ("bad-report", nothing_measured),
    "a misspelt measure": ("unknown-measure", lambda kept, tmp: ["show", "--history", kept, "--measure", "p50"]),
    "a spreadsheet": ("bad-plot-format", lambda kept, tmp: ["plot", "--history", kept, "--output", tmp / "x.xls"]),
    "a file as a folder": ("output-not-writable", not_writable),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(mistake: str, run: Run, kept: Path, tmp_path: Path) -> None:
    code, arguments = MISTAKES[mistake]
    status, out, err = run(*arguments(kept, tmp_path))
    assert (status, out) == (1, "")
    assert err.startswith(f"error[{code}]")


def test_a_measure_that_no_entry_has_is_explained(run: Run, tmp_path: Path) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    assert "edgec history add" in run("show", "--history", empty)[2]
    counts = tmp_path / "counts.json"
    known = {"model": "m", "target": "t", "values": {"params": 3}}
    counts.write_text(json.dumps({"measured": [], "known": [known]}))
    status, out, _ = run("add", counts, "--history", empty, "--commit", "x")
    assert (status, "1 entry added" in out) == (0, True)
    err = run("show", "--history", empty)[2]
    assert "without --no-device; known: params" in err
    assert "did you mean 'params'" in run("show", "--history", empty, "--measure", "param")[2]


def test_the_commit_is_gits(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    given = ("add", report(tmp_path / "r.json", 2.0))
    status, _, err = run(*given)
    assert (status, "no-commit" in err) == (1, True)
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    for command in (["init", "-q"], [*who, "commit", "-q", "--allow-empty", "-m", "x"]):
        subprocess.run(["git", *command], check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    assert run(*given)[0] == 0
    assert json.loads(Path("history.jsonl").read_text())["commit"] == head
