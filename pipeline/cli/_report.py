"""What is nobody's mistake but ours: ``error[internal]``, with a file to attach to a report."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import traceback
from pathlib import Path

from edgec.pipeline.core.disk import environment_error
from edgec.pipeline.core.errors import EdgecError


def translated(error: Exception, arguments: list[str]) -> EdgecError:
    """The refusal that the user sees: of the file system's, or ``internal``."""
    named = environment_error(error) if isinstance(error, OSError) else None
    if named is not None:
        return named
    from importlib import metadata

    said = f"{type(error).__name__}: {error}".splitlines()[0][:200]
    text = "".join(traceback.format_exception(error))
    facts = f"edgec {metadata.version('edgec')}, Python {sys.version.split()[0]}, {platform.platform()}"
    report = f"{facts}\narguments: {arguments!r}\n\n{text}"
    try:
        handle, name = tempfile.mkstemp(prefix="edgec-report-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(report)
    except OSError:
        return EdgecError("internal", f"edgec has a bug: {said}\n{report}", "please report it with the lines above")
    return EdgecError("internal", f"edgec has a bug: {said}", f"please report it and attach '{name}'; read it first")


def check_surroundings(arguments: list[str]) -> None:
    """Names that reach no further than the command line are refused there.

    Raises:
        EdgecError: ``bad-path``: a name is not UTF-8, or the current directory is gone.
    """
    try:
        names = [*arguments, str(Path.cwd()), os.environ.get("EDGEC_CACHE", "")]
    except FileNotFoundError as error:
        raise EdgecError("bad-path", "the current directory was deleted", "change to one that exists") from error
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            shown = name.encode(errors="backslashreplace").decode()[:120]
            hint = "rename it, or set LC_ALL=C.UTF-8 where it is UTF-8"
            raise EdgecError("bad-path", f"the name '{shown}' is not UTF-8", hint) from error
