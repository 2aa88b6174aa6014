"""``edgec report A B C``: bundles on disk to one page."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from edgec.pipeline.bundle.verify import opened
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.report.page import render_report


def write_report(bundles: tuple[Path, ...], output: Path) -> None:
    """Check every bundle (folder or archive) and write the page.

    Raises:
        EdgecError: what ``opened`` raises; ``output-not-writable``.
    """
    with ExitStack() as stack:
        found = [stack.enter_context(opened(path)) for path in bundles]
        page = render_report([(bundle.folder, bundle.manifest) for bundle in found])
    try:
        output.write_text(page, encoding="utf-8", newline="\n")
    except OSError as error:
        raise EdgecError(
            "output-not-writable", f"cannot write '{output}': {error.strerror}", "choose another --output"
        ) from error
