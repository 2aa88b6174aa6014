"""A store's folder is edgec's own, or nothing in it is touched."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
from users import somebody_else

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.root import IDENTITY, MARKER
from edgec.pipeline.core.scratch import scratch
from edgec.pipeline.core.stage import Artifact
from edgec.pipeline.core.store import Store


@dataclass(frozen=True)
class Word:
    """Writes a word."""

    word: str = "edge"

    output: ClassVar[str] = "word.txt"
    toolchain: ClassVar[tuple[str, ...]] = ()

    def run(self, output: Path, *inputs: Artifact) -> None:
        output.write_text(self.word)


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


FOREIGN = {
    "a project": ["tmp/thesis/thesis.tex", "results/report.pdf", "src/main.py"],
    "tmp alone": ["tmp/thesis.tex"],
    "results alone": ["results/ab/abc/record.json"],
    "almost results": [f"results/ab/{'ab' * 32}/record.json", "results/final/figures/one.png"],
    "results and more": [f"results/ab/{'ab' * 32}/record.json", "notes.txt"],
    "a hidden file": [".profile"],
}


@pytest.mark.parametrize("files", FOREIGN.values(), ids=FOREIGN)
def test_a_foreign_folder_is_refused_and_stays(tmp_path: Path, files: list[str]) -> None:
    root = tmp_path / "mine"
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    before, store = tree(root), Store(root)
    for use in (lambda: store.run(Word()), store.clear, lambda: list(store.entries()), lambda: list(store.damaged())):
        with pytest.raises(EdgecError) as caught:
            use()
        assert caught.value.code == "foreign-store"
        assert "EDGEC_CACHE" in caught.value.hint
    with pytest.raises(EdgecError, match="foreign-store"), scratch("test", root):
        pass
    assert tree(root) == before


@pytest.mark.parametrize("content", [b"{}", b"", IDENTITY[:9], IDENTITY + b" ", b"\xff"])
def test_the_marker_counts_by_its_content(tmp_path: Path, content: bytes) -> None:
    """Its beginning does too: another process is writing it. Anything else beside foreign files is foreign."""
    (tmp_path / MARKER).write_bytes(content)
    (tmp_path / "notes.txt").write_text("mine")
    if IDENTITY.startswith(content):
        assert Store(tmp_path).run(Word()).path.read_text() == "edge"
        assert (tmp_path / MARKER).read_bytes() == IDENTITY
    else:
        with pytest.raises(EdgecError, match="foreign-store"):
            Store(tmp_path).run(Word())


def test_files_of_others_in_a_store_survive_clear(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.run(Word())
    mine = ["notes.txt", "tmp/thesis/one.tex", "tmp/thesis.lock", "results/zz/x", "locks/mine.lock"]
    for name in mine:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    assert store.clear() == 1
    assert {name: (tmp_path / name).read_text() for name in mine} == {name: name for name in mine}


@pytest.mark.parametrize("beside", [[], ["weights"], ["devices", "engines", "parts-0123456789abcdef"]])
def test_a_store_of_an_older_edgec_is_known_by_its_results(tmp_path: Path, beside: list[str]) -> None:
    made = Store(tmp_path).run(Word())
    (tmp_path / MARKER).unlink()
    for name in beside:
        (tmp_path / name).mkdir()
    assert len(list(Store(tmp_path).entries())) == 1
    again = Store(tmp_path)
    assert again.run(Word()) == made
    assert [run.cached for run in again.runs] == [True]
    assert (tmp_path / MARKER).read_bytes() == IDENTITY


def test_an_older_store_can_be_cleared(tmp_path: Path) -> None:
    Store(tmp_path).run(Word())
    (tmp_path / MARKER).unlink()
    assert Store(tmp_path).clear() == 1


def test_what_other_commands_keep_there_makes_no_foreign_store(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    assert Store(tmp_path).run(Word()).path.is_file()


def test_reading_makes_no_store(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    assert (list(store.entries()), list(store.damaged()), store.clear()) == ([], [], 0)
    assert not (tmp_path / "store").exists()


PLACES = ["file", "file/below", "/proc/edgec", "/dev/null", "x" * 300, "y/" * 2500]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place[:12])
def test_a_place_that_cannot_be_a_folder_is_named(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("mine")
    store = Store(tmp_path / place)
    reading = [] if place == "/proc/edgec" else [store.clear, lambda: list(store.entries())]  # nothing is there
    for use in (lambda: store.run(Word()), *reading):
        with pytest.raises(EdgecError) as caught:
            use()
        assert caught.value.code == "store-not-writable"
        assert "EDGEC_CACHE" in caught.value.hint
    assert (tmp_path / "file").read_text() == "mine"


def test_the_store_of_another_user_is_read_and_not_touched() -> None:
    """What is kept there is found; whatever has to write names the store and how to have another."""
    with tempfile.TemporaryDirectory() as folder:  # pytest's own is closed to others
        Path(folder).chmod(0o755)
        root = Path(folder) / "theirs"
        made = Store(root).run(Word())
        for path in root.rglob("*"):
            path.chmod(0o555 if path.is_dir() else 0o444)
        root.chmod(0o555)
        before = tree(root)
        with somebody_else():
            assert Store(root).run(Word()) == made
            assert len(list(Store(root).entries())) == 1
            for use in (lambda: Store(root).run(Word("other")), Store(root).clear):
                with pytest.raises(EdgecError) as caught:
                    use()
                assert caught.value.code == "store-not-writable"
                assert "EDGEC_CACHE" in caught.value.hint or str(root) in caught.value.hint
            with pytest.raises(EdgecError, match="store-not-writable"), scratch("test", root):
                pass
        assert tree(root) == before
        for path in (root, *root.rglob("*")):
            path.chmod(0o755)


@pytest.mark.parametrize("closed", [".", "edgec-store.json", "results", "locks"])
def test_the_store_of_another_user_who_closed_it(closed: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        root = Path(folder) / "theirs"
        Store(root).run(Word())
        (root / closed).chmod(0)
        with somebody_else(), pytest.raises(EdgecError) as caught:
            Store(root).run(Word("other"))
        (root / closed).chmod(0o755)
        assert caught.value.code == "store-not-writable"
