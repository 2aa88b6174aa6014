"""``edgec report A B C``: bundles on disk to one page."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from edgec.pipeline.bundle.manifest_json import to_bytes
from edgec.pipeline.bundle.read import Bundle
from edgec.pipeline.bundle.records import read_instructions
from edgec.pipeline.bundle.verify import opened
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.report.output import check_replaceable, prepare, write_text
from edgec.pipeline.report.page import render_report

PAGE = b"<title>edgec: "


def write_report(bundles: tuple[Path, ...], output: Path) -> None:
    """Check every bundle (folder or archive) and write the page.

    Raises:
        EdgecError: what ``opened`` and ``render_report`` raise; ``same-bundle``; ``output-not-writable``;
            ``output-exists`` where something else lies there.
    """
    check_replaceable(output, PAGE, "page")
    with ExitStack() as stack:
        found = [stack.enter_context(opened(path)) for path in bundles]
        _refuse_repeats(bundles, found)
        counts = {i: n for i, one in enumerate(found) if (n := read_instructions(one.folder)) is not None}
        page = render_report([(bundle.folder, bundle.manifest) for bundle in found], counts)
    prepare(output)
    write_text(output, page)


def _refuse_repeats(paths: Sequence[Path], found: Sequence[Bundle]) -> None:
    """A bundle beside itself says nothing, and is most likely a slip."""
    seen: dict[bytes, Path] = {}
    for path, bundle in zip(paths, found, strict=True):
        other = seen.setdefault(to_bytes(bundle.manifest), path)
        if other is not path:
            message = f"'{path}' is the same bundle as '{other}'"
            raise EdgecError("same-bundle", message, "name each bundle once")
