"""The page of one build: its numbers, its charts, and how it behaves in a real browser."""

from __future__ import annotations

import re
import shutil
import xml.etree.ElementTree as ET
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import quiet_page
from outline import check_page
from variants import Variant

from edgec.pipeline.bundle.integrity import read_checked_manifest
from edgec.pipeline.bundle.records import read_latency
from edgec.pipeline.bundle.write import write_json
from edgec.pipeline.cli import main
from edgec.pipeline.network.models.curve import Curve
from edgec.pipeline.quantize.record import QuantizationRecord
from edgec.pipeline.report.charts import (
    MAX_TEXT,
    Dots,
    Estimate,
    dots,
    forest,
    line,
    pareto,
    scatter,
    shortened,
)
from edgec.pipeline.report.findings import worst_classes
from edgec.pipeline.report.layers import NUM_LAYERS, layer_tables, plain_name
from edgec.pipeline.report.page import render_report
from edgec.pipeline.report.tables import bars
from edgec.pipeline.tasks.classification import Predictions


def test_every_bundle_has_its_page(mcu_bundle: Path) -> None:
    page = (mcu_bundle / "report.html").read_text()
    outline = check_page(page)
    assert "http" not in re.sub(r'http-equiv|content="default-src', "", page)
    assert any(tag == "svg" for tag, _ in outline.found)
    assert page.count("ates with 95 % intervals") == 2
    assert "rates with 95 % intervals" in (mcu_bundle / "README.md").read_text()
    assert len(page) < 1_500_000


def test_empty_sections_vanish_with_their_links(mcu_bundle: Path) -> None:
    """Not timed, never compared, without an error, and of a user's own network that nobody published figures of."""
    page = (mcu_bundle / "report.html").read_text()
    outline = check_page(page)
    assert outline.sections == ["summary", "accuracy", "layers", "kernels", "examples", "reproduce"]
    links = [attributes.get("href") for tag, attributes in outline.found if tag == "a"]
    assert links == ["#summary", *(f"#{section}" for section in outline.sections)]
    for words in ("Latency</h2>", "Pareto", "Confusion", "Published", "noise floor"):
        assert words not in page


def test_what_is_not_known_is_said(mcu_bundle: Path) -> None:
    page = (mcu_bundle / "report.html").read_text()
    for words in ("no budgets", "latency not measured: not asked for", "makes no error"):
        assert words in page


def test_layers_latency_and_training_where_they_are_known(mcu_bundle: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(mcu_bundle, tmp_path / "copy"))
    quantization = {
        "float_layers": [{"layer": "soft", "reason": "no rule"}],
        "layer_sqnr_db": {"first": 40.0, "last": 20.0},
    }
    write_json(folder / "quantization.json", quantization)
    write_json(folder / "sensitivity.json", {"/blocks/blocks.1/conv/Conv": 41.0})
    write_json(folder / "training.json", asdict(Curve("top-1", (1, 2), (32, 32), (1.5, 0.9), (71.5, 80.25))))
    latency = replace(read_latency(folder), medians_ms=(1.0, 1.1, 1.2), layer_us={"first": 12.0, "second": 4.0})
    write_json(folder / "latency.json", asdict(latency))
    manifest = read_checked_manifest(mcu_bundle)
    known = replace(
        manifest.latency,
        status="measured",
        p50_ms=1.1,
        p50_interval_ms=(0.9, 1.2),
        num_processes=3,
        noise_floor=0.021,
        fingerprint={"governor": "performance"},
    )
    page = render_report([(folder, replace(manifest, latency=known))])
    assert "latency" in check_page(page).sections
    for words in (
        "Noise after each layer",
        "10 % (20.0 dB)",
        "Noise of the output, each layer alone quantized",
        ">blocks.<wbr>1/<wbr>Conv</th>",
        "12.0 µs (75.0 %)",
        "1 × no rule",
        "3 dots from 1.000 to 1.200 ms",
        "A/A noise floor: 2.10 %",
        "top-1 on validation, epoch by epoch",
        "1 epoch: 71.50 %; 2 epoch: 80.25 %",
        "95 % interval 0.900 to 1.200",
        "performance",
    ):
        assert words in page


