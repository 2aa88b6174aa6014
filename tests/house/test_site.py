"""The documents as a site: built strictly, complete, linked, and loading nothing from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from browser import quiet_page
from places import ROOT
from workers import Once

LOADING = {("script", "src"), ("img", "src"), ("iframe", "src"), ("link", "href")}


class Page(HTMLParser):
    """Where a page's links lead, what it loads, and what can be linked to in it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.loads: set[str] = set()
        self.ids: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.ids.add(value or "")
            elif (tag, name) in LOADING:
                self.loads.add(value or "")
            elif (tag, name) == ("a", "href"):
                self.links.add(value or "")


@cache
def page_at(path: Path) -> Page:
    return Page(path)


@pytest.fixture(scope="session")
def site(once: Once) -> Path:
    """Every warning of mkdocs is an error."""
    pytest.importorskip("mkdocs")
    words = ["mkdocs", "build", "--quiet", "--strict", "--config-file", str(ROOT / "mkdocs.yml"), "--site-dir"]
    surroundings = os.environ | {"NO_MKDOCS_2_WARNING": "1"}

    def fill(folder: Path) -> None:
        done = subprocess.run(
            [sys.executable, "-m", *words, str(folder)], env=surroundings, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    return once("site", fill)


def pages_of(site: Path) -> list[Path]:
    return sorted(path for path in site.rglob("*.html") if path.name != "404.html")  # which knows its host alone


def test_every_document_is_a_page(site: Path) -> None:
    pages = {path.relative_to(site).with_suffix(".md").as_posix() for path in pages_of(site)}
    documents = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert pages == documents | {"index.md", "changelog.md", "contributing.md"}


def test_links_lead_somewhere(site: Path) -> None:
    """Pages, anchors in them and files; what the theme and the reference link to as well."""
    checked = 0
    for path in pages_of(site):
        for link in page_at(path).links | page_at(path).loads:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or link.startswith(("data:", "#__")):  # those are the theme's buttons
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            assert target.is_file(), f"{path.name} links to {link}"
            if parts.fragment and target.suffix == ".html":
                assert unquote(parts.fragment) in page_at(target).ids, f"{path.name} links to {link}"
            checked += 1
    assert checked > 1000


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for path in [*pages_of(site), site / "404.html"]:
        foreign = [link for link in page_at(path).loads if urlsplit(link).netloc]
        assert foreign == [], path.name
    for path in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?(?:https?:)?//|@import", path.read_text(encoding="utf-8")), path.name


def test_the_reference_holds_what_it_names(site: Path) -> None:
    """A member that is gone would be left out without a word."""
    for path in sorted((ROOT / "docs" / "reference").glob("*.md")):
        ids = page_at(site / "reference" / f"{path.stem}.html").ids
        for module, members in re.findall(r"^::: (\S+)(?:\n +options: \{members: \[(.*)\]\})?", path.read_text(), re.M):
            for member in filter(None, members.split(", ")):
                assert f"{module}.{member}" in ids, f"{path.name} names {module}.{member}"
            assert any(one.startswith(f"{module}.") for one in ids), f"{path.name} names {module}"


class TestBrowser:
    """Headless Chromium, pages opened as files: no message, no request elsewhere, no sideways scrolling."""

    @pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light")])
    def test_pages(self, browser: Any, site: Path, width: int, scheme: str) -> None:
        papers = []
        with quiet_page(browser, width, scheme) as page:
            for name in ("index", "tutorials/ci", "quantization", "reference/extend"):
                page.goto((site / f"{name}.html").as_uri())
                assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
                papers.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        dark = sum(map(int, re.findall(r"\d+", papers[0])[:3])) < 3 * 128
        assert dark == (scheme == "dark")
        assert len(set(papers)) == 1

    def test_search_without_a_server(self, browser: Any, site: Path) -> None:
        page = browser.new_page()
        page.goto(f"{(site / 'reference' / 'gate.html').as_uri()}?q=palindrome")
        page.wait_for_selector(".md-search-result__link", timeout=300_000)
        found = [link.get_attribute("href") for link in page.query_selector_all(".md-search-result__link")]
        assert (site / "ci.html").as_uri() in {link.split("#")[0].split("?")[0] for link in found}
        page.close()
