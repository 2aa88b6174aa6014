"""``budgets.toml``: what is accepted, and every way to get it wrong."""

from __future__ import annotations

import datetime
import re
from pathlib import Path

import pytest
from places import ROOT

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.gate.budgets import Budgets, load_budgets

TODAY = datetime.date(2026, 6, 1)
BUDGET = """
[[budget]]
model = "tiny"
target = "cpu"
device = "a machine"
owner = "vision team"
reason = "the camera's rate"

[budget.limits]
p50_ms = 4
drop_pp = 1.0
size_bytes = 5000

[budget.relative]
baseline = "main"
max_slowdown = 0.05

[[budget.waiver]]
limit = "p50_ms"
until = 2026-12-31
owner = "me"
reason = "new head"
"""


def load(text: str, tmp_path: Path) -> Budgets:
    path = tmp_path / "budgets.toml"
    path.write_text(text)
    return load_budgets(path, TODAY)


def test_a_whole_file(tmp_path: Path) -> None:
    budget = load(BUDGET, tmp_path).find("tiny", "cpu", "a machine")
    assert budget.limits.given() == {"p50_ms": 4.0, "drop_pp": 1.0, "size_bytes": 5000}
    assert budget.relative is not None
    assert budget.relative.given() == {"max_slowdown": 0.05}
    assert budget.threads == 1
    assert budget.waiver_of("p50_ms") is not None
    assert budget.waiver_of("drop_pp") is None


MISTAKES = {
    "unknown limit": ("p50_ms = 4", "p51_ms = 4", "p51_ms"),
    "another unit": ("p50_ms = 4", "p50_us = 4000", "p50_us"),
    "a unit in the value": ("p50_ms = 4", 'p50_ms = "4 ms"', "p50_ms"),
    "a number in quotes": ("p50_ms = 4", 'p50_ms = "4"', "p50_ms"),
    "true for one": ("size_bytes = 5000", "size_bytes = true", "size_bytes"),
    "half a byte": ("size_bytes = 5000", "size_bytes = 0.5", "size_bytes"),
    "a negative size": ("size_bytes = 5000", "size_bytes = -1", "size_bytes"),
    "no time at all": ("p50_ms = 4", "p50_ms = 0", "p50_ms"),
    "not a number": ("p50_ms = 4", "p50_ms = nan", "p50_ms"),
    "more than all images": ("drop_pp = 1.0", "agreement = 101", "agreement"),
    "unknown key": ('owner = "vision team"', 'owner = "vision team"\nseverity = 3', "severity"),
    "unknown table": ("[budget.relative]", "[budget.related]", "related"),
    "unknown top level": ("[[budget]]", "[[budgets]]", "budgets"),
    "no owner": ('owner = "vision team"\n', "", "owner"),
    "an empty owner": ('owner = "vision team"', 'owner = ""', "owner"),
    "no reason": ('reason = "the camera\'s rate"\n', "", "reason"),
    "no device": ('device = "a machine"\n', "", "device"),
    "a slowdown in percent": ("max_slowdown = 0.05", "max_slowdown = 50", "max_slowdown"),
    "no baseline": ('baseline = "main"\n', "", "baseline"),
    "a waiver without end": ("until = 2026-12-31\n", "", "until"),
    "a date in quotes": ("until = 2026-12-31", 'until = "2026-12-31"', "until"),
    "a waiver without owner": ('owner = "me"\n', "", "owner"),
    "a waiver of nothing": ('limit = "p50_ms"', 'limit = "p99_ms"', "p99_ms"),
    "no TOML": ("p50_ms = 4", "p50_ms 4", "TOML"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_errors_and_named(mistake: str, tmp_path: Path) -> None:
    right, wrong, named = MISTAKES[mistake]
    assert right in BUDGET
    with pytest.raises(EdgecError) as caught:
        load(BUDGET.replace(right, wrong, 1), tmp_path)
    assert caught.value.code == "bad-budgets"
    assert named in caught.value.message


def test_a_waiver_of_nothing_is_told_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(EdgecError) as caught:
        load(BUDGET.replace('limit = "p50_ms"', 'limit = "params"'), tmp_path)
    assert caught.value.hint.startswith("it limits ")
    assert "p50_ms" in caught.value.hint


def test_the_same_budget_twice(tmp_path: Path) -> None:
    with pytest.raises(EdgecError) as caught:
        load(BUDGET + BUDGET, tmp_path)
    assert (caught.value.code, "two budgets" in caught.value.message) == ("bad-budgets", True)


def test_a_budget_that_limits_nothing(tmp_path: Path) -> None:
    with pytest.raises(EdgecError, match="limits nothing"):
        load(BUDGET[: BUDGET.index("[budget.limits]")], tmp_path)


def test_any_device_cannot_limit_milliseconds(tmp_path: Path) -> None:
    everywhere = BUDGET.replace('"a machine"', '"any"')
    with pytest.raises(EdgecError, match="cannot limit p50_ms: milliseconds belong to one device"):
        load(everywhere, tmp_path)


def test_any_device_stands_in_for_those_without_a_budget(tmp_path: Path) -> None:
    everywhere = BUDGET[: BUDGET.index("[[budget.waiver]]")].replace('"a machine"', '"any"').replace("p50_ms = 4\n", "")
    budgets = load(BUDGET + everywhere, tmp_path)
    assert budgets.find("tiny", "cpu", "a machine").device == "a machine"
    assert budgets.find("tiny", "cpu", "another machine").device == "any"


def test_an_expired_waiver(tmp_path: Path) -> None:
    with pytest.raises(EdgecError) as caught:
        load(BUDGET.replace("2026-12-31", "2026-05-31"), tmp_path)
    assert caught.value.code == "expired-waiver"
    load(BUDGET.replace("2026-12-31", "2026-06-01"), tmp_path)  # its last day still counts


def test_a_device_without_a_budget(tmp_path: Path) -> None:
    budgets = load(BUDGET, tmp_path)
    with pytest.raises(EdgecError) as caught:
        budgets.find("tiny", "cpu", "another machine")
    assert caught.value.code == "no-budget"
    assert "there is one for: a machine" in caught.value.message
    with pytest.raises(EdgecError) as caught:
        budgets.for_any_device("tiny", "arm")
    assert caught.value.code == "no-budget"


def test_this_projects_own_budgets() -> None:
    assert load_budgets(ROOT / "budgets.toml").for_any_device("mobilenetv3-small", "cpu")


def test_the_documented_example(tmp_path: Path) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / "ci.md").read_text(), re.DOTALL)
    assert load(example, tmp_path).budget[0].waiver_of("p50_ms") is not None


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(EdgecError) as caught:
        load_budgets(tmp_path / "none.toml")
    assert caught.value.code == "no-such-file"
