"""Version of a model: major = inputs or outputs changed, minor = accuracy or latency changed, patch = rebuilt."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from edgec.pipeline.core.errors import EdgecError

Step = Literal["none", "patch", "minor", "major"]
STEPS: tuple[Step, ...] = ("none", "patch", "minor", "major")
FIRST = "1.0.0"


@dataclass(frozen=True, order=True)
class Semver:
    """``major.minor.patch`` of semver.org, without pre-release and build parts."""

    major: int
    minor: int
    patch: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"

    def stepped(self, step: Step) -> Semver:
        """The next version after a change of this weight."""
        if step == "major":
            return Semver(self.major + 1, 0, 0)
        if step == "minor":
            return Semver(self.major, self.minor + 1, 0)
        return Semver(self.major, self.minor, self.patch + 1) if step == "patch" else self


def parse_version(text: str) -> Semver:
    """Read ``1.2.3``.

    Raises:
        EdgecError: ``bad-version``.
    """
    found = re.fullmatch(r"(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})", text, re.ASCII)
    if not found:
        raise EdgecError("bad-version", f"version '{text}', expected three numbers like 1.4.0", "see docs/bundle.md")
    major, minor, patch = (int(part) for part in found.groups())
    return Semver(major, minor, patch)
