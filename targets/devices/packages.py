"""Downloads for another architecture without root: distribution packages by apt and wheels by pip, with their checks.

apt keeps all its state in a folder of ours, so the host's package lists and locks are not touched; it verifies the
mirror's signature and every package's digest. What an interrupted run had downloaded is used again.
"""

from __future__ import annotations

import getpass
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgec.pipeline.core.errors import EdgecError
from edgec.targets.devices.cores import Machine

KEYRINGS = Path("/usr/share/keyrings")


@dataclass(frozen=True)
class Distribution:
    """Where the userland's packages come from.

    Attributes:
        suite: the release whose Python has wheels of both runtimes; the host's own release may be another.
    """

    suite: str
    components: str


DISTRIBUTIONS = {
    "debian": Distribution("bookworm", "main"),
    "ubuntu": Distribution("jammy", "main universe"),  # 64-bit Arm lies on other mirrors than x86: --mirror names one
}


@dataclass(frozen=True)
class Apt:
    """apt-get for one architecture and release.

    Attributes:
        folder: apt's state and what it downloaded.
        status: dpkg's file that says what is there already; None where nothing is. A copy is used, because apt locks
            the folder that it lies in.
    """

    folder: Path
    mirror: str
    distribution: str
    suite: str
    architecture: str
    status: Path | None = None

    def download(self, packages: Sequence[str]) -> list[Path]:
        """The packages and all that they need and that is not there already.

        Raises:
            EdgecError: ``download-failed``.
        """
        archives = self.folder / "cache/archives"
        for folder in (self.folder / "state/lists/partial", archives / "partial"):
            folder.mkdir(parents=True, exist_ok=True)
        keyring = KEYRINGS / f"{self.distribution}-archive-keyring.gpg"
        source = f"{self.mirror} {self.suite} {DISTRIBUTIONS[self.distribution].components}"
        (self.folder / "sources.list").write_text(f"deb [signed-by={keyring}] {source}\n")
        (self.folder / "status").write_bytes(self.status.read_bytes() if self.status else b"")
        self._call("update")
        self._call("install", "--yes", "--no-install-recommends", "--download-only", *packages)
        return sorted(archives.glob("*.deb"))

    def _call(self, *arguments: str) -> None:
        options = {
            "Dir::Etc::sourcelist": self.folder / "sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::State": self.folder / "state",
            "Dir::State::status": self.folder / "status",
            "Dir::Cache": self.folder / "cache",
            "APT::Architecture": self.architecture,
            "APT::Architectures::": self.architecture,
            "APT::Sandbox::User": getpass.getuser(),
            "APT::Update::Error-Mode": "any",
            "Acquire::Languages": "none",
            "Acquire::Retries": "2",
        }
        settings = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
        download(["apt-get", "-qq", *settings, *arguments], f"{self.distribution} packages for {self.architecture}")


def download_wheels(requirement: str, machine: Machine, python: str, folder: Path) -> list[Path]:
    """The wheels of ``requirement`` and of what it needs, for the guest's Python ``3.11``.

    Raises:
        EdgecError: ``missing-pip``, ``download-failed``.
    """
    pip = [sys.executable, "-m", "pip"]
    if subprocess.run([*pip, "--version"], capture_output=True, check=False).returncode:
        raise EdgecError("missing-pip", f"'{sys.executable}' has no pip to download wheels with", "python -m ensurepip")
    shutil.rmtree(folder, ignore_errors=True)  # two versions of one wheel would be unpacked over each other
    only = ["--only-binary=:all:", "--implementation", "cp", "--python-version", python]
    platforms = [part for name in machine.platforms for part in ("--platform", name)]
    dependencies = ["--no-deps"] if machine.packages else []  # numpy comes from the distribution there
    command = [*pip, "download", "--quiet", *only, *platforms, *dependencies, "--dest", str(folder), requirement]
    download(command, f"wheels of {requirement} for {machine.name}")
    return sorted(folder.glob("*.whl"))


def download(command: Sequence[str], what: str) -> None:
    """Run a downloading program; its last words become the message.

    Raises:
        EdgecError: ``download-failed``.
    """
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"}, check=False)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith(("E:", "ERROR:"))] or [done.stderr.strip()]
        hint = "is this machine online, and does the mirror carry that architecture? What was fetched is used again"
        raise EdgecError("download-failed", f"could not download {what}: {said[0][:300]}", hint)


def host_distribution() -> str:
    """``debian`` or ``ubuntu``: the distributions whose packages can be unpacked here.

    Raises:
        EdgecError: ``missing-apt``.
    """
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    named = [release.get("ID", ""), *release.get("ID_LIKE", "").split()]
    known = [name for name in named if name in DISTRIBUTIONS]
    if not known or not all(shutil.which(tool) for tool in ("apt-get", "dpkg-deb", "dpkg")):
        message = "the emulated userland is made of Debian packages, expected a Debian or Ubuntu host with apt-get"
        raise EdgecError("missing-apt", message, "use a Debian container, or a real board: --on ssh://user@host")
    return known[0]


def host_release() -> str:
    """The host's own code name, for programs that run on the host itself."""
    return platform.freedesktop_os_release().get("VERSION_CODENAME", "")


def host_architecture() -> str:
    """The distribution's name of this machine."""
    return subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, check=True).stdout.strip()


def host_mirror(distribution: str) -> str:
    """The first mirror of the distribution that the host's own apt is configured with.

    Raises:
        EdgecError: ``no-mirror``.
    """
    query = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]
    found = subprocess.run(query, capture_output=True, text=True, check=False).stdout.split()
    mirrors = [uri for uri in found if uri.rstrip("/").endswith(f"/{distribution}")]
    if not mirrors:
        message = f"apt on this machine knows no {distribution} mirror"
        raise EdgecError("no-mirror", message, "name one: edgec device setup qemu --mirror URL")
    return mirrors[0]
