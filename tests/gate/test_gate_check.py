"""``edgec check`` and ``edgec budget`` as a user runs them; latencies come from processes whose truth is known."""

from __future__ import annotations

import datetime
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lxml import etree
from noise import HERE, source

from edgec.pipeline.bundle.float_network import float_artifact
from edgec.pipeline.bundle.integrity import read_checked_manifest
from edgec.pipeline.bundle.read import open_bundle
from edgec.pipeline.bundle.seal import seal
from edgec.pipeline.bundle.use import paired
from edgec.pipeline.cli import main
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.forms.compiler import Placement
from edgec.pipeline.forms.measure import Latency, cpu_model
from edgec.pipeline.gate import check as check_module
from edgec.pipeline.gate import draft as draft_module
from edgec.pipeline.gate.accuracy import judge_accuracy
from edgec.pipeline.gate.budgets import ANY_DEVICE, Waiver, load_budgets
from edgec.pipeline.gate.check import Line, Report, corrected
from edgec.pipeline.gate.finding import Finding, Verdict
from edgec.pipeline.gate.formats import FORMATS
from edgec.pipeline.gate.latency import FIRST_LOOK, Limits, judge
from edgec.pipeline.gate.proxies import Proxies
from edgec.pipeline.gate.record import Measured
from edgec.pipeline.gate.sampling import Contestants, Process
from edgec.pipeline.report.page import render_report
from edgec.pipeline.tasks.accuracy import Accuracy, Fidelity

Run = Callable[..., tuple[int, str, str]]

LIMITS = "size_bytes = 100000\nmacs = 10000000\nnum_transposes = 0\nagreement = 20.0\n"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Exit status, standard output, standard error."""

    def runs(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return runs


@pytest.fixture
def truth(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Latencies that the sampler finds: the candidate's, the float artifact's, and everything else's."""
    known = {"candidate": 2.0, "other": 2.0, "float": 2.4}

    class Simulated:
        def __init__(self, measure: Contestants, budget_s: float = 60.0) -> None:
            levels = [known["candidate"], *[known["other"]] * (len(measure.bundles) - 1)]
            self._source = source(*levels, *[known["float"]] * (2 if measure.in_float else 0))

        def __call__(self, count: int) -> list[Process]:
            return self._source(count)

    for module in (check_module, draft_module):
        monkeypatch.setattr(module, "measuring", lambda contestants, on: contestants)
        monkeypatch.setattr(module, "Sampler", Simulated)
    return known


def budgets(folder: Path, limits: str = LIMITS, more: str = "", device: str | None = None) -> Path:
    path = folder / "budgets.toml"
    path.write_text(
        f'[[budget]]\nmodel = "tiny"\ntarget = "onnxruntime"\ndevice = "{device or cpu_model()}"\n'
        f'owner = "me"\nreason = "test"\n[budget.limits]\n{limits}\n{more}'
    )
    return path


def code(answer: tuple[int, str, str]) -> str:
    status, out, err = answer
    assert (status, out) == (1, "")
    assert "Traceback" not in err
    return err.partition("error[")[2].partition("]")[0]


def without_float(bundle: Path, folder: Path) -> Path:
    """A copy that leaves its float network out, of a file that this machine's store does not have."""
    alone = Path(shutil.copytree(bundle, folder / "alone"))
    manifest = read_checked_manifest(alone)
    (alone / "reference" / "float.onnx").unlink()
    seal(alone, manifest, render_report)
    return alone


def lines_of(out: str) -> dict[str, dict[str, Any]]:
    return {line["limit"]: line for line in json.loads(out)["lines"]}


def test_everything_kept(run: Run, bundle: Path, tmp_path: Path, truth: dict[str, float]) -> None:
    status, out, _ = run("check", bundle, "--budgets", budgets(tmp_path, f"{LIMITS}p50_ms = 3.0\np99_ms = 3.0"))
    assert status == 0
    assert out.splitlines()[-1] == "verdict: pass"


@pytest.mark.parametrize(
    ("limits", "status"),
    [("p50_ms = 3.0", 0), ("p50_ms = 1.5", 3), ("size_bytes = 10", 3), ("agreement = 99.0", 4), ("arena_bytes = 5", 4)],
)
def test_exit_statuses(
    limits: str, status: int, run: Run, bundle: Path, tmp_path: Path, truth: dict[str, float]
) -> None:
    assert run("check", bundle, "--budgets", budgets(tmp_path, limits))[0] == status


def test_fail_comes_before_inconclusive(run: Run, bundle: Path, tmp_path: Path) -> None:
    assert run("check", bundle, "--budgets", budgets(tmp_path, "size_bytes = 10\nagreement = 99.0"))[0] == 3


def test_usage(run: Run, bundle: Path) -> None:
    assert run("check", bundle, "--format", "html")[0] == 2
    assert run("check")[0] == 2


