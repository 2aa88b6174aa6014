"""Figures in words for people."""

from __future__ import annotations


def size_words(count: int) -> str:
    """``2.89 MB`` or ``12.3 kB``."""
    return f"{count / 1e6:.2f} MB" if count >= 1_000_000 else f"{count / 1e3:.1f} kB"
