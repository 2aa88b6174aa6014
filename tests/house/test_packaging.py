"""What pip installs is all of edgec and nothing else."""

from __future__ import annotations

from places import ROOT

from edgec.pipeline.core.toml_file import read_toml


def test_every_package_is_listed() -> None:
    """Discovery cannot rename folders, so the list is written by hand; CI installs a copy and sees the rest."""
    setuptools = read_toml(ROOT / "pyproject.toml", "bad-toml")["tool"]["setuptools"]
    found = {"edgec"} | {
        ".".join(("edgec", *file.parent.relative_to(ROOT).parts))
        for folder in ("pipeline", "targets", "calib_data")
        for file in (ROOT / folder).rglob("__init__.py")
    }
    assert set(setuptools["packages"]) == found
    assert len(setuptools["packages"]) == len(found)
    assert {name: ROOT / folder for name, folder in setuptools["package-dir"].items()} == {
        "edgec": ROOT / "api",
        **{f"edgec.{folder}": ROOT / folder for folder in ("pipeline", "targets", "calib_data")},
    }


def test_type_checkers_see_the_same_package() -> None:
    """``.dev/edgec`` links what an installer puts together."""
    links = {path.name: path.resolve() for path in (ROOT / ".dev" / "edgec").iterdir() if path.is_symlink()}
    folders = {name: ROOT / name for name in ("pipeline", "targets", "calib_data")}
    assert links == {"__init__.py": ROOT / "api" / "__init__.py", **folders}
    assert {path.name for path in (ROOT / "api").iterdir()} - {"__pycache__"} == {"__init__.py", "py.typed"}
