"""``docs/networks.md``: what stands between the two marks is written from the figures, the rest by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

TARGETS = ("cpu", "arm", "mcu", "jetson")
RIVALS = {"nncf": "NNCF", "onnxruntime": "ONNX Runtime"}
BEGIN, END = "<!-- written by benchmarks/networks.py: begin -->", "<!-- end -->"

Figures = dict[str, Any]


def write_table(figures: Figures, doc: Path) -> None:
    """Put the tables between the marks; a file without them starts anew."""
    text = doc.read_text() if doc.is_file() else f"{BEGIN}\n{END}\n"
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    tables = "\n".join([*_shares(figures), "", *_networks(figures), "", *_refusals(figures)])
    doc.write_text(f"{before}{BEGIN}\n\n{tables}\n\n{END}{after}")


def _shares(figures: Figures) -> list[str]:
    lines = [
        "| target | cells | built | refused before quantization | after | traceback or crash |",
        "|---|---|---|---|---|---|",
    ]
    for target in TARGETS:
        cells = [cell for key, cell in figures.items() if key.endswith(f" {target}")]
        outcomes = [(cell["outcome"], cell.get("late", False)) for cell in cells]
        built = outcomes.count(("built", False))
        percent = f"{built} ({100 * built / max(1, len(cells)):.0f} %)"
        early, late = outcomes.count(("refused", False)), outcomes.count(("refused", True))
        lines.append(
            f"| `{target}` | {len(cells)} | {percent} | {early} | {late} | {len(cells) - built - early - late} |"
        )
    return lines


def _networks(figures: Figures) -> list[str]:
    rows = list(dict.fromkeys(tuple(key.split()[:2]) for key in sorted(figures)))
    lines = [f"| network | exporter | px | {' | '.join(TARGETS)} | file | noise | {' | '.join(RIVALS.values())} | s |"]
    lines.append("|" + "---|" * (6 + len(TARGETS) + len(RIVALS)))
    for name, exporter in rows:
        cells = {column: figures.get(f"{name} {exporter} {column}") for column in (*TARGETS, *RIVALS)}
        known = [cells[target] for target in TARGETS if cells[target]]
        facts = next((cell for cell in known if "px" in cell), {})
        words = [_words(cells[column]) for column in TARGETS]
        file_db = (cells["cpu"] or {}).get("file_db")
        written, noise = (f"{db:.1f}" if db is not None else "-" for db in (file_db, facts.get("noise_db")))
        others = [f"{cell['db']:.1f}" if (cell := cells[rival]) and "db" in cell else "-" for rival in RIVALS]
        seconds = sum(cell["seconds"] for cell in known)
        row = [f"`{name}`", exporter, str(facts.get("px", "-")), *words, written, noise, *others, f"{seconds:.0f}"]
        lines.append(f"| {' | '.join(row)} |")
    return lines


def _words(cell: Figures | None) -> str:
    if cell is None:
        return ""
    if cell["outcome"] != "built":
        return f"{cell.get('code') or cell['outcome']}{' (late)' if cell.get('late') else ''}"
    pieces = f" / {cell['pieces']}" if cell["pieces"] is not None else ""
    return f"{cell['db']:.1f}{pieces}"


def _refusals(figures: Figures) -> list[str]:
    lines = []
    for key, cell in sorted(figures.items()):
        if cell.get("outcome", "built") != "built":
            lines.append(f"- `{key}`: {cell.get('code') or cell['outcome']}: {cell['words']}")
    return lines or ["Nothing was refused."]
