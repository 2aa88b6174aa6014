"""Folders that tests look into, from wherever they lie."""

from pathlib import Path

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
REAL = ROOT.parent / "shared" / "real"
"""Real weights and photographs beside the repository; tests that need them skip where they are absent."""
