"""The anchor book: every entry is whole, of a network that edgec builds, and never taken for a measurement."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from variants import Variant

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.network.models import names
from edgec.pipeline.report.anchors import Anchor, anchors_of, published, read_book
from edgec.pipeline.report.findings import Findings

BOOK = (
    Anchor("mobilenetv2", "top-1 %", "ImageNet", "a paper", 71.8, 70.9),
    Anchor("mobilenetv2", "latency ms", "a board", "a card", 10.89, 4.01),
    Anchor("mobilenetv2", "top-1 %", "ImageNet", "small", None, 50.0, width_multiplier=0.5),
    Anchor("xception", "top-1 %", "ImageNet", "another", None, 78.97, input_px=299),
)


def of_network(one: Findings, model: str, width: float = 1.0, px: int = 224) -> Findings:
    source = replace(one.manifest.origin.source, network={"model": model, "width_multiplier": width, "input_px": px})
    return replace(one, manifest=replace(one.manifest, origin=replace(one.manifest.origin, source=source)))


def test_the_book_holds_networks_of_edgec_once_each() -> None:
    book = read_book()
    assert {one.network for one in book} <= set(names())
    assert max(Counter(book).values()) == 1
    for one in book:
        figures = [value for value in (one.float_value, one.int8_value) if value is not None]
        assert all(0 < value <= (1000 if one.figure == "latency ms" else 100) for value in figures)
        assert not any("http" in text for text in (one.source, one.conditions)), "a page links nowhere"


@pytest.mark.parametrize(
    ("entry", "named"),
    [
        ('figure = "top-1 %"\nint8_value = 1.0\nconditions = "c"\nsource = " "', "without source"),
        ('figure = "top-1 %"\nconditions = "c"\nsource = "s"', "without a figure"),
        ('figure = "top-2 %"\nint8_value = 1.0\nconditions = "c"\nsource = "s"', "anchor.0.figure"),
    ],
)
def test_an_entry_that_is_not_whole_is_refused(tmp_path: Path, entry: str, named: str) -> None:
    file = tmp_path / "book.toml"
    file.write_text(f'[[anchor]]\nnetwork = "mobilenetv2"\n{entry}\n')
    with pytest.raises(EdgecError) as caught:
        read_book(file)
    assert caught.value.code == "bad-anchors"
    assert named in caught.value.message


def test_only_the_same_network_has_anchors() -> None:
    def found(model: str, width: float, px: int) -> list[str]:
        return [one.source for one in anchors_of({"model": model, "width_multiplier": width, "input_px": px}, BOOK)]

    assert found("mobilenetv2", 1.0, 224) == ["a paper", "a card"]
    assert found("mobilenetv2", 0.5, 224) == ["small"]
    assert found("mobilenetv2", 1.0, 96) == []
    assert found("xception", 1.0, 224) == []
    assert anchors_of(None, BOOK) == (), "a user's own file is nobody's published network"


def test_theirs_stand_beside_ours_as_another_kind(variant: Variant) -> None:
    ours = {"metric": "top1", "float": 94.0, "target": 93.5, "num_images": 1000}
    timed = {"status": "measured", "p50_ms": 1.52, "device": "a machine"}
    builds = [of_network(variant(name, accuracy=ours, latency=timed), "mobilenetv2") for name in "ab"]
    (table,) = published([*builds, of_network(variant("c"), "mobilenetv1")], BOOK)
    told = [tuple(cell.text for cell in row) for row in table.rows]
    assert told[0] == ("a", "top-1 %", "94", "93.5", "-0.50 pp", "1,000 test images of this build", "measured by edgec")
    assert told[1] == ("a", "latency ms", "-", "1.52", "-", "a machine, median", "measured by edgec")
    assert [row[0] for row in told] == ["a", "a", "b", "b", "published", "published"]
    assert told[4] == ("published", "top-1 %", "71.8", "70.9", "-0.90 pp", "ImageNet", "a paper")
    assert told[5] == ("published", "latency ms", "10.89", "4.01", "2.7x faster", "a board", "a card")
    assert [row[0].mark for row in table.rows] == [""] * 4 + ["published"] * 2
