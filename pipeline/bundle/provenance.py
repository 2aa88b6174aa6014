"""What had a hand in a build: edgec's own commit and the versions of everything it needs."""

from __future__ import annotations

import platform
import subprocess
from functools import cache, lru_cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from edgec.pipeline.core.extensions import bringing_packages

if TYPE_CHECKING:
    from packageurl import PackageURL

TOOLCHAIN = ("torch", "onnx", "onnxsim", "onnxruntime", "openvino", "ai-edge-litert", "numpy", "pillow")
EXTRAS = ("openvino", "ai-edge-litert", "flatbuffers", "tensorrt")  # optional, and yet they decide artifacts


def toolchain() -> dict[str, str]:
    """Versions of the distributions that decide an artifact."""
    found = {"python": platform.python_version(), "edgec": metadata.version("edgec")}
    return found | {name: _version(name) or "not installed" for name in TOOLCHAIN}


@lru_cache
def lock() -> dict[str, str]:
    """Versions of Python, of edgec, of what other packages bring for it, and of all that these require, by name."""
    from packaging.utils import canonicalize_name

    found: dict[str, str] = {}
    waiting = ["edgec", *EXTRAS, *bringing_packages()]
    while waiting:
        name = canonicalize_name(waiting.pop())
        version = _version(name)
        if version is not None and name not in found:
            found[name] = version
            waiting += _requirements(name)
    return {"python": platform.python_version(), **dict(sorted(found.items()))}


def package_url(name: str, version: str) -> PackageURL:
    """A distribution's purl (https://github.com/package-url/purl-spec); Python itself is none of PyPI's."""
    from packageurl import PackageURL

    return PackageURL("generic" if name == "python" else "pypi", None, name, version)


def licence_of(distribution: str) -> str:
    """As its own metadata names it; empty where it names none."""
    if distribution == "python":
        return "PSF-2.0"
    found = _metadata(distribution)
    if found is None:
        return ""
    if "License-Expression" in found:
        return found["License-Expression"]
    classifiers = [str(value) for value in found.get_all("Classifier") or [] if value.startswith("License ::")]
    return classifiers[0].rpartition(" :: ")[2] if classifiers else ""


@lru_cache
def git_commit() -> str:
    """Commit of the edgec that runs, with ``+dirty`` where tracked files differ from it; ``unknown`` outside git."""
    here = Path(__file__).resolve().parent
    commit, changes = (
        _git(here, *arguments)
        for arguments in (("rev-parse", "HEAD"), ("status", "--porcelain", "-uno", "--", "../.."))
    )
    if commit is None or _git(here, "ls-files", "--error-unmatch", Path(__file__).name) is None:
        return "unknown"
    return commit.strip() + ("+dirty" if changes else "")


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


@cache
def _metadata(distribution: str) -> metadata.PackageMetadata | None:
    """Read once: some carry a whole README."""
    try:
        return metadata.metadata(distribution)
    except metadata.PackageNotFoundError:
        return None


def _version(distribution: str) -> str | None:
    found = _metadata(distribution)
    return None if found is None else found["Version"]


def _requirements(distribution: str) -> list[str]:
    """Names of what it needs here, without any extra; a line that no installer of today takes names nothing."""
    from packaging.requirements import InvalidRequirement, Requirement

    found = _metadata(distribution)
    needed = []
    for line in (found.get_all("Requires-Dist") if found else None) or []:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            needed.append(requirement.name)
    return needed
