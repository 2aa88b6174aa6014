"""Filters of the templates."""

from __future__ import annotations

import pytest

from edgec.pipeline.core.templates import breakable


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("conv", "conv"),
        ("features/block_2.conv", "features/<wbr>block_<wbr>2.<wbr>conv"),
        ("2 x Add", "2 x Add"),
        ("top-2 %", "top-2 %"),
        ("a_", "a_"),
        ("<b>/c&d", "&lt;b&gt;/<wbr>c&amp;d"),
        ("", ""),
    ],
)
def test_names_break_behind_their_own_marks(name: str, expected: str) -> None:
    assert breakable(name) == expected
