"""Many builds on one page: what is compared, what is refused by name, and the figures of hand-made answers."""

from __future__ import annotations

import shutil
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest
from outline import check_page
from variants import Variant, predictions

from edgec.pipeline.bundle.integrity import read_checked_manifest
from edgec.pipeline.bundle.manifest import BudgetVerdict, DataSet, Weighed
from edgec.pipeline.cli import main
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.words import size_words
from edgec.pipeline.forms.measure import BesideFloat
from edgec.pipeline.report.charts import DIGIT, Point, scatter
from edgec.pipeline.report.comparison import compare, confusion, drop_estimate, front, parity
from edgec.pipeline.report.findings import Findings
from edgec.pipeline.report.headline import headline, times, verdict
from edgec.pipeline.report.kinship import differences
from edgec.pipeline.report.latencies import latency_plots
from edgec.pipeline.report.page import render_report
from edgec.pipeline.report.summary import gain, signed, summary
from edgec.pipeline.report.tables import Cell, Table
from edgec.pipeline.tasks.resampling import Spread

OTHERS = DataSet("f" * 64, 7)


def column(table: Table, head: str) -> list[Cell]:
    return [row[table.heads.index(head)] for row in table.rows]


def timed(p50_ms: float, device: str = "a machine", threads: int = 1) -> dict[str, object]:
    return {"status": "measured", "p50_ms": p50_ms, "device": device, "threads": threads}


def test_points_on_each_other_keep_their_marks_and_numbers_their_room() -> None:
    """Three alike at 33.333 %: one place for three marks, and ticks of five digits right of the edge."""
    alike = [Point(mark, mark, 1.0, 33.333, True) for mark in "123"]
    svg = ET.fromstring(scatter("front", [*alike, Point("4", "4", 9.0, 33.333, False)], "MB", "%"))
    texts = {text.text: text.attrib for text in svg.iter("text")}
    assert {"1, 2, 3", "4"} <= set(texts)
    numbers = {words: float(said["x"]) for words, said in texts.items() if words and words.startswith("33.")}
    assert numbers
    assert all(x >= DIGIT * len(words) for words, x in numbers.items())


class TestHeadline:
    def test_of_what_was_measured_alone(self, variant: Variant) -> None:
        one = variant("a", accuracy={"agreement": 99.1, "num_images": 1000, "metric": "agreement"})
        assert "ms" not in headline(one)
        assert headline(one).startswith("INT8 agrees with float on 99.1 % of 1,000 images, ")

    def test_speed_stands_beside_the_precision_that_was_measured(self, variant: Variant) -> None:
        rows = (Weighed("int8", 90.0, 20.0, 2.0, None, 5), Weighed("fp16", 91.0, 40.0, 4.2, None, 9))
        one = variant("a", latency=timed(2.0), weighed=rows)
        assert "2.00 ms, 2.1x faster than FP16" in headline(one)

    @pytest.mark.parametrize(
        ("beside", "words"),
        [
            (BesideFloat(4.2, 2.1, 1.9, 2.3), "2.00 ms, 2.1x faster than float,"),
            (BesideFloat(1.8, 0.9, 0.8, 0.97), "2.00 ms, 1.11x slower than float,"),
            (BesideFloat(2.1, 1.05, 0.97, 1.1), "2.00 ms, not clearly faster than float (1.05x),"),
        ],
    )
    def test_speed_stands_beside_float(self, variant: Variant, beside: BesideFloat, words: str) -> None:
        one = replace(variant("a", latency={**timed(2.0), "beside_float": beside}), float_bytes=9)
        assert words in headline(one)

    def test_size_stands_beside_the_weights_in_float(self, variant: Variant) -> None:
        one = replace(variant("a", size_bytes=1000), float_bytes=3600)
        assert "3.6x smaller than its weights in float" in headline(one)
        assert "float," not in headline(replace(one, float_bytes=0))

    def test_weights_in_float_are_counted_in_the_qdq_file(self, findings: Findings) -> None:
        """Two convolutions and a Gemm, 6 x 3 x 9 + 6, 6 x 9 + 6 (the bias that corrects it) and 3 x 6 + 3 numbers."""
        assert findings.float_bytes == 4 * (168 + 60 + 21)

    def test_what_answered_is_named(self, variant: Variant) -> None:
        assert headline(variant("a", accuracy={"shipped": "reference"})).startswith("the QDQ reference agrees")

    @pytest.mark.parametrize(
        ("sqnr_db", "words"), [(31.26, "31.3 dB SQNR of float in its worst output"), (None, "exactly as float")]
    )
    def test_tensors(self, variant: Variant, sqnr_db: float | None, words: str) -> None:
        one = variant("a", accuracy={"task": "tensors", "metric": "sqnr", "agreement": None, "sqnr_db": sqnr_db})
        assert words in headline(one)

    @pytest.mark.parametrize(
        ("before", "after", "words"),
        [(36, 10, "3.6x faster than"), (10.8, 10, "1.08x faster than"), (10, 10.8, "1.08x slower than"),
         (10, 10.01, "no faster than")],
    )  # fmt: skip
    def test_factors(self, before: float, after: float, words: str) -> None:
        assert times(before, after, "faster", "slower") == words


