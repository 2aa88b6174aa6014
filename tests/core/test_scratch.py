"""Temporary folders: gone with their process, whatever ends it, and a living neighbour keeps its own."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from edgec.pipeline.core import scratch as module
from edgec.pipeline.core.scratch import IDENTITY, MARKER, NEW, OLD, beside, replace_folder, scratch, sweep


def left(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "tmp").iterdir())


def test_a_folder_lies_in_the_store_and_goes(tmp_path: Path) -> None:
    with scratch("test", tmp_path) as folder:
        assert folder.parent == tmp_path / "tmp"
        (folder / "deep").mkdir()
        (folder / "deep" / "file").write_text("x")
        sweep(tmp_path)
        assert (folder / "deep" / "file").is_file()
    assert not left(tmp_path)


def test_it_goes_after_an_error_too(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), scratch("test", tmp_path):
        raise ZeroDivisionError
    assert not left(tmp_path)
    assert not module._living


HOLDER = """
    import os, sys, time
    from pathlib import Path
    from edgec.pipeline.core.scratch import NEW, OLD, beside, scratch
    with scratch("held", Path(os.environ["EDGEC_CACHE"])) as folder, beside(Path(sys.argv[1])) as work:
        (folder / "half").write_text("half")
        (work / NEW).mkdir()
        if sys.argv[2] == "between":
            Path(sys.argv[1]).rename(work / OLD)
        print(folder, work, flush=True)
        time.sleep(600)
"""


def holder(output: Path, where: str) -> tuple[subprocess.Popen[str], Path, Path]:
    """A process that holds a scratch folder and one beside ``output``."""
    command = [sys.executable, "-c", textwrap.dedent(HOLDER), str(output), where]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    folder, work = map(Path, process.stdout.readline().split())
    return process, folder, work


@pytest.mark.parametrize("where", ["before", "between"])
def test_kill_9_leaves_what_the_next_run_deletes_at_once(tmp_path: Path, own_cache: Path, where: str) -> None:
    """Between the two renames, the old folder comes back."""
    output = tmp_path / "place" / "out"
    output.mkdir(parents=True)
    (output / "old.txt").write_text("old")
    process, folder, work = holder(output, where)
    sweep(own_cache)
    assert (folder / "half").is_file(), "its process lives"
    assert work.is_dir()
    process.kill()
    process.wait()
    sweep(own_cache)
    assert not left(own_cache)
    assert [path.name for path in output.parent.iterdir()] == ["out"]
    assert (output / "old.txt").read_text() == "old"


def test_the_first_folder_of_a_process_sweeps(tmp_path: Path, own_cache: Path) -> None:
    process, _, _ = holder(tmp_path / "out", "before")
    process.send_signal(signal.SIGKILL)
    process.wait()
    module._swept.discard(own_cache)
    with scratch("test", own_cache) as folder:
        assert left(own_cache) == sorted([folder.name, f"{folder.name}.lock"])


def test_only_what_is_proven_ours_is_swept(tmp_path: Path) -> None:
    with scratch("test", tmp_path):
        pass
    ours, elsewhere = tmp_path / "tmp", tmp_path / "elsewhere"
    for name in ("edgec-mine-1", "thesis", "edgec-other-2", "edgec-noted-3"):
        (ours / name).mkdir()
        (ours / name / "file").write_text(name)
    (ours / "edgec-other-2.lock").write_text("somebody's")
    (ours / "thesis.lock").write_bytes(IDENTITY)
    elsewhere.mkdir()
    (elsewhere / "file").write_text("mine")
    (ours / "edgec-noted-3.lock").write_bytes(IDENTITY)
    (ours / "edgec-noted-3" / "outside").write_text(str(elsewhere))
    sweep(tmp_path)
    assert (elsewhere / "file").read_text() == "mine", "it has no marker"
    (elsewhere / MARKER).write_text("other")
    (ours / "edgec-noted-3").mkdir()
    (ours / "edgec-noted-3.lock").write_bytes(IDENTITY)
    (ours / "edgec-noted-3" / "outside").write_text(str(elsewhere))
    sweep(tmp_path)
    assert (elsewhere / "file").read_text() == "mine", "its marker is not ours"
    assert left(tmp_path) == ["edgec-mine-1", "edgec-other-2", "edgec-other-2.lock", "thesis", "thesis.lock"]


def test_replacing_wins_against_another_process_of_edgec(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with beside(folder) as work:
        (work / NEW).mkdir()
        (work / NEW / "mine").write_text("mine")
        (work / OLD).mkdir()
        folder.mkdir()
        (folder / "theirs").write_text("theirs")
        shutil.rmtree(work / OLD)
        replace_folder(work, folder)
    assert [path.name for path in folder.iterdir()] == ["mine"]
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == ["out"]
