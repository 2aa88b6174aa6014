"""``edgec report A B C``: bundles on disk to one page."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

from edgec.pipeline.bundle.verify import opened
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.report.page import render_report

PAGE = b"<title>edgec: "


def write_report(bundles: tuple[Path, ...], output: Path) -> None:
    """Check every bundle (folder or archive) and write the page.

    Raises:
        EdgecError: what ``opened`` raises; ``output-not-writable``; ``output-exists`` where something else lies there.
    """
    _check_replaceable(output)
    with ExitStack() as stack:
        found = [stack.enter_context(opened(path)) for path in bundles]
        page = render_report([(bundle.folder, bundle.manifest) for bundle in found])
    try:
        output.write_text(page, encoding="utf-8", newline="\n")
    except OSError as error:
        raise EdgecError(
            "output-not-writable", f"cannot write '{output}': {error.strerror}", "choose another --output"
        ) from error


def _check_replaceable(output: Path) -> None:
    """Only a page of edgec's is replaced."""
    if not os.path.lexists(output) or (output.is_file() and PAGE in output.read_bytes()[:4096]):
        return
    message = f"'{output}' exists and is no page that edgec wrote"
    raise EdgecError("output-exists", message, "choose another --output, or remove it")