class TestVerdict:
    @pytest.mark.parametrize(
        ("lines", "mark", "words"),
        [((), "none", "no budgets"), (("pass", "pass"), "pass", "pass"), (("pass", "fail"), "fail", "fail"),
         (("pass", "inconclusive"), "inconclusive", "inconclusive")],
    )  # fmt: skip
    def test_each_has_its_colour(self, variant: Variant, lines: tuple[str, ...], mark: str, words: str) -> None:
        budgets = tuple(BudgetVerdict(f"b{i}", "any", 1.0, 1.0, line, "") for i, line in enumerate(lines))  # type: ignore[arg-type]
        found = verdict(variant("a", budgets=budgets).manifest)
        assert (found.mark, found.words) == (mark, words)

    def test_no_budgets_is_no_failure_on_the_page(self, mcu_bundle: Path) -> None:
        page = (mcu_bundle / "report.html").read_text()
        assert '<span class="verdict none">no budgets</span>' in page
        assert "verdict fail" not in page
        assert "unjudged" not in page

    def test_a_board_that_is_too_small_fails(self, variant: Variant) -> None:
        assert verdict(variant("a", memory={"over": ("flash",)}).manifest).mark == "fail"


class TestSummary:
    def test_costs_stand_against_the_first(self, variant: Variant) -> None:
        builds = [
            variant("a", latency=timed(2.0), size_bytes=1_000_000, memory={"arena_bytes": 1000}),
            variant("b", latency=timed(3.0), size_bytes=500_000, memory={"arena_bytes": 1500}),
        ]
        table = summary(builds)
        assert column(table, "Latency") == [Cell("2.000 ms"), Cell("3.000 ms", "1.50x")]
        assert column(table, "Size") == [Cell("1.00 MB"), Cell("500.0 kB", "0.50x")]
        assert column(table, "Arena") == [Cell("1.0 kB"), Cell("1.5 kB", "1.50x")]

    def test_what_a_build_takes_at_first(self, variant: Variant) -> None:
        more = {"beside_float": BesideFloat(4.2, 2.1, 1.9, 2.3), "load_ms": 31.4, "peak_rss_bytes": 9_500_000}
        builds = [variant("a", latency={**timed(2.0), **more}), variant("b")]
        table = summary(builds)
        assert column(table, "Speedup") == [Cell("2.10x", "1.90 to 2.30"), Cell("-")]
        assert column(table, "First answer")[0] == Cell("31 ms")
        assert column(table, "Memory")[0] == Cell("9.50 MB")
        assert summary([variant("a", latency=timed(2.0))]).kind == "wide"
        in_float = BesideFloat(4.2, 2.1, 1.9, 2.3, float_load_ms=52.0, float_peak_rss_bytes=30_000_000)
        table = summary([variant("a", latency={**timed(2.0), **more, "beside_float": in_float})])
        assert column(table, "First answer") == [Cell("31 ms", "float 52 ms")]
        assert column(table, "Memory") == [Cell("9.50 MB", "float 30.00 MB")]

    def test_many_columns_are_drawn_smaller(self, variant: Variant) -> None:
        """More than fit a page of 72 rem; below that width the builds are cards."""
        memory = {"arena_bytes": 1000, "ram_limit_bytes": 5000, "flash_limit_bytes": 5000}
        more = {"beside_float": BesideFloat(4.2, 2.1, 1.9, 2.3), "load_ms": 31.4, "peak_rss_bytes": 9_500_000}
        assert summary([variant("a", latency={**timed(2.0), **more}, memory=memory)]).kind == "wide many"

    def test_float_stands_beside_in_the_latency_plot(self, variant: Variant) -> None:
        known = {"medians_ms": (1.9, 2.0, 2.1), "beside_float": BesideFloat(4.2, 2.1, 1.9, 2.3)}
        (plot,) = latency_plots([variant("a", latency={**timed(2.0), **known})])
        svg = ET.fromstring(plot.chart)
        dots = [(dot.attrib["class"], float(dot.attrib["cx"])) for dot in svg.iter("circle")]
        assert [kind for kind, _ in dots] == ["dot", "dot", "dot", "dot strong"]
        assert dots[3][1] - dots[0][1] == pytest.approx(23 * (dots[1][1] - dots[0][1]), abs=1.5)
        assert "a: 2.000 ms, 3 dots from 1.900 to 2.100 ms; a, float: 4.200 ms" in svg.attrib["aria-label"]
        assert "Orange is the float network" in plot.caption
        known["beside_float"] = replace(BesideFloat(4.2, 2.1, 1.9, 2.3), float_medians_ms=(4.1, 4.2, 4.5))
        (plot,) = latency_plots([variant("a", latency={**timed(2.0), **known})])
        assert plot.chart.count("dot strong") == 3

    def test_columns_that_nobody_fills_vanish(self, variant: Variant) -> None:
        none = {
            "arena_bytes": None,
            "arena_with_margin_bytes": None,
            "ram_limit_bytes": None,
            "flash_limit_bytes": None,
        }
        heads = summary([variant("a", memory=none), variant("b", memory=none)]).heads
        assert not {"Arena", "RAM", "Flash", "Latency", "Instructions"} & set(heads)

    def test_ram_and_flash_stand_against_the_boards(self, variant: Variant) -> None:
        memory = {"arena_bytes": 90, "arena_with_margin_bytes": 112_000, "ram_limit_bytes": 256_000,
                  "flash_bytes": 70_000, "flash_limit_bytes": 1_000_000}  # fmt: skip
        table = summary([variant("a", memory=memory)])
        assert (column(table, "RAM"), column(table, "Flash")) == (
            [Cell("112.0 kB", "of 256.0 kB")],
            [Cell("70.0 kB", "of 1.00 MB")],
        )

    def test_another_machine_is_no_factor(self, variant: Variant) -> None:
        table = summary([variant("a", latency=timed(2.0)), variant("b", latency=timed(1.0, threads=2))])
        assert column(table, "Latency")[1] == Cell("1.000 ms", "another machine")

    def test_gain_is_of_paired_answers(self, variant: Variant) -> None:
        """Of ten images the second is right on two more and wrong on one that the first got: a point of ten."""
        truth = [0] * 10
        one = variant("a", predictions(truth, truth, [0, 0, 0, 0, 0, 0, 0, 0, 1, 1]))
        other = variant("b", predictions(truth, truth, [1, 0, 0, 0, 0, 0, 0, 0, 0, 0]))
        found = gain(other, one)
        assert found is not None
        assert found.estimate == pytest.approx(10.0)
        assert found.low < 10 < found.high
        assert gain(one, one) is None
        assert gain(variant("c", predictions([1] * 10, truth, truth)), one) is None, "other labels"

    def test_zero_has_no_sign(self) -> None:
        assert [signed(value) for value in (0.3, -0.3, 0.0, -0.001)] == ["+0.30", "-0.30", "0.00", "0.00"]
        assert [size_words(count) for count in (999, 999_999, 2_890_000)] == ["1.0 kB", "1000.0 kB", "2.89 MB"]