MAIN = '[budget.relative]\nbaseline = "main"\nmax_slowdown = 0.02\n'


@pytest.mark.parametrize(("candidate", "status"), [(2.0, 0), (2.2, 3), (1.5, 0)])
def test_relative_to_a_bundle(
    candidate: float, status: int, run: Run, bundle: Path, tmp_path: Path, truth: dict[str, float]
) -> None:
    truth["candidate"] = candidate
    file = budgets(tmp_path, more=MAIN)
    found, out, _ = run("check", bundle, "--budgets", file, "--baseline", f"main={bundle.parent}", "--json")
    assert found == status
    line = lines_of(out)["max_slowdown"]
    assert line["value"] == pytest.approx(candidate / 2 - 1, abs=0.01)
    assert line["least_effect"] >= 0.02
    assert json.loads(out)["measured"][0]["latency"]["noise_floor"] < 0.02


@pytest.mark.parametrize(("bound", "status"), [(1.1, 0), (1.3, 3)])
def test_integers_have_to_outrun_float(
    bound: float, status: int, run: Run, bundle: Path, tmp_path: Path, truth: dict[str, float]
) -> None:
    """Also on any device, and with a baseline between the two."""
    for more, device in (("", ANY_DEVICE), (MAIN, None)):
        file = budgets(tmp_path, f"min_speedup = {bound}", more, device)
        found, out, _ = run("check", bundle, "--budgets", file, "--baseline", f"main={bundle.parent}", "--json")
        assert found == status
        assert lines_of(out)["min_speedup"]["value"] == pytest.approx(1.2, rel=0.01)
    assert "≥ 1.10x" in run("check", bundle, "--budgets", budgets(tmp_path, "min_speedup = 1.1"))[1]


def test_without_its_float_network_a_speedup_is_left_open(
    run: Run, bundle: Path, tmp_path: Path, truth: dict[str, float]
) -> None:
    alone = without_float(bundle, tmp_path)
    status, out, _ = run("check", alone, "--budgets", budgets(tmp_path, "min_speedup = 1.1"), "--json")
    assert status == 4
    assert "leaves its float network out" in lines_of(out)["min_speedup"]["reason"]
    assert "edgec export" in lines_of(out)["min_speedup"]["reason"]
    given = budgets(tmp_path, "min_speedup = 1.1\np50_ms = 3.0")
    assert lines_of(run("check", alone, "--budgets", given, "--json")[1])["p50_ms"]["verdict"] == "pass"
    in_float = open_bundle(bundle)
    with pytest.raises(EdgecError) as caught:
        float_artifact(replace(in_float, target=replace(in_float.target, precision="fp16")))
    assert caught.value.code == "unsupported-precision"


def test_relative_without_its_baseline_is_inconclusive(
    run: Run, bundle: Path, tmp_path: Path, truth: dict[str, float]
) -> None:
    file = budgets(tmp_path, more=MAIN)
    for given in ((), ("--baseline", f"release={bundle}")):
        status, out, _ = run("check", bundle, "--budgets", file, *given, "--json")
        assert status == 4
        assert "no baseline 'main' was given" in lines_of(out)["max_slowdown"]["reason"]


@pytest.mark.parametrize(("candidate", "status"), [(2.0, 0), (2.2, 3)])
def test_relative_to_a_recorded_report(
    candidate: float, status: int, run: Run, bundle: Path, tmp_path: Path, truth: dict[str, float]
) -> None:
    kept = tmp_path / "main.json"
    first = budgets(tmp_path, "p50_ms = 5.0")
    assert run("check", bundle, "--budgets", first, "--format", f"json={kept}")[0] == 0
    truth["candidate"] = candidate
    file = budgets(tmp_path, more=MAIN)
    assert run("check", bundle, "--budgets", file, "--baseline", kept)[0] == status


def test_another_fingerprint_is_never_compared(run: Run, bundle: Path, tmp_path: Path, truth: dict[str, float]) -> None:
    kept = tmp_path / "main.json"
    run("check", bundle, "--budgets", budgets(tmp_path, "p50_ms = 5.0"), "--format", f"json={kept}")
    kept.write_text(kept.read_text().replace('"performance"', '"powersave"'))
    truth["candidate"] = 4.0
    file = budgets(tmp_path, more=MAIN)
    status, out, _ = run("check", bundle, "--budgets", file, "--baseline", kept, "--json")
    assert status == 4
    assert "governor: powersave -> performance" in lines_of(out)["max_slowdown"]["reason"]


def test_bad_baselines(run: Run, bundle: Path, tmp_path: Path, truth: dict[str, float]) -> None:
    file = budgets(tmp_path, more=MAIN)
    (tmp_path / "report.json").write_text("{}")
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "report.json", tmp_path / "empty"):
        assert code(run("check", bundle, "--budgets", file, "--baseline", path)) == "bad-baseline"
    absolute = budgets(tmp_path)  # nobody asks for a baseline
    assert code(run("check", bundle, "--budgets", absolute, "--baseline", tmp_path / "typo")) == "bad-baseline"


