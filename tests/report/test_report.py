"""The page of one build and of many: its numbers, its charts, and how it behaves in a real browser."""

from __future__ import annotations

import re
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec.pipeline.bundle.integrity import read_checked_manifest
from edgec.pipeline.bundle.manifest import BudgetVerdict
from edgec.pipeline.bundle.records import read_latency
from edgec.pipeline.bundle.write import write_json
from edgec.pipeline.cli import main
from edgec.pipeline.network.models.curve import Curve
from edgec.pipeline.report.charts import Bar, bars, histogram, intervals, pareto, scatter
from edgec.pipeline.report.findings import worst_classes
from edgec.pipeline.report.page import render_report
from edgec.pipeline.tasks.classification import Predictions

SECTIONS = [
    "summary", "accuracy", "confusion", "parity", "latency", "layers", "pareto", "examples", "reproduce",
]  # fmt: skip
VOID = {"meta", "link", "img", "br"}


class Outline(HTMLParser):
    """Checks that elements nest, and collects ids, references and images."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_every_bundle_has_its_page(mcu_bundle: Path) -> None:
    page = (mcu_bundle / "report.html").read_text()
    outline = Outline(page)
    assert not outline.open
    ids = [attributes["id"] for _, attributes in outline.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert [attributes["id"] for tag, attributes in outline.found if tag == "section"] == SECTIONS
    links = [attributes.get("href") or "" for tag, attributes in outline.found if tag == "a"]
    assert all(link[1:] in ids for link in links)
    assert not any(tag == "script" for tag, _ in outline.found)
    loaded = [
        attributes.get(name) or "" for _, attributes in outline.found for name in ("src", "href") if name in attributes
    ]
    assert all(value.startswith(("data:", "#")) for value in loaded)
    assert "http" not in re.sub(r'http-equiv|content="default-src', "", page)
    assert all(attributes.get("alt") for tag, attributes in outline.found if tag == "img")
    charts = [attributes for tag, attributes in outline.found if tag == "svg"]
    assert charts
    assert all(chart["role"] == "img" and chart["aria-label"] for chart in charts)
    assert len(page) < 1_500_000


def test_what_is_not_known_is_said(mcu_bundle: Path) -> None:
    page = (mcu_bundle / "report.html").read_text()
    for words in (
        "no budgets were given",
        "not-measured: not asked for",
        "A/A noise floor: not measured",
        "makes no error",
    ):
        assert words in page


def test_hostile_names_stay_text(mcu_bundle: Path) -> None:
    manifest = read_checked_manifest(mcu_bundle)
    hostile = "<script>alert(1)</script>\"'&"
    budgets = (
        BudgetVerdict(hostile, hostile, 1.0, 2.0, "fail", hostile),
        BudgetVerdict("b", "any", 1.0, None, "inconclusive", "not measured"),
    )
    page = render_report(
        [
            (
                mcu_bundle,
                replace(manifest, model=replace(manifest.model, name=hostile), labels=(hostile,) * 3, budgets=budgets),
            )
        ]
    )
    assert "<script" not in page
    assert '<span class="verdict fail">fail</span><br>0 of 2 budgets hold' in page
    assert not Outline(page).open


def test_many_builds(mcu_bundle: Path, cpu_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "all.html"
    assert main(["report", str(mcu_bundle), str(cpu_bundle), str(mcu_bundle), "--output", str(output)]) == 0
    page = output.read_text()
    assert "<h1>3 builds</h1>" in page
    assert "colours · mcu 1.0.0 #1" in page
    assert page.count("100.00 %</td>") == 5  # the parity matrix: the same classes on the same images
    assert page.count("other images</td>") == 4
    capsys.readouterr()
    assert main(["report", str(mcu_bundle), "--output", str(tmp_path / "gone" / "x.html")]) == 1
    assert "output-not-writable" in capsys.readouterr().err


def test_layer_charts_latency_and_pareto_where_they_are_known(
    mcu_bundle: Path, cpu_bundle: Path, tmp_path: Path
) -> None:

    builds = []
    for i, bundle in enumerate((mcu_bundle, cpu_bundle)):
        folder = Path(shutil.copytree(bundle, tmp_path / str(i)))
        quantization = {
            "float_layers": [{"layer": "soft", "reason": "no rule"}],
            "layer_sqnr_db": {"first": 31.5, "last": 20.0},
        }
        write_json(folder / "quantization.json", quantization)
        write_json(folder / "sensitivity.json", {"/blocks/blocks.1/conv/Conv": 41.0})
        write_json(folder / "training.json", asdict(Curve("top-1", (1, 2), (32, 32), (1.5, 0.9), (71.5, 80.25))))
        latency = replace(read_latency(folder), medians_ms=(1.0, 1.1, 1.2), layer_us={"first": 12.0})
        write_json(folder / "latency.json", asdict(latency))
        manifest = read_checked_manifest(bundle)
        known = replace(
            manifest.latency,
            status="measured",
            p50_ms=1.0 + i,
            p50_interval_ms=(0.9 + i, 1.1 + i),
            num_processes=3,
            noise_floor=0.021,
            fingerprint={"governor": "performance"},
        )
        builds.append((folder, replace(manifest, latency=known)))
    page = render_report(builds)
    for words in (
        "SQNR of each layer",
        "Time in each layer",
        "A/A noise floor: 2.10 %",
        "Sensitivity: SQNR of the output",
        ">blocks.1/Conv</text>",
        "Left in float: 1 × no rule",
        "3 values from",
        "Medians of 3 processes",
        "top-1 on validation, epoch by epoch",
        "1 epoch: 71.50 %; 2 epoch: 80.25 %",
        "95 % interval 0.900 to 1.100",
        '<th scope="row">governor</th><td>performance</td>',
    ):
        assert words in page
    assert "filled: no other build beats it" in page


class TestCharts:
    def test_bars_are_proportional(self) -> None:
        svg = ET.fromstring(bars("t", [Bar("a", 10.0), Bar("b", 5.0), Bar("<c>", 0.0)], "kB"))
        widths = [float(rect.attrib["width"]) for rect in svg.iter("rect")]
        assert widths[1] == pytest.approx(widths[0] / 2, abs=0.1)
        assert "a: 10.0 kB" in svg.attrib["aria-label"]

    def test_intervals(self) -> None:
        svg = ET.fromstring(intervals("t", [Bar("a", 86.0, (80.0, 90.0)), Bar("b", 86.0, (85.0, 87.0))], "%"))
        lines = [line.attrib for line in svg.iter("line") if line.attrib["class"] == "whisker"]
        first, second = (float(line["x2"]) - float(line["x1"]) for line in lines)
        assert first == pytest.approx(5 * second, abs=0.5)

    @pytest.mark.parametrize("value", [0.0, -3.0, 1e-9, 1e9])
    def test_odd_values(self, value: float) -> None:
        for svg in (
            bars("t", [Bar("a", value)], ""),
            intervals("t", [Bar("a", value)], ""),
            histogram("t", [value] * 3, ""),
            scatter("t", pareto([("a", value, value)]), "", ""),
        ):
            assert "nan" not in ET.tostring(ET.fromstring(svg)).decode().lower()

    def test_pareto(self) -> None:
        points = pareto([("fast", 1.0, 70.0), ("good", 2.0, 75.0), ("beaten", 2.5, 74.0), ("tie", 1.0, 70.0)])
        assert [point.on_front for point in points] == [True, True, False, True]


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

    @pytest.fixture(scope="class")
    def browser(self) -> Iterator[Any]:
        playwright = pytest.importorskip("playwright.sync_api")
        executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        if executable is None:
            pytest.skip("no Chromium is installed")
        with playwright.sync_playwright() as engine:
            browser = engine.chromium.launch(executable_path=executable, args=["--no-sandbox"])
            yield browser
            browser.close()

    @pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (1200, "dark"), (360, "light")])
    def test_page(self, browser: Any, mcu_bundle: Path, width: int, scheme: str) -> None:
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
        page = context.new_page()
        said: list[str] = []
        requests: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto((mcu_bundle / "report.html").as_uri())
        assert [section.get_attribute("id") for section in page.query_selector_all("section")] == SECTIONS
        assert said == []
        assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")  # only tables scroll sideways
        assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
        assert page.evaluate(CONTRAST) >= 4.5  # WCAG 2.2, 1.4.3
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.emulate_media(media="print")
        assert not page.is_visible("nav")
        context.close()


CONTRAST = """() => {
  const light = colour => { const [r, g, b] = colour.match(/[0-9.]+/g).map(v => { v /= 255;
    return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const paper = light(getComputedStyle(document.body).backgroundColor);
  const ratios = [...document.querySelectorAll('p, td, th, h1, h2, caption, a:not(.skip), figcaption')].map(element => {
    const ink = light(getComputedStyle(element).color);
    return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05); });
  return Math.min(...ratios);
}"""


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