class TestForest:
    def test_positions(self, variant: Variant) -> None:
        """A drop of nothing lies on the dashed line; one that is surely a loss lies right of it, in orange."""
        even = {"drop_pp": 0.0, "only_float_right": 5, "only_target_right": 5, "num_images": 1000, "metric": "top1"}
        worse = {**even, "drop_pp": 3.0, "only_float_right": 30, "only_target_right": 0}
        compared = compare([variant("even", accuracy=even), variant("worse", accuracy=worse)])
        assert compared is not None
        svg = ET.fromstring(compared.forest)
        (zero,) = (float(line.attrib["x1"]) for line in svg.iter("line") if line.attrib["class"] == "zero")
        dots = [(dot.attrib["class"], float(dot.attrib["cx"])) for dot in svg.iter("circle")]
        whiskers = [line.attrib for line in svg.iter("line") if line.attrib["class"].startswith("whisker")]
        assert dots[0] == ("mark", pytest.approx(zero, abs=0.1))
        assert dots[1][0] == "mark strong"
        assert float(whiskers[0]["x1"]) < zero < float(whiskers[0]["x2"])
        assert zero < float(whiskers[1]["x1"]) < dots[1][1] < float(whiskers[1]["x2"])
        assert "worse: +3.00 pp" in svg.attrib["aria-label"]

    def test_a_published_example(self, variant: Variant) -> None:
        """Airway hyper-responsiveness, 21 children, discordant 1 and 7: Fagerland et al. (Stat. Med. 33, 2014)."""
        accuracy = {"drop_pp": -28.6, "only_float_right": 1, "only_target_right": 7, "num_images": 21}
        found = drop_estimate(variant("a", accuracy=accuracy).manifest.accuracy)
        assert found is not None
        assert (found[0], found[1]) == (pytest.approx(-28.6, abs=0.05), pytest.approx((-51.7, -2.6), abs=0.1))

    def test_without_labels_it_is_of_changed_answers(self, variant: Variant) -> None:
        unlabelled = {"metric": "agreement", "drop_pp": None, "agreement": 95.0, "num_images": 100}
        compared = compare([variant(name, accuracy=unlabelled) for name in "ab"])
        assert compared is not None
        assert compared.what == "Images answered unlike float, in percent"
        assert "a: 5.00 % (2.2 to 11.2)" in ET.fromstring(compared.forest).attrib["aria-label"]

    def test_a_bootstrap_where_images_are_no_yes_or_no(self, variant: Variant) -> None:
        accuracy = {"drop_pp": 1.5, "only_float_right": None, "drop_spread": Spread(0.5, 2.5, 0.5)}
        assert drop_estimate(variant("a", accuracy=accuracy).manifest.accuracy) == (1.5, (0.5, 2.5))