def test_errors_of_budgets_are_errors_not_skips(run: Run, bundle: Path, tmp_path: Path) -> None:
    elsewhere = budgets(tmp_path, device="another machine")
    assert code(run("check", bundle, "--budgets", elsewhere)) == "no-budget"
    assert code(run("check", bundle, "--budgets", budgets(tmp_path, "p50_us = 1"))) == "bad-budgets"
    expired = '[[budget.waiver]]\nlimit = "macs"\nuntil = 2020-01-01\nowner = "x"\nreason = "y"\n'
    assert code(run("check", bundle, "--budgets", budgets(tmp_path, more=expired))) == "expired-waiver"


def test_another_device_cannot_be_measured_here(run: Run, bundle: Path, tmp_path: Path) -> None:
    file = budgets(tmp_path, "p50_ms = 3.0\nmacs = 10000000", device="a board")
    status, out, _ = run("check", bundle, "--budgets", file, "--device", "a board", "--json")
    assert status == 4
    assert "not 'a board'" in lines_of(out)["p50_ms"]["reason"]


@pytest.mark.parametrize(("candidate", "status"), [(2.0, 0), (2.2, 3)])
def test_a_relative_limit_holds_on_any_device(
    candidate: float, status: int, run: Run, bundle: Path, tmp_path: Path, truth: dict[str, float]
) -> None:
    truth["candidate"] = candidate
    file = budgets(tmp_path, more=MAIN, device="any")
    assert run("check", bundle, "--budgets", file, "--baseline", bundle)[0] == status


def test_a_target_that_is_not_this_machine_has_no_times_here(
    run: Run, build: Callable[[str], Path], tmp_path: Path, truth: dict[str, float]
) -> None:
    pytest.importorskip("ai_edge_litert")
    bundle = build("arm")
    file = budgets(tmp_path, more=MAIN, device="any")
    file.write_text(file.read_text().replace('"onnxruntime"', '"arm"'))
    status, out, _ = run("check", bundle, "--budgets", file, "--baseline", bundle, "--json")
    assert status == 4
    assert "no device of the target 'arm'" in lines_of(out)["max_slowdown"]["reason"]


def test_without_a_device_only_counts_are_judged(run: Run, bundle: Path, tmp_path: Path) -> None:
    """And the others are named, in a pipe and in a terminal; not where nobody wants to hear of it."""
    file = budgets(tmp_path, f"{LIMITS}p50_ms = 0.001", device="another machine")
    status, out, err = run("check", bundle, "--budgets", file, "--no-device", "--json")
    assert status == 0
    assert set(lines_of(out)) == {"size_bytes", "macs", "num_transposes", "agreement"}
    assert "not judged, since --no-device: p50_ms of " in err
    assert "not judged" not in run("check", bundle, "--budgets", file, "--no-device", "--quiet")[2]
    file = budgets(tmp_path, LIMITS, more=MAIN, device="any")
    assert "--no-device: max_slowdown of " in run("check", bundle, "--budgets", file, "--no-device")[2]
    file = budgets(tmp_path, LIMITS, device="any")
    assert "not judged" not in run("check", bundle, "--budgets", file, "--no-device")[2]