def test_noise_is_longest_where_it_is_worst(variant: Variant) -> None:
    """20 dB are 10 % of the signal, 40 dB one; a layer that is exact has none."""
    record = QuantizationRecord((), {"good": 40.0, "worst": 20.0, "exact": None})
    (found, *_) = layer_tables(replace(variant("a"), quantization=record))
    assert found.heading == "Noise after each layer"
    assert [(row[0].text, row[1].share) for row in found.first.rows] == [
        ("worst", pytest.approx(100.0)),
        ("good", pytest.approx(10.0)),
        ("exact", 0.0),
    ]
    assert found.others is None


def test_layers_beyond_the_worst_unfold_on_the_same_scale(variant: Variant) -> None:
    record = QuantizationRecord((), {f"l{i}": 20.0 + i for i in range(NUM_LAYERS + 2)})
    (found, *_) = layer_tables(replace(variant("a"), quantization=record))
    assert found.others is not None
    assert [row[0].text for row in found.others.rows] == [f"l{NUM_LAYERS}", f"l{NUM_LAYERS + 1}"]
    assert found.others.rows[0][1].share == pytest.approx(100 * 10 ** (-NUM_LAYERS / 20))


@pytest.mark.parametrize(
    ("path", "shown"), [("/blocks/blocks.4/conv/Conv", "blocks.4/Conv"), ("Conv", "Conv"), ("///", "///")]
)
def test_paths_of_nodes(path: str, shown: str) -> None:
    assert plain_name(path) == shown


class TestCharts:
    def test_intervals_are_proportional(self) -> None:
        rows = [Estimate("a", 86.0, (80.0, 90.0), ""), Estimate("b", 86.0, (85.0, 87.0), "")]
        svg = ET.fromstring(forest("t", rows, "%"))
        lines = [line.attrib for line in svg.iter("line") if line.attrib["class"] == "whisker"]
        first, second = (float(line["x2"]) - float(line["x1"]) for line in lines)
        assert first == pytest.approx(5 * second, abs=0.5)

    def test_every_observation_is_a_dot(self) -> None:
        svg = ET.fromstring(dots("t", [Dots("a", (1.0, 2.0, 4.0), 2.0, "2 ms")], "ms"))
        first, second, third = (float(dot.attrib["cx"]) for dot in svg.iter("circle"))
        assert third - first == pytest.approx(3 * (second - first), abs=0.3)
        (middle,) = (float(line.attrib["x1"]) for line in svg.iter("line") if line.attrib["class"] == "middle-line")
        assert middle == second

    @pytest.mark.parametrize(("label", "apart"), [("a", 44), ("a" * MAX_TEXT, 44 + 15)])
    def test_words_without_room_stand_below_their_label(self, label: str, apart: int) -> None:
        svg = ET.fromstring(forest("t", [Estimate(label, 1.0, None, "1 %"), Estimate("b", 2.0, None, "2 %")], "%"))
        first, second = (float(dot.attrib["cy"]) for dot in svg.iter("circle"))
        texts = {text.text or text[0].tail: text.attrib for text in svg.iter("text")}
        assert second - first == apart
        assert (texts["1 %"]["y"] == texts[label]["y"]) == (apart == 44)
        assert float(texts["1 %"]["y"]) < first

    @pytest.mark.parametrize("value", [0.0, -3.0, 1e-9, 1e9])
    def test_odd_values(self, value: float) -> None:
        for svg in (
            forest("t", [Estimate("a", value, None, "")], ""),
            forest("t", [Estimate("a", value, (value, value), "")], "", zero=True),
            dots("t", [Dots("a", (value,) * 3, value, "")], ""),
            scatter("t", pareto([("1", "a", value, value)]), "", ""),
            line("t", [(value, value)], "", ""),
        ):
            assert "nan" not in ET.tostring(ET.fromstring(svg)).decode().lower()

    def test_pareto(self) -> None:
        costs = [("fast", 1.0, 70.0), ("good", 2.0, 75.0), ("beaten", 2.5, 74.0), ("tie", 1.0, 70.0)]
        points = pareto([("", *point) for point in costs])
        assert [point.on_front for point in points] == [True, True, False, True]

    def test_bars_are_shares_of_the_longest(self) -> None:
        table = bars("t", ("Layer", "Size"), [("a", 10.0, "10 kB"), ("b", 5.0, "5 kB"), ("c", 0.0, "0 kB")])
        assert [row[1].share for row in table.rows] == [100.0, 50.0, 0.0]

    def test_long_names_keep_both_ends(self) -> None:
        assert shortened("a" * 20, 20) == "a" * 20
        short = shortened("begin" + "x" * 50 + "end", 20)
        assert (short[:5], short[-3:], len(short)) == ("begin", "end", 20)
        assert len(shortened("a" * 50, -5)) == 8