class TestConfusion:
    def test_a_column_for_each_build(self, variant: Variant) -> None:
        truth = [0, 0, 0, 1, 1, 2]
        one = variant("a", predictions(truth, truth, [1, 1, 2, 1, 1, 2]))
        other = variant("b", predictions(truth, truth, [0, 0, 0, 0, 1, 2]))
        table = confusion([one, other])
        assert table is not None
        assert table.heads == ("Class", "Images", "a", "b")
        assert table.rows == (
            (Cell("bolt"), Cell("3"), Cell("3", "nut (2), stud (1)"), Cell("0")),
            (Cell("nut"), Cell("2"), Cell("0"), Cell("1", "bolt (1)")),
        )

    def test_without_errors_or_labels_there_is_none(self, variant: Variant) -> None:
        right = [variant(name, predictions([0, 1], [0, 1], [0, 1])) for name in "ab"]
        unknown = [variant(name, predictions([-1, -1], [0, 1], [1, 1])) for name in "ab"]
        assert (confusion(right), confusion(unknown)) == (None, None)

    def test_agreement_between_builds(self, variant: Variant) -> None:
        table = parity([variant("a", predictions([0] * 4, [0] * 4, said)) for said in ([0, 1, 2, 0], [0, 1, 1, 1])])
        assert table is not None
        assert [cell.text for cell in table.rows[0]] == ["a", "100.00 %", "50.00 %"]


class TestFront:
    def marks(self, builds: list[Findings]) -> dict[str, str]:
        return {one.name: str(i + 1) for i, one in enumerate(builds)}

    def test_latency_where_all_were_timed_on_one_machine(self, variant: Variant) -> None:
        costs = {"fast": (1.0, 70.0), "good": (2.0, 75.0), "beaten": (2.5, 74.0)}
        builds = [
            variant(name, latency=timed(ms), accuracy={"metric": "top1", "target": top1})
            for name, (ms, top1) in costs.items()
        ]
        found = front(builds, self.marks(builds))
        assert found is not None
        assert [(p.mark, p.label) for p in found.points if p.on_front] == [("1", "fast"), ("2", "good")]
        assert found.why == ""
        assert "Top-1 in % against latency in ms" in found.chart

    def test_instructions_where_one_was_not(self, variant: Variant) -> None:
        builds = [variant("a", latency=timed(1.0), instructions=5_000_000), variant("b", instructions=9_000_000)]
        found = front(builds, self.marks(builds))
        assert found is not None
        assert [point.x for point in found.points] == [5.0, 9.0]
        assert "instructions stands for the cost" in found.why

    def test_size_where_nothing_else_is_known_of_all(self, variant: Variant) -> None:
        builds = [
            variant("a", latency=timed(1.0), size_bytes=10**6),
            variant("b", instructions=9, size_bytes=2 * 10**6),
        ]
        builds.append(variant("c", latency=timed(1.0, device="another"), size_bytes=3 * 10**6))
        found = front(builds, self.marks(builds))
        assert found is not None
        assert [point.x for point in found.points] == [1.0, 2.0, 3.0]
        assert "size stands for the cost" in found.why


