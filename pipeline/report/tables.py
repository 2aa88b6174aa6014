"""What a table shows, before it is HTML: every table of the page goes through one macro, and stacks on a phone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        below: smaller, under the text.
        mark: style of a verdict; empty for none.
        share: length of a bar in percent of the longest; None for no bar.
    """

    text: str
    below: str = ""
    mark: str = ""
    share: float | None = None


@dataclass(frozen=True)
class Table:
    """Rows with a heading each; ``heads`` begins with the one over these headings, empty for none.

    Attributes:
        label: names the table for those who do not see it.
        kind: a further style: ``bars``, ``published``, ``wide`` for one that stacks before others do, ``wide many`` for
            one that stacks on a laptop already.
    """

    label: str
    heads: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str = ""
    kind: str = ""


NOTHING = Cell("-")


def without_empty_columns(table: Table) -> Table:
    """Columns that say nothing in any row vanish."""
    kept = [i for i in range(len(table.heads)) if i == 0 or any(row[i] != NOTHING for row in table.rows)]
    return Table(
        table.label,
        tuple(table.heads[i] for i in kept),
        tuple(tuple(row[i] for i in kept) for row in table.rows),
        table.caption,
        table.kind,
    )


def bars(
    label: str,
    heads: tuple[str, str],
    rows: Sequence[tuple[str, float, str]],
    caption: str = "",
    longest: float | None = None,
) -> Table:
    """Rows of (name, value, words) with a bar as long as the value, which is not below zero.

    Args:
        longest: value of a full bar; the largest where None.
    """
    longest = longest or max((value for _, value, _ in rows), default=0.0) or 1.0
    drawn = tuple((Cell(name), Cell(words, share=100 * value / longest)) for name, value, words in rows)
    return Table(label, heads, drawn, caption, "bars")