def test_what_cannot_be_counted_here_stops_no_other_limit(
    run: Run, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A check machine without the runtime: accuracy is judged, and the report knows the rest."""

    def missing(proxies: Proxies) -> Placement:
        raise EdgecError("missing-runtime", "a stand-in for a runtime that is not installed", "install it")

    monkeypatch.setattr(Proxies, "_placement", property(missing))
    file = budgets(tmp_path, "agreement = 10.0\n", device="any")
    status, out, _ = run("check", bundle, "--budgets", file, "--no-device", "--json")
    assert (status, set(lines_of(out))) == (0, {"agreement"})
    (known,) = json.loads(out)["known"]
    assert {"size_bytes", "macs", "params", "accuracy"} <= known["values"].keys()
    assert not {"num_operators", "num_transposes"} & known["values"].keys()
    file = budgets(tmp_path, "num_operators = 100\n", device="any")
    status, out, _ = run("check", bundle, "--budgets", file, "--no-device", "--json")
    assert (status, lines_of(out)["num_operators"]["verdict"]) == (4, "inconclusive")


def test_counts_are_exact(run: Run, bundle: Path, tmp_path: Path) -> None:
    """Convolutions 32 * 32 * 6 * 27 and 32 * 32 * 6 * 9, Gemm 6 * 3; parameters 162 + 6 + 54 + 18 + 3."""
    size = (bundle / "model.onnx").stat().st_size
    exact = f"macs = {32 * 32 * 6 * 36 + 18}\nparams = 243\nsize_bytes = {size}\nnum_operators = 6"
    status, out, _ = run("check", bundle, "--budgets", budgets(tmp_path, exact), "--json")
    assert (status, lines_of(out)["params"]["value"]) == (0, 243)
    for name, value in (
        ("macs", 32 * 32 * 6 * 36 + 17),
        ("params", 242),
        ("size_bytes", size - 1),
        ("num_operators", 5),
    ):
        status, out, _ = run("check", bundle, "--budgets", budgets(tmp_path, f"{name} = {value}"), "--json")
        assert (status, lines_of(out)[name]["reason"]) == (3, "1 over the limit")


def test_a_count_that_is_not_to_be_had_stays_open(run: Run, bundle: Path, tmp_path: Path) -> None:
    """`no-count` is the reason, not a skip: neither an arena nor an emulated core belongs to ONNX Runtime."""
    file = budgets(tmp_path, "arena_bytes = 5\ninstructions = 5")
    status, out, _ = run("check", bundle, "--budgets", file, "--json")
    assert status == 4
    assert "gives no 'arena_bytes'" in lines_of(out)["arena_bytes"]["reason"]
    assert "no emulated core" in lines_of(out)["instructions"]["reason"]


def test_no_count_is_an_error_of_its_own(bundle: Path) -> None:
    from edgec.pipeline.bundle.read import open_bundle
    from edgec.pipeline.core.errors import EdgecError

    with pytest.raises(EdgecError) as caught:
        Proxies(open_bundle(bundle)).count("delegate_pieces")
    assert caught.value.code == "no-count"


def test_a_waiver_lets_a_failure_pass_and_shows_it(run: Run, bundle: Path, tmp_path: Path) -> None:
    until = datetime.date.today() + datetime.timedelta(days=9)
    waiver = f'[[budget.waiver]]\nlimit = "size_bytes"\nuntil = {until}\nowner = "ann"\nreason = "new head"\n'
    file = budgets(tmp_path, "size_bytes = 10", waiver)
    status, out, _ = run("check", bundle, "--budgets", file, "--json")
    line = lines_of(out)["size_bytes"]
    assert (status, line["verdict"], line["waived"]) == (0, "pass", True)
    assert f"waived until {until} by ann: new head" in line["reason"]


def test_accuracy_on_other_images_and_against_a_baseline(
    run: Run, bundle: Path, tmp_path: Path, tiny_images: Path
) -> None:
    file = budgets(tmp_path, "drop_pp = 30.0", '[budget.relative]\nbaseline = "main"\nmax_drop_pp = 30.0\n')
    given = ("check", bundle, "--budgets", file, "--baseline", bundle, "--json")
    status, out, _ = run(*given, "--data", tiny_images)
    assert status == 0
    assert "of 24" in lines_of(out)["drop_pp"]["reason"]
    assert "of 24" in lines_of(out)["max_drop_pp"]["reason"]
    status, out, _ = run(*given)
    assert (status, "needs labelled images" in lines_of(out)["max_drop_pp"]["reason"]) == (4, True)
    (tmp_path / "plain").mkdir()
    for index, image in enumerate(sorted(tiny_images.rglob("*.png"))[:3]):
        shutil.copy(image, tmp_path / "plain" / f"{index}.png")
    status, out, _ = run(*given, "--data", tmp_path / "plain")
    assert (status, "no labels" in lines_of(out)["max_drop_pp"]["reason"]) == (4, True)


def test_networks_for_different_tasks_have_no_pairs(bundle: Path, tiny_images: Path) -> None:
    opened = open_bundle(bundle)
    accuracy = replace(opened.manifest.accuracy, task="tensors")
    other = replace(opened, manifest=replace(opened.manifest, accuracy=accuracy))
    assert paired(opened, opened, tiny_images) is not None
    assert paired(other, opened, tiny_images) is None


RECORDED = Accuracy(
    "classification", "top1", 90.0, 89.0, 89.0, 1.0, 97.5, 20.0, 200, only_float_right=2, only_target_right=0
)


@pytest.mark.parametrize(
    ("limit", "bound", "expected"),
    [
        ("drop_pp", 5.0, Verdict.PASS),
        ("drop_pp", -2.0, Verdict.FAIL),
        ("drop_pp", 2.0, Verdict.INCONCLUSIVE),
        ("agreement", 90.0, Verdict.PASS),
        ("agreement", 99.9, Verdict.FAIL),
        ("agreement", 96.0, Verdict.INCONCLUSIVE),
        ("sqnr_db", 20.0, Verdict.PASS),
        ("sqnr_db", 20.5, Verdict.FAIL),
    ],
)
def test_accuracy_verdicts(limit: str, bound: float, expected: Verdict) -> None:
    finding = judge_accuracy(limit, bound, RECORDED)
    assert finding.verdict is expected
    assert ("needs about" in finding.reason) == (expected is Verdict.INCONCLUSIVE)


def test_an_artifact_that_equals_a_garbage_reference_fails() -> None:
    assert judge_accuracy("sqnr_db", 10.0, replace(RECORDED, reference_sqnr_db=0.8)).verdict is Verdict.FAIL
    exact = replace(RECORDED, sqnr_db=None, outputs=(Fidelity("logits", None, 1.0, 0.0),))
    assert judge_accuracy("sqnr_db", 10.0, exact).verdict is Verdict.PASS
    assert judge_accuracy("sqnr_db", 10.0, replace(exact, outputs=())).verdict is Verdict.INCONCLUSIVE, "class maps"


def test_random_weights_have_no_drop() -> None:
    finding = judge_accuracy("drop_pp", 1.0, replace(RECORDED, only_float_right=None))
    assert finding.verdict is Verdict.INCONCLUSIVE


def line(verdict: Verdict, p_value: float | None = None, limit: str = "p50_ms", waiver: Waiver | None = None) -> Line:
    value = None if verdict is Verdict.INCONCLUSIVE else 5.0
    return Line("m", "t", "d", Finding(limit, 4.0, verdict, "50 % | <why>", value, 4.5, 5.5, p_value), waiver)


def test_holm_turns_weak_failures_inconclusive() -> None:
    kept = corrected([line(Verdict.FAIL, 0.02)])
    assert kept[0].verdict is Verdict.FAIL
    lines = corrected(
        [line(Verdict.FAIL, 0.02), line(Verdict.FAIL, 0.001), line(Verdict.PASS, 0.9), line(Verdict.FAIL)]
    )
    assert [each.verdict.value for each in lines] == ["inconclusive", "fail", "pass", "fail"]
    assert "Holm's correction for 3 lines" in lines[0].reason


@pytest.fixture
def report() -> Report:
    """A line of every kind, with characters that every format has to escape."""
    waiver = Waiver("size_bytes", datetime.date(2030, 1, 1), "ann", "a % of\nnothing")
    lines = (
        line(Verdict.FAIL, 0.001),
        line(Verdict.PASS, 0.9, "max_slowdown"),
        line(Verdict.INCONCLUSIVE, limit="agreement"),
        line(Verdict.FAIL, limit="size_bytes", waiver=waiver),
    )
    latency = Latency("measured", 2.0, num_samples=960, num_blocks=48, medians_ms=(2.0, 2.0, 2.0), noise_floor=0.004)
    measured = Measured("m", "t", "d", HERE, replace(latency, num_processes=3), 3, {"macs": 5})
    return Report((*lines, replace(line(Verdict.PASS), model="other")), (measured,))


def test_junit_follows_its_schema(report: Report) -> None:
    schema = etree.XMLSchema(etree.parse(Path(__file__).with_name("junit.xsd")))
    root = etree.fromstring(FORMATS["junit"](report).encode())
    schema.assertValid(root)
    assert [suite.get("name") for suite in root] == ["m / t / d", "other / t / d"]
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("5", "1", "1")
    assert [case[0].tag for case in root.iter("testcase")] == [
        "failure",
        "system-out",
        "error",
        "system-out",
        "system-out",
    ]


def test_junit_has_the_seconds_of_each_verdict(report: Report) -> None:
    lines = tuple(replace(line, seconds=0.25 * (1 + i)) for i, line in enumerate(report.lines))
    root = etree.fromstring(FORMATS["junit"](replace(report, lines=lines)).encode())
    assert [case.get("time") for case in root.iter("testcase")] == ["0.250", "0.500", "0.750", "1.000", "1.250"]
    assert ([suite.get("time") for suite in root], root.get("time")) == (["2.500", "1.250"], "3.750")


def test_the_schema_refuses_what_junit_has_not(report: Report) -> None:
    schema = etree.XMLSchema(etree.parse(Path(__file__).with_name("junit.xsd")))
    root = etree.fromstring(FORMATS["junit"](report).encode().replace(b"failure", b"inconclusive"))
    assert not schema.validate(root)


def test_github_annotations(report: Report) -> None:
    lines = FORMATS["github"](report).splitlines()
    assert [text.split(" ")[0] for text in lines] == ["::error", "::warning", "::warning", "::notice"]
    assert lines[0].startswith("::error title=m t p50_ms::p50_ms ≤ 4.000 ms: found 5.000 (4.500 to 5.500); 50 %25 |")
    assert "waived until 2030-01-01 by ann: a %25 of%0Anothing" in lines[2]


def test_markdown_is_one_table(report: Report) -> None:
    rows = [text for text in FORMATS["markdown"](report).splitlines() if text.startswith("|")]
    assert {text.replace("\\|", "").count("|") for text in rows[:3]} == {10}
    assert "❌ fail" in rows[2]


def test_json_reads_back(report: Report) -> None:
    content = json.loads(FORMATS["json"](report))
    assert content["verdict"] == "fail"
    assert Measured.of(content["measured"][0]) == report.measured[0]


def test_text_says_what_was_measured(report: Report) -> None:
    text = FORMATS["text"](report)
    assert "A/A floor 0.40 %" in text
    assert "3 spikes kept" in text
    assert text.endswith("verdict: fail")


def test_formats_to_files(run: Run, bundle: Path, tmp_path: Path) -> None:
    files = [f"{name}={tmp_path / name}" for name in FORMATS]
    given = [text for file in files for text in ("--format", file)]
    status, out, _ = run("check", bundle, "--budgets", budgets(tmp_path), *given)
    assert (status, out) == (0, "")
    assert all((tmp_path / name).stat().st_size for name in FORMATS)


def test_files_go_where_there_is_no_folder_yet(run: Run, bundle: Path, tmp_path: Path) -> None:
    """As a test runner's reports do; what cannot be made is refused before anything is judged."""
    file = tmp_path / "new" / "budgets.toml"
    assert run("budget", "init", bundle, "--owner", "me", "--device", "any", "--output", file)[0] == 0
    found = tmp_path / "reports" / "gate.xml"
    assert run("check", bundle, "--budgets", file, "--no-device", "--format", f"junit={found}")[0] == 0
    assert found.is_file()
    inside = file / "gate.xml"
    assert code(run("check", bundle, "--budgets", file, "--format", f"junit={inside}")) == "output-not-writable"
    answer = run("budget", "init", bundle, "--owner", "me", "--output", file / "budgets.toml")
    assert code(answer) == "output-not-writable"
    found.unlink()
    found.mkdir()
    assert code(run("check", bundle, "--budgets", file, "--no-device", "--format", f"junit={found}")) == (
        "output-not-writable"
    )


def test_two_bundles_of_one_budget_are_refused(run: Run, bundle: Path, tmp_path: Path) -> None:
    """A file with both would be refused by the next check."""
    copy = Path(shutil.copytree(bundle, tmp_path / "copy"))
    file = tmp_path / "budgets.toml"
    for others in ((bundle,), (copy,)):
        answer = run("budget", "init", bundle, *others, "--owner", "me", "--device", "any", "--output", file)
        assert code(answer) == "same-bundle"
        assert not file.exists()
    kept = budgets(tmp_path, device=ANY_DEVICE)
    assert code(run("budget", "update", bundle, copy, "--budgets", kept)) == "same-bundle"


def test_a_check_that_judges_nothing_does_not_pass(run: Run, bundle: Path, tmp_path: Path) -> None:
    file = budgets(tmp_path, "p50_ms = 3.0")
    formats = ("--format", "text", "--format", "github", "--format", "markdown")
    status, out, _ = run("check", bundle, "--budgets", file, "--no-device", *formats)
    assert status == 4
    assert out.count("nothing was judged") == 3
    assert "::warning" in out


def test_no_budgets_yet(run: Run, bundle: Path, tmp_path: Path) -> None:
    answer = run("check", bundle, "--budgets", tmp_path / "nothing.toml")
    assert code(answer) == "no-such-file"
    assert "edgec budget init" in answer[2]


def test_init_writes_budgets_that_hold(run: Run, bundle: Path, tmp_path: Path, truth: dict[str, float]) -> None:
    file = tmp_path / "budgets.toml"
    status, _, _ = run("budget", "init", bundle, "--owner", "me", "--baseline", "main", "--output", file)
    assert status == 0
    assert "latency +25 %" in file.read_text()
    limits = load_budgets(file).budget[0].limits
    assert limits.p50_ms == pytest.approx(2.5, rel=0.02)
    assert limits.min_speedup == pytest.approx(1.2 / 1.25, rel=0.02)
    assert run("check", bundle, "--budgets", file, "--baseline", bundle)[0] == 0
    truth["float"] = 1.8
    assert run("check", bundle, "--budgets", file, "--baseline", bundle)[0] == 3
    assert code(run("budget", "init", bundle, "--owner", "me", "--output", file)) == "output-exists"


@pytest.mark.parametrize("target", ["onnxruntime", "cpu", "arm", "mcu", "jetson", "ethos-u55"])
@pytest.mark.parametrize("margins", [(), ("--accuracy-margin-pp", "0")], ids=["usual", "none"])
def test_a_fresh_budget_is_kept_on_every_kind_of_target(
    target: str,
    margins: tuple[str, ...],
    run: Run,
    build: Callable[[str], Path],
    tmp_path: Path,
    truth: dict[str, float],
) -> None:
    """A limit stands in it only where the next check can decide it."""
    needed = {"cpu": "openvino", "arm": "ai_edge_litert", "mcu": "ai_edge_litert", "ethos-u55": "ethosu"}
    pytest.importorskip(needed.get(target, "onnx"))
    bundle, file = build(target), tmp_path / "budgets.toml"
    assert run("budget", "init", bundle, "--owner", "me", *margins, "--output", file)[0] == 0
    (budget,) = load_budgets(file).budget
    is_here = target in ("onnxruntime", "cpu")
    assert {"p50_ms", "min_speedup"} <= budget.limits.given().keys() if is_here else budget.device == ANY_DEVICE
    assert (budget.limits.min_speedup is not None) == is_here
    status, out, _ = run("check", bundle, "--budgets", file, "--json")
    assert (status, {line["verdict"] for line in lines_of(out).values()}) == (0, {"pass"})


def test_a_speedup_that_cannot_be_measured_is_no_limit(
    run: Run, bundle: Path, tmp_path: Path, truth: dict[str, float]
) -> None:
    """Init says why, and an update does not mind."""
    alone = without_float(bundle, tmp_path)
    file = tmp_path / "budgets.toml"
    status, _, err = run("budget", "init", alone, "--owner", "me", "--output", file)
    assert status == 0
    assert "no min_speedup for 'tiny' on 'onnxruntime': " in err
    assert load_budgets(file).budget[0].limits.min_speedup is None
    file = budgets(tmp_path, "min_speedup = 1.1\np50_ms = 2.5")
    status, out, err = run("budget", "update", alone, "--budgets", file)
    assert status == 0
    assert "min_speedup" not in out.replace(" min_speedup = 1.1", "")
    assert "no min_speedup" in err


def test_an_update_measures_what_the_file_limits(
    run: Run, bundle: Path, tmp_path: Path, truth: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[set[str]] = []

    def noted(limits: Limits, source: Any) -> Any:
        asked.append({name for name, _ in limits.bounds})
        return judge(limits, source)

    monkeypatch.setattr(draft_module, "judge", noted)
    for limits, device in (("p50_ms = 1.0", None), ("min_speedup = 9.0", None), ("size_bytes = 1", ANY_DEVICE)):
        assert run("budget", "update", bundle, "--budgets", budgets(tmp_path, limits, device=device))[0] == 0
    assert asked == [{"p50_ms"}, {"min_speedup"}]


@pytest.mark.parametrize(("b", "c", "count", "n"), [(3, 0, 0, 3), (0, 0, 3, 3), (1, 0, 399, 400), (0, 2, 390, 400)])
def test_a_drafted_accuracy_is_kept_however_few_the_images(
    b: int, c: int, count: int, n: int, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where they show nothing at all, nothing is limited."""
    found = replace(
        RECORDED,
        num_images=n,
        agreement=100 * count / n,
        drop_pp=100 * (b - c) / n,
        only_float_right=b,
        only_target_right=c,
    )
    monkeypatch.setattr(draft_module, "read_accuracy", lambda *_: found)
    for margin in (0.0, 1.0):
        drafted = draft_module.draft_budget(
            bundle, "me", "why", draft_module.Margins(accuracy_pp=margin), 1, None, "any"
        )
        limits = {k: v for k, v in drafted.budget.limits.given().items() if k in ("agreement", "drop_pp")}
        assert [judge_accuracy(k, v, found).verdict for k, v in limits.items()] == [Verdict.PASS] * len(limits)
        assert len(limits) == (0 if count == 0 else 2)


def test_without_a_baseline_the_next_check_can_decide(
    run: Run, bundle: Path, tmp_path: Path, truth: dict[str, float]
) -> None:
    file = tmp_path / "budgets.toml"
    assert run("budget", "init", bundle, "--owner", "me", "--output", file)[0] == 0
    assert load_budgets(file).budget[0].relative is None
    assert run("check", bundle, "--budgets", file)[0] == 0


@pytest.mark.parametrize("baseline", [(), ("--baseline", "main")])
def test_limits_for_any_device_have_no_milliseconds(
    baseline: tuple[str, ...], run: Run, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing is measured for them."""
    monkeypatch.setattr(draft_module, "judge", lambda *_: pytest.fail("it was measured"))
    file = tmp_path / "budgets.toml"
    assert run("budget", "init", bundle, "--owner", "me", "--device", "any", *baseline, "--output", file)[0] == 0
    (budget,) = load_budgets(file).budget
    assert budget.device == "any"
    assert not {"p50_ms", "p99_ms"} & budget.limits.given().keys()
    assert {"size_bytes", "agreement"} <= budget.limits.given().keys()
    assert (budget.relative is None) == (not baseline)
    assert run("check", bundle, "--budgets", file, "--no-device")[0] == 0


def test_update_shows_a_diff_and_writes_only_when_told(
    run: Run, bundle: Path, tmp_path: Path, truth: dict[str, float]
) -> None:
    file = tmp_path / "budgets.toml"
    run("budget", "init", bundle, "--owner", "me", "--baseline", "main", "--output", file)
    before = file.read_text()
    status, out, _ = run("budget", "update", bundle, "--budgets", file)
    assert (status, out) == (0, "nothing would change\n")
    truth["candidate"] = 4.0
    status, out, _ = run("budget", "update", bundle, "--budgets", file)
    assert "-p50_ms = 2.5" in out
    assert "+p50_ms = 5.0" in out
    assert file.read_text() == before
    run("budget", "update", bundle, "--budgets", file, "--write")
    after = file.read_text()
    assert after.splitlines()[:2] == before.splitlines()[:2]
    assert load_budgets(file).budget[0].limits.p50_ms == pytest.approx(5.0, rel=0.02)


COMMENTED = """\
# A head of two lines,
# and a blank line.

[[budget]]  # the camera
model = "tiny"
target = "onnxruntime"      # odd spaces
device = "any"
reason = '''literal "text"'''  # order and quotes are people's
owner = "me"

# Why these limits.
[budget.limits]
# before the first
size_bytes = 10  # behind it
params = 1_000
# at the end

[[budget.waiver]]  # for now
limit = "params"
until = 2999-12-31
owner = "me"
reason = "r"

# Another board.
[[budget]]
model = "tiny"
target = "elsewhere"
device = "any"
owner = "me"
reason = "r"
limits = { size_bytes = 10 }
# the last word"""


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_update_changes_the_values_and_nothing_else(
    run: Run, bundle: Path, tmp_path: Path, truth: dict[str, float], line_end: str
) -> None:
    file = tmp_path / "budgets.toml"
    before = COMMENTED.replace("\n", line_end)
    file.write_bytes(before.encode())
    assert run("budget", "update", bundle, "--budgets", file, "--write")[0] == 0
    limits = load_budgets(file).budget[0].limits
    assert limits.size_bytes == (bundle / "model.onnx").stat().st_size
    expected = before.replace("size_bytes = 10  #", f"size_bytes = {limits.size_bytes}  #")
    expected = expected.replace("params = 1_000", f"params = {limits.params}")
    assert file.read_bytes().decode() == expected


def test_update_keeps_what_people_decided(run: Run, bundle: Path, tmp_path: Path, truth: dict[str, float]) -> None:
    file = budgets(tmp_path, "size_bytes = 10", MAIN)
    run("budget", "update", bundle, "--budgets", file, "--write")
    budget = load_budgets(file).budget[0]
    assert set(budget.limits.given()) == {"size_bytes"}
    assert (budget.owner, budget.reason) == ("me", "test")
    assert budget.relative is not None
    elsewhere = budgets(tmp_path, device="another machine")
    assert code(run("budget", "update", bundle, "--budgets", elsewhere)) == "no-budget"


def test_a_machine_that_cannot_be_measured(
    run: Run, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draft_module, "Sampler", lambda *places, **options: lambda count: [])
    answer = run("budget", "init", bundle, "--owner", "me", "--output", tmp_path / "b.toml")
    assert code(answer) == "cannot-measure"
    assert not (tmp_path / "b.toml").exists()


def test_no_limit_starts_from_an_interval_that_holds_anything(
    run: Run, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a busy machine: a network of 0.07 ms once got a budget of 575."""
    alike, unlike = source(2.0, 2.4, 2.4), source(2.0, 2.4, 2.4, seed=1, layout=2.0)
    monkeypatch.setattr(draft_module, "Sampler", lambda *places, **options: unlike)
    answer = run("budget", "init", bundle, "--owner", "me", "--output", tmp_path / "b.toml")
    assert code(answer) == "cannot-measure"
    assert "agree too little" in answer[2]
    monkeypatch.setattr(draft_module, "Sampler", lambda *places, **options: alike)
    assert run("budget", "init", bundle, "--owner", "me", "--output", tmp_path / "b.toml")[0] == 0


@pytest.mark.parametrize(("turns", "limited"), [(6, False), (8, True)])
def test_a_p99_of_few_samples_is_no_limit(
    turns: int, limited: bool, run: Run, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1,440 samples give one, but the next check may have 990; of 1,920 it has enough."""
    found = source(2.0, 2.4, 2.4, turns=turns)
    monkeypatch.setattr(draft_module, "Sampler", lambda *places, **options: found)
    file = tmp_path / "b.toml"
    status, _, err = run("budget", "init", bundle, "--owner", "me", "--output", file)
    assert (status, "no p99_ms" in err) == (0, not limited)
    assert (load_budgets(file).budget[0].limits.p99_ms is not None) == limited


def test_judging_rests_on_all_processes() -> None:
    outcome = judge(Limits((("p50_ms", 3.0),)), source(2.0))
    assert outcome.findings[0].num_processes == len(outcome.processes) == FIRST_LOOK
