"""What pip installs is all of edgec and nothing else."""

from __future__ import annotations

from places import ROOT

from edgec.pipeline.core.toml_file import read_toml


def test_every_package_is_listed() -> None:
    """Discovery cannot rename folders, so the list is written by hand; CI installs a copy and sees the rest."""
    setuptools = read_toml(ROOT / "pyproject.toml", "bad-toml")["tool"]["setuptools"]
    found = {
        ".".join(("edgec", *file.parent.relative_to(ROOT).parts))
        for folder in ("pipeline", "targets", "calib_data")
        for file in (ROOT / folder).rglob("__init__.py")
    }
    assert set(setuptools["packages"]) == found
    assert len(setuptools["packages"]) == len(found)
    assert {name: ROOT / folder for name, folder in setuptools["package-dir"].items()} == {
        f"edgec.{folder}": ROOT / folder for folder in ("pipeline", "targets", "calib_data")
    }
