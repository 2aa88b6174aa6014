"""Somebody else on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

NOBODY = 65_534


@contextmanager
def somebody_else() -> Iterator[None]:
    """Root becomes another user, who may do less; anybody else stays who he is."""
    user = os.geteuid()
    try:
        os.seteuid(user or NOBODY)
        yield
    finally:
        os.seteuid(user)