class TestRefused:
    def test_other_images_are_named_and_the_rest_is_compared(self, variant: Variant) -> None:
        first, other = variant("a", latency=timed(1.0)), variant("b", latency=timed(2.0), origin={"test_set": OTHERS})
        (said,) = differences([first, other])
        assert said.startswith("b was tested on other images (7, sha256 ffffffffffff")
        compared = compare([first, other])
        assert compared is not None
        assert (compared.forest, compared.confusion, compared.parity, compared.front) == ("", None, None, None)
        table = summary([first, other])
        assert column(table, "Latency")[1].below == "2.00x"
        assert column(table, "Top-1")[1].below == "other images"

    def test_other_machines_are_named(self, variant: Variant) -> None:
        (said,) = differences([variant("a", latency=timed(1.0)), variant("b", latency=timed(1.0, threads=4))])
        assert said == (
            "b was timed on a machine with 4 threads, a on a machine with 1 thread: their latency is not compared."
        )

    def test_other_tasks_are_named_and_the_others_are_compared(self, variant: Variant) -> None:
        builds = [variant("a"), variant("b"), variant("c", accuracy={"task": "segmentation"})]
        (said,) = differences(builds)
        assert said.startswith("c is judged as segmentation, a as classification")
        compared = compare(builds)
        assert compared is not None
        assert compared.parity is not None
        assert compared.parity.heads == ("", "a", "b")

    def test_nothing_but_other_tasks(self, variant: Variant) -> None:
        with pytest.raises(EdgecError) as caught:
            compare([variant("a"), variant("b", accuracy={"task": "segmentation"})])
        assert caught.value.code == "nothing-to-compare"
        assert "'b' is judged as segmentation" in caught.value.message

    def test_the_same_bundle_twice(self, mcu_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        copy = shutil.copytree(mcu_bundle, tmp_path / "copy")
        output = tmp_path / "page.html"
        for other in (mcu_bundle, copy):
            assert main(["report", str(mcu_bundle), str(other), "--output", str(output)]) == 1
            code = capsys.readouterr().err.partition("error[")[2].partition("]")[0]
            assert code == "same-bundle"
        assert not output.exists()


def test_builds_of_other_images(mcu_bundle: Path, cpu_bundle: Path, tmp_path: Path) -> None:
    output = tmp_path / "all.html"
    assert main(["report", str(mcu_bundle), str(cpu_bundle), "--output", str(output)]) == 0
    page = output.read_text()
    assert "<h1>2 builds</h1>" in page
    assert check_page(page).sections[:3] == ["summary", "comparison", "accuracy"]
    assert "was tested on other images" in page
    assert "Pareto front" not in page


def test_builds_of_the_same_images(compared_page: str) -> None:
    assert check_page(compared_page).sections[:3] == ["summary", "comparison", "accuracy"]
    for words in ("Points of top-1 lost against float", "Pareto front", "Agreement between builds"):
        assert f"<h3>{words}</h3>" in compared_page
    assert "On the front: colours · mcu, colours · small." in compared_page
    assert "was tested on other images" not in compared_page


def test_hostile_names_stay_text(mcu_bundle: Path, cpu_bundle: Path) -> None:
    hostile = "<script>alert(1)</script>\"'&<svg onload=x>"
    builds = []
    for bundle in (mcu_bundle, cpu_bundle):
        manifest = read_checked_manifest(bundle)
        named = replace(manifest.model, name=hostile)
        latency = replace(manifest.latency, **timed(1.0, device=hostile), fingerprint={hostile: hostile})  # type: ignore[arg-type]
        builds.append((bundle, replace(manifest, model=named, labels=(hostile,) * 3, latency=latency)))
    for page in (render_report(builds), render_report(builds[:1])):
        assert "<script" not in page
        assert "<svg onload" not in page
        check_page(page)


def test_equal_bundles_give_equal_pages(mcu_bundle: Path, cpu_bundle: Path, tmp_path: Path) -> None:
    pages = []
    for name in ("one", "two"):
        assert main(["report", str(mcu_bundle), str(cpu_bundle), "--output", str(tmp_path / name)]) == 0
        pages.append((tmp_path / name).read_bytes())
    assert pages[0] == pages[1]