def test_worst_classes() -> None:
    found = worst_classes(
        Predictions(
            tuple("abcdef"),
            np.array([0, 0, 0, 1, 1, -1]),
            {"float": np.array([0, 0, 1, 1, 1, 0]), "target": np.array([2, 1, 2, 1, 0, 2])},
            {},
        ),
        ("zero", "one"),
    )
    assert [(one.name, one.num_images, one.float_right, one.right) for one in found] == [
        ("zero", 3, 2, 0),
        ("one", 2, 2, 1),
    ]
    assert found[0].mistaken_for == (("class 2", 2), ("one", 1))


class TestBrowser:
    """Headless Chromium: no console message, no request; readable at every width, in both schemes, on paper."""

    @pytest.mark.parametrize("many", [False, True], ids=["one", "many"])
    @pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (1200, "dark"), (390, "light")])
    def test_page(
        self,
        browser: Any,
        mcu_bundle: Path,
        compared_page: str,
        tmp_path: Path,
        width: int,
        scheme: str,
        many: bool,
    ) -> None:
        file = mcu_bundle / "report.html"
        if many:
            file = tmp_path / "many.html"
            file.write_text(compared_page)
        with quiet_page(browser, width, scheme) as page:
            page.goto(file.as_uri())
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
            assert page.evaluate(CONTRAST) >= 4.5  # WCAG 2.2, 1.4.3
            assert page.evaluate(CUT) == []
            assert page.evaluate(SMALLEST_LABEL) >= 11  # pixels of a plot's text
            page.keyboard.press("Tab")
            assert page.evaluate("document.activeElement.className") == "skip"
            page.emulate_media(media="print")
            assert not page.is_visible("nav")


CONTRAST = """() => {
  const light = colour => { const [r, g, b] = colour.match(/[0-9.]+/g).map(v => { v /= 255;
    return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = element => { const colour = getComputedStyle(element).backgroundColor;
    return colour === 'rgba(0, 0, 0, 0)' && element.parentElement ? behind(element.parentElement) : colour; };
  const texts = 'p, li, td, th, h1, h2, h3, h4, caption, summary, a:not(.skip), figcaption, span';
  const ratios = [...document.querySelectorAll(texts)].filter(one => one.textContent.trim()).map(element => {
    const ink = light(getComputedStyle(element).color), paper = light(behind(element));
    return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05); });
  return Math.min(...ratios);
}"""

CUT = """() => [...document.querySelectorAll('td, th, p, li, h1, h2, h3, svg, img, caption')].filter(shown => {
  const box = shown.getBoundingClientRect();
  const hidden = getComputedStyle(shown.closest('thead') || shown).position === 'absolute' || box.width === 0;
  const wide = shown.clientWidth > 0 && shown.scrollWidth > shown.clientWidth + 1;
  return !hidden && (box.right > innerWidth + 1 || box.left < 0 || wide);
}).map(shown => shown.outerHTML.slice(0, 200))"""

SMALLEST_LABEL = """() => Math.min(...[...document.querySelectorAll('svg text')].map(text =>
  parseFloat(getComputedStyle(text).fontSize) * text.ownerSVGElement.getBoundingClientRect().width / 360))"""


@pytest.mark.parametrize("foreign", ["<title>mine</title>", ""])
def test_only_a_page_of_edgecs_is_replaced(
    mcu_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], foreign: str
) -> None:
    page = tmp_path / "report.html"
    page.write_text(foreign)
    arguments = ["report", str(mcu_bundle), "--output", str(page)]
    assert main(arguments) == 1
    assert "error[output-exists]" in capsys.readouterr().err
    assert page.read_text() == foreign
    page.unlink()
    assert main(arguments) == 0
    assert main(arguments) == 0, "its own page"
