"""The one place around code of other packages: whatever it raises is told as its fault and not as ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from edgec.pipeline.core.errors import EdgecError


@contextmanager
def foreign(refusal: Callable[[str], EdgecError]) -> Iterator[None]:
    """Whatever the code inside raises, or exits with, becomes ``refusal``; an error of edgec's own passes.

    Args:
        refusal: made of what the code said.
    """
    try:
        yield
    except EdgecError:
        raise
    except (Exception, SystemExit) as error:
        raise refusal(f"{type(error).__name__}: {error}") from error
