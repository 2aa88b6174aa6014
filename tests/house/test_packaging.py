"""What pip installs is all of edgec and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from places import ROOT
from workers import Once

from edgec.pipeline.core.toml_file import read_toml

SETUPTOOLS = read_toml(ROOT / "pyproject.toml", "bad-toml")["tool"]["setuptools"]
PLACES = {folder: package.replace(".", "/") for package, folder in SETUPTOOLS["package-dir"].items()}
"""Where each folder of the repository lies in a wheel."""
CARRIED = (
    "calib_data/weights/mobilenetv3_parts.safetensors",
    "calib_data/parts/test/washer/00015.jpg",
    "pipeline/bundle/manifest.schema.json",
    "pipeline/report/templates/report.html.j2",
    "targets/boards/cpu.toml",
    "targets/schemes/tflite.toml",
)
"""One of each kind of file that is no Python."""
LARGEST_BYTES = 70_000_000
"""Weights are 52 MB of it and pictures 9; an index takes 100."""


def tracked() -> set[str]:
    """Files of the packages under git, relative to the repository."""
    listed = subprocess.run(["git", "ls-files", *PLACES], cwd=ROOT, capture_output=True, text=True, check=True)
    return {name for name in listed.stdout.splitlines() if (ROOT / name).exists()}


@pytest.fixture(scope="session")
def dist(once: Once) -> Path:
    """An sdist and the wheel made of it: those that CI installed, or of a copy of this checkout."""
    if given := os.environ.get("EDGEC_DIST"):
        return Path(given)
    pytest.importorskip("build")

    def fill(folder: Path) -> None:
        copy = folder / "copy"
        for name in (*tracked(), "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
        words = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(copy)]
        subprocess.run(words, capture_output=True, check=True)
        shutil.rmtree(copy)

    return once("dist", fill)


def installed(name: str) -> str:
    """Where a file of the repository lies in a wheel."""
    folder, _, rest = name.partition("/")
    return f"{PLACES[folder]}/{rest}"


def only(folder: Path, pattern: str) -> Path:
    (path,) = folder.glob(pattern)
    return path


def test_the_wheel_holds_all_files_and_no_others(dist: Path) -> None:
    """It was made of the sdist, so nothing is missing there either."""
    with zipfile.ZipFile(only(dist, "*.whl")) as wheel:
        found = {name for name in wheel.namelist() if ".dist-info/" not in name}
        assert found == set(map(installed, tracked()))
        for name in CARRIED:
            assert wheel.read(installed(name)) == (ROOT / name).read_bytes(), name
    assert only(dist, "*.whl").stat().st_size < LARGEST_BYTES


def test_the_sdist_holds_the_packages_and_what_builds_them(dist: Path) -> None:
    path = only(dist, "*.tar.gz")
    with tarfile.open(path) as archive:
        found = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    assert tracked() <= found
    assert {name.split("/")[0] for name in found} == {
        *PLACES, "edgec.egg-info", "LICENSE", "MANIFEST.in", "PKG-INFO", "README.md", "pyproject.toml", "setup.cfg",
    }  # fmt: skip
    assert path.stat().st_size < LARGEST_BYTES


def test_an_index_would_take_them(dist: Path) -> None:
    pytest.importorskip("twine")
    files = [only(dist, "*.whl"), only(dist, "*.tar.gz")]
    words = [sys.executable, "-m", "twine", "check", "--strict", *map(str, files)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("how", ["index", "wheel"])
def test_pip_takes_the_documented_words(dist: Path, tmp_path: Path, how: str) -> None:
    """A folder of wheels stands in for an index, and pip only says what it would do; wheels come of clones."""
    wheel = only(dist, "*.whl")
    words = {"index": "edgec[cpu]", "wheel": f"{wheel.name}[cpu]"}
    assert f'`pip install "{words[how]}"`' in (ROOT / "README.md").read_text()
    options = ["--dry-run", "--ignore-installed", "--no-deps", "--no-index", "--find-links", str(dist), "--quiet"]
    pip = [sys.executable, "-m", "pip", "install", *options, "--report", str(tmp_path / "report.json"), words[how]]
    done = subprocess.run(pip, cwd=dist, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (chosen,) = json.loads((tmp_path / "report.json").read_text())["install"]
    assert chosen["download_info"]["url"] == wheel.resolve().as_uri()
    assert chosen.get("requested_extras", ["cpu"]) == ["cpu"]  # pip 23.0 leaves them out of what a path names


def test_every_package_is_listed() -> None:
    """Discovery cannot rename folders, so the list is written by hand; CI installs a copy and sees the rest."""
    found = {"edgec"} | {
        ".".join(("edgec", *file.parent.relative_to(ROOT).parts))
        for folder in ("pipeline", "targets", "calib_data")
        for file in (ROOT / folder).rglob("__init__.py")
    }
    assert set(SETUPTOOLS["packages"]) == found
    assert len(SETUPTOOLS["packages"]) == len(found)
    assert {name: ROOT / folder for name, folder in SETUPTOOLS["package-dir"].items()} == {
        "edgec": ROOT / "api",
        **{f"edgec.{folder}": ROOT / folder for folder in ("pipeline", "targets", "calib_data")},
    }


def test_type_checkers_see_the_same_package() -> None:
    """``.dev/edgec`` links what an installer puts together."""
    links = {path.name: path.resolve() for path in (ROOT / ".dev" / "edgec").iterdir() if path.is_symlink()}
    folders = {name: ROOT / name for name in ("pipeline", "targets", "calib_data")}
    assert links == {"__init__.py": ROOT / "api" / "__init__.py", **folders}
    assert {path.name for path in (ROOT / "api").iterdir()} - {"__pycache__"} == {"__init__.py", "py.typed"}
