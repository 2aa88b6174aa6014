"""``edgec search``: a front that is one, a search that continues, and the chosen point as a bundle."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgec.pipeline.cli import main
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.search import study
from edgec.pipeline.search.space import Found, Impossible, Outcome, Point, Space, chosen, front
from edgec.pipeline.search.study import search

SPACE = Space(("int8", "fp16", "mixed"), ("fast", "accurate"), ("per_channel", "per_tensor"), (96, 128))
FIGURES = st.tuples(st.integers(0, 9), st.integers(1, 9))


def found(headline: float, cost: float, point: Point | None = None) -> Found:
    return Found(point or Point("int8"), headline, cost, "ms", 20.0, 1000)


def score(point: Point) -> Found:
    """A world with a best point: mixed, accurate, per channel."""
    headline = 80.0 + (point.precision != "int8") + (point.level == "accurate") + (point.px or 0) / 64
    cost = {"int8": 1.0, "mixed": 1.2, "fp16": 2.0}[point.precision] * (point.px or 0)
    return found(headline, cost, point)


def counting(judge: Callable[[Point], Outcome]) -> tuple[list[Point], Callable[[Point], Outcome]]:
    asked: list[Point] = []

    def judged(point: Point) -> Outcome:
        asked.append(point)
        return judge(point)

    return asked, judged


@given(st.lists(FIGURES, min_size=1, max_size=12, unique=True))
def test_the_front_is_one(figures: list[tuple[int, int]]) -> None:
    """Nothing in it beats another, everything outside is beaten by something inside, costs and headlines both rise."""
    points = [found(headline, cost) for headline, cost in figures]
    best = front(points)

    def beats(one: Found, other: Found) -> bool:
        return one.headline >= other.headline and one.cost <= other.cost and one != other

    assert not any(beats(one, other) for one in best for other in best)
    assert all(any(beats(one, other) for one in best) for other in points if other not in best)
    assert [one.cost for one in best] == sorted(one.cost for one in best)
    assert [one.headline for one in best] == sorted(one.headline for one in best)


@given(st.lists(FIGURES, min_size=1, max_size=12, unique=True), st.integers(0, 5))
def test_the_chosen_point_is_the_cheapest_that_holds(figures: list[tuple[int, int]], most_loss: int) -> None:
    points = [found(headline, cost) for headline, cost in figures]
    best = max(one.headline for one in points)
    held = [one for one in points if best - one.headline <= most_loss]
    assert chosen(points, most_loss).cost == min(one.cost for one in held)
    assert chosen(points, most_loss) in held


def test_where_nothing_was_found_it_says_why() -> None:
    with pytest.raises(EdgecError, match="mixed-gains-nothing: so it is") as refusal:
        chosen([Impossible(Point("mixed"), "mixed-gains-nothing: so it is")], 1.0)
    assert refusal.value.code == "search-found-nothing"


def test_fp16_has_no_levels() -> None:
    points = SPACE.points()
    assert len(points) == 2 * (1 + 2 * 2 * 2) == len({*points})
    assert points[0] == Point("int8", px=96)
    assert {(point.level, point.granularity) for point in points if point.precision == "fp16"} == {
        ("fast", "per_channel")
    }


def test_every_point_is_tried_once(tmp_path: Path) -> None:
    asked, judge = counting(score)
    outcomes = search(SPACE, judge, tmp_path / "j", "one", minutes=60)
    assert sorted(map(repr, asked)) == sorted(map(repr, SPACE.points()))
    assert [one.point for one in outcomes] == asked
    assert asked[0] == SPACE.points()[0]
    assert {one.point.precision for one in front([one for one in outcomes if isinstance(one, Found)])} == {
        "int8",
        "mixed",
    }


def test_it_continues_where_it_was_killed(tmp_path: Path) -> None:
    """A point that was being tried is tried again; what was found is not."""
    first, judge = counting(score)

    def killed(point: Point) -> Outcome:
        if len(first) == 5:
            raise KeyboardInterrupt
        return judge(point)

    with pytest.raises(KeyboardInterrupt):
        search(SPACE, killed, tmp_path / "j", "one", minutes=60)
    then, judge = counting(score)
    outcomes = search(SPACE, judge, tmp_path / "j", "one", minutes=60)
    assert len(first) == 5
    assert not {*first} & {*then}
    assert {*first, *then} == {*SPACE.points()} == {one.point for one in outcomes}


def test_another_request_has_a_study_of_its_own(tmp_path: Path) -> None:
    search(SPACE, score, tmp_path / "j", "one", minutes=60)
    asked, judge = counting(score)
    search(SPACE, judge, tmp_path / "j", "another", minutes=60)
    assert len(asked) == len(SPACE.points())


def test_the_minutes_are_kept_and_the_usual_point_is_always_tried(tmp_path: Path) -> None:
    now = iter(range(0, 6000, 60))
    asked, judge = counting(score)
    search(SPACE, judge, tmp_path / "j", "one", minutes=3, clock=lambda: float(next(now)))
    assert 1 <= len(asked) <= 4
    none, judge = counting(score)
    search(SPACE, judge, tmp_path / "k", "one", minutes=0)
    assert none == [SPACE.points()[0]]


def test_what_cannot_be_is_remembered_too(tmp_path: Path) -> None:
    def judge(point: Point) -> Outcome:
        return Impossible(point, "mixed-gains-nothing: no") if point.precision == "mixed" else score(point)

    outcomes = search(SPACE, judge, tmp_path / "j", "one", minutes=60)
    assert sum(isinstance(one, Impossible) for one in outcomes) == 8
    again, judging = counting(judge)
    assert {*search(SPACE, judging, tmp_path / "j", "one", minutes=60)} == {*outcomes}
    assert again == []


def test_a_file_that_is_no_journal(tmp_path: Path) -> None:
    (tmp_path / "j").write_text('{"op_code": "what"}\n')
    with pytest.raises(EdgecError) as refusal:
        search(SPACE, score, tmp_path / "j", "one", minutes=0)
    assert refusal.value.code == "corrupt-artifact"


def test_without_optuna(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(study, "find_spec", lambda name: None)
    with pytest.raises(EdgecError) as refusal:
        study.require_optuna()
    assert refusal.value.code == "missing-optuna"
    assert main(["search", "mobilenetv3-small", "--target", "cpu"]) == 1
    assert "edgec[search]" in capsys.readouterr().err


def test_points_have_names_of_their_own() -> None:
    points = [replace(point, weights=weights) for point in SPACE.points() for weights in (None, "a.toml")]
    assert len({point.words() for point in points}) == len(points)


def searched(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    status = main(["search", *map(str, arguments), "--json"])
    said = capsys.readouterr()
    assert status == 0, said.err
    return dict(json.loads(said.out))


def test_from_the_command_to_the_bundle(
    tiny_onnx: Path, tiny_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All points of a small network; half of the test images decide, the others judge; again, nothing is built."""
    output = tmp_path / "out"
    given = (tiny_onnx, "--target", "cpu", "--data", tiny_images, "--level", "fast", "--output", output)
    found = searched(capsys, *given, "--plot", tmp_path / "front.svg")
    assert found["num_points"] == 5  # int8 and mixed per channel and per tensor, fp16
    assert len(found["points"]) == 5
    assert found["chosen"] in found["front"]
    assert json.loads((output / "search.json").read_text()) == found
    assert found["accuracy"]["num_images"] == 6  # of the 12 that did not calibrate
    assert "<svg" in (tmp_path / "front.svg").read_text()
    assert main(["verify", str(output / "bundle")]) == 0
    capsys.readouterr()
    again = searched(capsys, *given)
    assert again["points"] == found["points"]  # latencies too: nothing was measured again
    assert main(["search", *map(str, given)]) == 0
    assert "5 of 5 points tried" in capsys.readouterr().out
    more = searched(capsys, *given, "--level", "accurate", "--minutes", 0)  # another space, in the same folder
    assert more["num_points"] == 9
    assert len(more["points"]) == 1


