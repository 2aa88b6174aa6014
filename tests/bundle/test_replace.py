"""What a build or an archive may replace: edgec's own bundle, whole, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from disks import mounted

from edgec.pipeline.bundle.archive import pack, unpack
from edgec.pipeline.bundle.folder import check_replaceable, copy_folder, replacing
from edgec.pipeline.bundle.read import open_bundle
from edgec.pipeline.cli import main
from edgec.pipeline.core.errors import EdgecError


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


EXTENSION = {"manifest.json": '{"manifest_version": 3, "name": "mine"}', "src/main.js": "alert()"}
LISTING = {"manifest.json": '{"files": [{"path": "src/main.js", "sha256": "00"}]}', "src/main.js": "alert()"}
FOREIGN = {
    "browser extension": EXTENSION,
    "its own sums": {**EXTENSION, "SHA256SUMS": "00  manifest.json\n"},
    "list of files": LISTING,
    "list of files and sums": {**LISTING, "SHA256SUMS": "00  manifest.json\n00  src/main.js\n"},
    "an array": {"manifest.json": "[]", "SHA256SUMS": ""},
    "no text": {"manifest.json": "\x00", "SHA256SUMS": ""},
    "deep": {"manifest.json": "[" * 50_000, "SHA256SUMS": ""},
    "a file": {"notes.txt": "mine"},
    "a hidden file": {".git/config": "mine"},
}


@pytest.mark.parametrize("files", FOREIGN.values(), ids=FOREIGN)
def test_foreign_folders_are_refused_and_stay(tmp_path: Path, mcu_bundle: Path, files: dict[str, str]) -> None:
    folder = tmp_path / "out"
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    before = tree(folder)
    archive = tmp_path / "b.tar.zst"
    pack(mcu_bundle, archive)
    with pytest.raises(EdgecError) as caught:
        unpack(archive, folder)
    assert caught.value.code == "output-exists"
    assert main(["build", "tiny.onnx", "--target", "cpu", "--output", str(folder)]) == 1
    assert tree(folder) == before


def test_empty_folders_inside_are_somebodys(tmp_path: Path) -> None:
    (tmp_path / "out" / "photos").mkdir(parents=True)
    with pytest.raises(EdgecError, match="output-exists"):
        check_replaceable(tmp_path / "out")


def test_a_bundle_with_something_added_is_no_longer_ours_alone(copy: Path) -> None:
    check_replaceable(copy)
    for name in ("notes.txt", "c/mine.c", ".hidden", "photos/one.png"):
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_text("mine")
        with pytest.raises(EdgecError, match=r"output-exists.*is no file of the bundle"):
            check_replaceable(copy)
        (copy / name).unlink()
    (copy / "photos").rmdir()
    (copy / "link").symlink_to(copy / "c")
    with pytest.raises(EdgecError, match="output-exists"):
        check_replaceable(copy)


def test_a_damaged_bundle_and_one_of_another_version_may_be_replaced(copy: Path) -> None:
    """The identity is in the lists, not in the content; a version of the schema that is not ours has them too."""
    from edgec.pipeline.bundle.manifest import sums
    from edgec.pipeline.core.stage import file_sha256

    (copy / "README.md").write_text("changed")
    check_replaceable(copy)
    manifest = {**json.loads((copy / "manifest.json").read_bytes()), "schema_version": 1, "more": "fields"}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(EdgecError, match="SHA256SUMS does not fit"):
        check_replaceable(copy)
    listed = [(entry["path"], entry["sha256"]) for entry in manifest["files"]]
    (copy / "SHA256SUMS").write_text(sums((*listed, ("manifest.json", file_sha256(copy / "manifest.json")))))
    check_replaceable(copy)


@pytest.mark.parametrize("name", ["out", "o*t", "[out]", "out?", "-out", "o" * 255, "out\n"])
def test_neighbours_stay(tmp_path: Path, name: str) -> None:
    """Whatever the output is called, hidden folders beside it are of their owner."""
    place = tmp_path / "place"
    mine = [f".{name[:200]}.old-mine", f".{name[:200]}.new-mine", ".edgec-mine", ".out.old-1", "other"]
    for neighbour in mine:
        (place / neighbour).mkdir(parents=True)
        (place / neighbour / "file").write_text("mine")
    before = tree(place)
    for text in ("one", "two"):
        with replacing(place / name) as work:
            (work / "file").write_text(text)
        shutil.rmtree(place / name)
    assert tree(place) == before


def test_a_folder_that_came_meanwhile_is_refused(tmp_path: Path) -> None:
    def build() -> None:
        with replacing(tmp_path / "out") as work:
            (work / "file").write_text("ours")
            (tmp_path / "out").mkdir()
            (tmp_path / "out" / "notes.txt").write_text("mine")

    with pytest.raises(EdgecError, match="output-exists"):
        build()
    assert tree(tmp_path / "out") == {"notes.txt": b"mine"}
    assert not list(tmp_path.glob(".edgec-*"))


def test_a_damaged_archive_leaves_the_good_bundle(
    copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One byte of any file's content changed, packed again as it is: found before anything is replaced."""
    before = tree(copy)
    for name in ("README.md", "labels.txt", "SHA256SUMS", "verify.py"):
        spoilt = Path(shutil.copytree(copy, tmp_path / "spoilt"))
        content = bytearray((spoilt / name).read_bytes())
        content[len(content) // 2] ^= 1
        (spoilt / name).write_bytes(content)
        pack(spoilt, tmp_path / "bad.tar.zst")
        assert main(["pack", str(tmp_path / "bad.tar.zst"), "--output", str(copy)]) == 1
        assert capsys.readouterr().err.startswith("error[corrupt-bundle]")
        assert tree(copy) == before
        assert main(["pack", str(tmp_path / "bad.tar.zst"), "--output", str(tmp_path / "fresh")]) == 1
        assert not (tmp_path / "fresh").exists()
        assert not list(tmp_path.glob(".edgec-*"))
        shutil.rmtree(spoilt)


def test_unpacking_asks_for_the_signature_first(copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive, key = tmp_path / "b.tar.zst", tmp_path / "key.pub"
    key.write_text("no key")
    pack(copy, archive)
    before = tree(copy)
    assert main(["pack", str(archive), "--output", str(copy), "--key", str(key)]) == 1
    assert capsys.readouterr().err.startswith("error[not-signed]")
    assert tree(copy) == before
    assert main(["pack", str(archive), "--output", str(copy)]) == 0
    open_bundle(copy)


@pytest.mark.parametrize("inside", ["x.tar.zst", "c/x.tar.zst", "new/x.tar.zst"])
def test_an_archive_never_lies_in_its_bundle(copy: Path, inside: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = tree(copy)
    assert main(["pack", str(copy), "--output", str(copy / inside)]) == 1
    assert capsys.readouterr().err.startswith("error[output-is-input]")
    assert tree(copy) == before
    assert not (copy / "new").exists()


def test_an_archive_replaces_an_archive_only(copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive = tmp_path / "b.tar.zst"
    digest = pack(copy, archive)
    assert pack(copy, archive) == digest
    for content in (b"", b"mine", archive.read_bytes()[:3]):
        (tmp_path / "notes").write_bytes(content)
        assert main(["pack", str(copy), "--output", str(tmp_path / "notes")]) == 1
        assert capsys.readouterr().err.startswith("error[output-exists]")
        assert (tmp_path / "notes").read_bytes() == content


def test_a_copy_fails_with_the_disks_own_word(tmp_path: Path) -> None:
    """``/dev/full`` stands in for a full disk: every write to it ends with ENOSPC."""
    (tmp_path / "from").mkdir()
    (tmp_path / "from" / "file").write_text("x")
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / "file").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as caught:
        copy_folder(tmp_path / "from", tmp_path / "to")
    assert caught.value.errno == 28


class TestFullDisk:
    """On a real small disk."""

    @staticmethod
    def names(capsys: pytest.CaptureFixture[str], output: Path) -> bool:
        """The output's disk is named and not the store's, and nobody is told to clear the store for it."""
        said = capsys.readouterr().err
        return said.startswith("error[disk-full]") and f"under '{output}'" in said and "cache clear" not in said

    def test_unpacking_to_a_disk(self, mcu_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        pack(mcu_bundle, tmp_path / "b.tar.zst")
        with mounted(tmp_path / "small", "size=64k") as small:
            assert main(["pack", str(tmp_path / "b.tar.zst"), "--output", str(small / "out")]) == 1
            assert self.names(capsys, small / "out")
            assert not list(small.iterdir())

    def test_packing_to_a_disk(self, mcu_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        with mounted(tmp_path / "small", "size=16k") as small:
            assert main(["pack", str(mcu_bundle), "--output", str(small / "b.tar.zst")]) == 1
            assert self.names(capsys, small / "b.tar.zst")
            assert not list(small.iterdir())

    def test_a_read_only_disk(self, mcu_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        with mounted(tmp_path / "ro", "size=64k,ro") as place:
            assert main(["pack", str(mcu_bundle), "--output", str(place / "b.tar.zst")]) == 1
            assert capsys.readouterr().err.startswith("error[output-not-writable]")
            assert main(["pack", str(mcu_bundle), "--output", str(place / "deep" / "b.tar.zst")]) == 1
            assert capsys.readouterr().err.startswith("error[output-not-writable]")


@pytest.mark.parametrize("place", ["/proc/edgec", "/proc/edgec/below", "/sys/edgec", "/dev/null/edgec"])
def test_a_place_where_nothing_can_be_made(place: str) -> None:
    """``/proc`` says that there is no such file."""
    with pytest.raises(EdgecError, match="output-not-writable"), replacing(Path(place)):
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_forbidden_place(tmp_path: Path) -> None:
    (tmp_path / "place").mkdir(mode=0o500)
    with pytest.raises(EdgecError, match="output-not-writable"), replacing(tmp_path / "place" / "out"):
        pass
