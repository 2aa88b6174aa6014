"""A page's elements, as a reader's tools see them."""

from __future__ import annotations

from html.parser import HTMLParser
from itertools import pairwise

VOID = {"meta", "link", "img", "br", "wbr"}


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

    @property
    def sections(self) -> list[str | None]:
        return [attributes["id"] for tag, attributes in self.found if tag == "section"]


def check_page(page: str) -> Outline:
    """What holds of every page: it nests, loads nothing, and names everything for those who do not see it."""
    outline = Outline(page)
    assert not outline.open
    ids = [attributes["id"] for _, attributes in outline.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [attributes.get("href") or "" for tag, attributes in outline.found if tag == "a"]
    assert all(link[1:] in ids for link in links)
    assert not any(tag == "script" for tag, _ in outline.found)
    loaded = [
        attributes.get(name) or "" for _, attributes in outline.found for name in ("src", "href") if name in attributes
    ]
    assert all(value.startswith(("data:", "#")) for value in loaded)
    assert all(attributes.get("alt") for tag, attributes in outline.found if tag == "img")
    charts = [attributes for tag, attributes in outline.found if tag == "svg"]
    assert all(chart["role"] == "img" and chart["aria-label"] for chart in charts)
    regions = [attributes["aria-label"] for _, attributes in outline.found if attributes.get("role") == "region"]
    assert len(regions) == len(set(regions)), "no two tables of one name"
    levels = [int(tag[1]) for tag, _ in outline.found if tag in ("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels)), "no level is skipped"
    return outline