def test_a_microcontroller_is_searched_by_its_arena(
    tiny_onnx: Path, tiny_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tflite_micro")
    given = (tiny_onnx, "--target", "mcu", "--data", tiny_images, "--level", "fast", "--output", tmp_path / "out")
    found = searched(capsys, *given)
    judged = [one for one in found["points"] if "refusal" not in one]
    assert {one["unit"] for one in judged} == {"bytes of arena"}
    assert all(one["cost"] > 0 for one in judged)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (("--target", "rpi4"), "precision-undecided"),
        (("--target", "cpu", "--px", "64"), "option-not-for-onnx"),
        (("--target", "cpu", "--plot", "front.pdf"), "bad-plot-format"),
    ],
)
def test_refused_before_anything_is_built(
    options: tuple[str, ...],
    code: str,
    tiny_onnx: Path,
    tiny_images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "out"
    assert main(["search", str(tiny_onnx), "--data", str(tiny_images), *options, "--output", str(output)]) == 1
    assert f"error[{code}]" in capsys.readouterr().err
    assert not output.exists()


def test_sizes_are_points_of_a_network_by_name(
    tiny_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("--target", "cpu", "--data", tiny_images, "--weights", "random", "--px", "32,64", "--level", "fast")
    found = searched(capsys, "mobilenetv3-small", *given, "--minutes", 0, "--output", tmp_path / "out")
    assert found["num_points"] == 10
    assert [one["point"]["px"] for one in found["points"]] == [32]
