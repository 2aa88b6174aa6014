"""The plot of RAM over a network: every operator at its height, every word in sight."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
from browser import browser, quiet_page  # noqa: F401

from edgec.pipeline.bundle.read import open_bundle
from edgec.pipeline.firmware.memory_plot import memory_plot
from edgec.pipeline.firmware.project import write_project
from edgec.pipeline.forms.format import MemoryStep
from edgec.pipeline.forms.memory import memory_fit
from edgec.pipeline.forms.spec import Device

SVG = "{http://www.w3.org/2000/svg}"
STEPS = tuple(
    MemoryStep("DEPTHWISE_CONV_2D", (1, 8, 8, 16), size) for size in (1024, 4096, 2048, 16, 512, 1024, 256, 128)
)


def heights(svg: str) -> list[float]:
    root = ElementTree.fromstring(svg)
    return [float(bar.attrib["height"]) for bar in root.iter(f"{SVG}rect") if bar.find(f"{SVG}title") is not None]


def lines(svg: str) -> dict[str, float]:
    """Height of each line that stands for bytes, by its style."""
    found = ElementTree.fromstring(svg).iter(f"{SVG}line")
    across = [line.attrib for line in found if line.attrib["y1"] == line.attrib["y2"]]
    return {line["class"]: float(line["y1"]) for line in across if line["x1"] == "52" and line["class"] != "grid"}


def test_bars_and_lines_share_one_scale() -> None:
    svg = memory_plot(STEPS, memory_fit(1, 6000, Device(ram_bytes=8000), 1.0, 32))
    bars, known = heights(svg), lines(svg)
    assert len(bars) == len(STEPS)
    for bar, step in zip(bars, STEPS, strict=True):
        assert bar == pytest.approx(bars[1] * step.live_bytes / 4096, abs=0.11)
    zero = known["zero"] + bars[1] * 6000 / 4096
    assert zero - known["middle-line"] == pytest.approx(bars[1] * 6608 / 4096, abs=0.2)
    assert zero - known["limit"] == pytest.approx(bars[1] * 8000 / 4096, abs=0.2)
    for words in ("4,096 bytes", "6,000 bytes", "6,608 bytes", "8,000 bytes", "operator 2 of 8"):
        assert words in svg


def test_ram_far_above_the_arena_would_flatten_everything() -> None:
    svg = memory_plot(STEPS, memory_fit(1, 6000, Device(ram_bytes=512 << 10), 1.0, 32))
    assert "limit" not in lines(svg)
    assert "the board" not in svg


def test_a_project_has_it(mcu_bundle: Path, tmp_path: Path) -> None:
    write_project(mcu_bundle, "zephyr", tmp_path / "project")
    svg = (tmp_path / "project" / "memory.svg").read_text()
    operators = open_bundle(mcu_bundle).manifest.contract.operators
    assert len(heights(svg)) == sum(operators.values())
    assert "\n\n![RAM while each operator runs](memory.svg)\n\n" in (tmp_path / "project" / "README.md").read_text()
    assert '"memory.svg"' in (tmp_path / "project" / "project.json").read_text()


@pytest.mark.usefixtures("browser")
class TestInABrowser:
    @pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1200, "dark")])
    def test_no_word_is_cut(self, width: int, scheme: str, browser: Any, tmp_path: Path) -> None:  # noqa: F811
        steps = [MemoryStep("DEPTHWISE_CONV_2D", (1, 8, 8, 16), 123_456_789)] * 1000
        svg = memory_plot(steps, memory_fit(1, 150_000_000, Device(ram_bytes=262_144_000), 1.0, 32))
        (tmp_path / "memory.svg").write_text(svg)
        with quiet_page(browser, width, scheme) as page:
            page.goto((tmp_path / "memory.svg").as_uri())
            boxes = page.evaluate(
                """() => { const all = document.documentElement.getBoundingClientRect();
                return [...document.querySelectorAll('text')].map(t => { const b = t.getBoundingClientRect(); return [
                b.left - all.left, all.right - b.right, b.top - all.top, all.bottom - b.bottom,
                b.left, b.right, b.top]; }); }"""
            )
            ink, panel = page.evaluate(
                """() => [getComputedStyle(document.querySelector('text.end:not(.soft)')).fill,
                getComputedStyle(document.documentElement).backgroundColor]"""
            )
        assert len(boxes) > 12
        assert all(min(box[:4]) >= 0 for box in boxes), boxes
        rows: dict[int, list[list[float]]] = {}
        for box in boxes[-10:]:  # the key: a name and its words stand on one line each
            rows.setdefault(round(box[6]), []).append(box)
        assert all(len(row) == 2 and row[0][5] < row[1][4] for row in rows.values()), rows
        assert (ink, panel) == {
            "light": ("rgb(28, 36, 48)", "rgb(244, 246, 249)"),
            "dark": ("rgb(230, 235, 242)", "rgb(27, 33, 42)"),
        }[scheme]
