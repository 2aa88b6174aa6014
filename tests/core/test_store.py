"""The store: once for equal inputs, whole or not at all, never a silently wrong result."""

from __future__ import annotations

import errno
import gc
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
from disks import mounted

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.stage import Artifact, plain, source, stage_key, stage_modules, tree_sha256
from edgec.pipeline.core.store import Store


@dataclass(frozen=True)
class Shout:
    """Writes its input in capitals, ``times`` times."""

    times: int = 1

    output: ClassVar[str] = "loud.txt"
    toolchain: ClassVar[tuple[str, ...]] = ("numpy",)

    def run(self, output: Path, *inputs: Artifact) -> None:
        output.write_text(inputs[0].path.read_text().upper() * self.times)


@dataclass(frozen=True)
class Fail:
    """Writes half a result and gives up."""

    error: int

    output: ClassVar[str] = "half.txt"
    toolchain: ClassVar[tuple[str, ...]] = ()

    def run(self, output: Path, *inputs: Artifact) -> None:
        output.write_text("half")
        raise OSError(self.error, "no")


@pytest.fixture
def word(tmp_path: Path) -> Artifact:
    path = tmp_path / "word.txt"
    path.write_text("edge")
    return source(path)


def test_a_stage_runs_once_for_equal_inputs(tmp_path: Path, word: Artifact) -> None:
    store = Store(tmp_path / "store")
    first, second = store.run(Shout(), word), Store(tmp_path / "store").run(Shout(), word)
    assert first == second
    assert first.path.read_text() == "EDGE"
    assert [run.cached for run in store.runs] == [False]


def test_every_part_of_the_configuration_is_in_the_key(word: Artifact, tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text("edges")

    @dataclass(frozen=True)
    class Elsewhere(Shout):
        output: ClassVar[str] = "louder.txt"

    Elsewhere.__name__ = "Shout"
    keys = [
        stage_key(Shout(), (word,)),
        stage_key(Shout(2), (word,)),
        stage_key(Shout(), (source(other),)),
        stage_key(Elsewhere(), (word,)),
    ]
    assert len(set(keys)) == 4
    assert all(len(key) == 64 for key in keys)


def test_equal_content_elsewhere_has_the_same_key(tmp_path: Path, word: Artifact) -> None:
    moved = tmp_path / "folder" / "moved.txt"
    moved.parent.mkdir()
    moved.write_text("edge")
    assert stage_key(Shout(), (source(moved),)) == stage_key(Shout(), (word,))


@pytest.mark.parametrize("damage", ["change", "delete", "record"])
def test_a_damaged_result_is_refused_not_made_again(tmp_path: Path, word: Artifact, damage: str) -> None:
    store = Store(tmp_path / "store")
    result = store.run(Shout(), word).path
    if damage == "change":
        result.write_text("EDGY")
    elif damage == "delete":
        result.unlink()
    else:
        (result.parent / "record.json").write_text("{")
    with pytest.raises(EdgecError) as caught:
        store.run(Shout(), word)
    assert caught.value.code == "corrupt-artifact"
    assert "cache verify --repair" in caught.value.hint


@pytest.mark.parametrize(("number", "code"), [(errno.ENOSPC, "disk-full"), (errno.EACCES, "store-not-writable")])
def test_a_failed_stage_leaves_nothing(tmp_path: Path, number: int, code: str) -> None:
    store = Store(tmp_path / "store")
    with pytest.raises(EdgecError) as caught:
        store.run(Fail(number))
    assert caught.value.code == code
    assert not list((tmp_path / "store").glob("results/*/*"))
    assert not list((tmp_path / "store" / "tmp").iterdir())


def test_other_failures_pass_through(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no"):
        Store(tmp_path / "store").run(Fail(errno.EIO))


def test_kill_9_leaves_no_half_result_and_the_next_run_continues(tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        import sys, time
        from dataclasses import dataclass
        from pathlib import Path
        from typing import ClassVar
        from edgec.pipeline.core.store import Store

        @dataclass(frozen=True)
        class Slow:
            output: ClassVar[str] = "slow.txt"
            toolchain: ClassVar[tuple] = ()

            def run(self, output, *inputs):
                output.write_text("half")
                if sys.argv[2] == "hang":
                    print("writing", flush=True)
                    time.sleep(60)
                output.write_text("whole")

        print(Store(Path(sys.argv[1])).run(Slow()).path.read_text())
        """
    )
    store = str(tmp_path / "store")
    process = subprocess.Popen([sys.executable, "-c", program, store, "hang"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not list((tmp_path / "store").glob("results/*/*"))
    again = subprocess.run([sys.executable, "-c", program, store, "go"], capture_output=True, text=True, check=True)
    assert again.stdout == "whole\n"


def test_explain_names_what_changed(tmp_path: Path, word: Artifact) -> None:
    store = Store(tmp_path / "store")
    assert store.explain(Shout(), word).reason == "never ran"
    store.run(Shout(), word)
    assert store.explain(Shout(), word).cached
    plan = store.explain(Shout(3), word)
    assert not plan.cached
    assert plan.reason == "parameters.times: 1 -> 3"


def test_explain_compares_with_the_result_that_differs_least(tmp_path: Path, word: Artifact) -> None:
    """Not with the latest, which may be of another input."""
    store = Store(tmp_path / "store")
    store.run(Shout(), word)
    (tmp_path / "other").write_text("other")
    later = store.run(Shout(2), source(tmp_path / "other")).path.parent
    os.utime(later, (2**32, 2**32))
    assert store.explain(Shout(5), word).reason == "parameters.times: 1 -> 5"


def test_clear_forgets_everything(tmp_path: Path, word: Artifact) -> None:
    store = Store(tmp_path / "store")
    store.run(Shout(), word)
    assert [record["stage"] for record, _ in store.entries()] == ["Shout"]
    assert store.clear() == 1
    assert not store.explain(Shout(), word).cached


def kept(store: Store, word: Artifact, count: int = 3) -> list[Path]:
    """Folders of some results."""
    return [store.run(Shout(times), word).path.parent for times in range(1, count + 1)]


def test_any_changed_byte_of_a_result_is_named_and_nothing_trips_over_it(tmp_path: Path, word: Artifact) -> None:
    """A seeded choice of both files, without white space for white space: the record too is proven as a whole."""
    store = Store(tmp_path / "store")
    first, second, _ = kept(store, word)
    for file in sorted(first.iterdir()):
        content = file.read_bytes()
        for index in sorted(random.Random(file.name).sample(range(len(content)), min(len(content), 120))):
            changed = bytearray(content)
            changed[index] ^= (0x01, 0x20, 0x80)[index % 3]
            if (
                file.name == "record.json"
                and changed[index : index + 1].isspace()
                and content[index : index + 1].isspace()
            ):
                continue
            file.write_bytes(changed)
            assert [folder for folder, _ in store.damaged()] == [first], (file.name, index)
            assert len(list(store.entries())) >= 2
        file.write_bytes(content)
    assert not list(store.damaged())
    (second / "record.json").write_bytes(b"\xff")
    assert "damaged" in store.explain(Shout(2), word).reason
    assert store.explain(Shout(9), word).reason.startswith("parameters.times: ")


RECORDS = [
    "",
    "[]",
    "3",
    "null",
    "{}",
    '{"stage": 1}',
    "[" * 100_000,
    '"' + "x" * 99,
    "1" * 5000,
    '{"a": NaN}',
    "{\x00}",
]


@pytest.mark.parametrize("record", [*RECORDS, None], ids=lambda record: str(record)[:9])
def test_a_record_that_is_none_is_damage(tmp_path: Path, word: Artifact, record: str | None) -> None:
    store = Store(tmp_path / "store")
    first, *_ = kept(store, word)
    (first / "record.json").unlink()
    if record is not None:
        (first / "record.json").write_text(record)
    assert [folder for folder, _ in store.damaged()] == [first]
    assert len(list(store.entries())) == 2
    with pytest.raises(EdgecError, match="corrupt-artifact"):
        store.run(Shout(), word)


def test_drop_deletes_what_is_named_and_clear_whatever_is_there(tmp_path: Path, word: Artifact) -> None:
    store = Store(tmp_path / "store")
    first, second, third = kept(store, word)
    (first / "record.json").write_bytes(b"\xff\xfe")
    (second / "loud.txt").write_text("EDGY")
    (tmp_path / "store" / "results" / "notes").mkdir()
    assert store.drop([folder for folder, _ in store.damaged()]) == 2
    assert (first.exists(), second.exists(), third.exists()) == (False, False, True)
    (third / "record.json").unlink()
    assert store.clear() == 1
    assert [path.name for path in sorted((tmp_path / "store").rglob("*"))] == [
        "edgec-store.json", "locks", "results", third.parent.name, "notes", "tmp",
    ] or (tmp_path / "store" / "results" / "notes").is_dir()  # fmt: skip


def test_a_result_is_deleted_whole_or_not_at_all(tmp_path: Path, word: Artifact) -> None:
    """What a killed deletion leaves is no result, and the next one ends it."""
    store = Store(tmp_path / "store")
    first, *_ = kept(store, word)
    first.rename(first.with_name(first.name + ".gone"))
    assert len(list(store.entries())) == 2
    assert store.clear() == 2
    assert not list((tmp_path / "store").rglob("*.gone"))


def test_clear_tells_the_truth_on_a_read_only_disk(tmp_path: Path, word: Artifact) -> None:
    store = Store(tmp_path / "store")
    kept(store, word)
    with mounted(tmp_path / "store", "remount,bind,ro", bind=True), pytest.raises(EdgecError) as caught:
        store.clear()
    assert caught.value.code == "store-not-writable"
    assert caught.value.hint.startswith("0 results were deleted")
    assert len(list(store.entries())) == 3


def test_clear_waits_for_a_build(tmp_path: Path, word: Artifact) -> None:
    store, told = Store(tmp_path / "store"), threading.Event()
    store.run(Shout(), word)
    cleared: list[int] = []
    other = threading.Thread(target=lambda: cleared.append(Store(tmp_path / "store").clear(told.set)))
    other.start()
    assert told.wait(60)
    assert store.run(Shout(), word).path.read_text() == "EDGE"
    assert not cleared
    del store  # the build has ended
    gc.collect()
    other.join(60)
    assert cleared == [1]


def test_tree_digest_sees_names_and_content(tmp_path: Path) -> None:
    def tree(name: str, files: dict[str, str]) -> str:
        for file, text in files.items():
            (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / file).write_text(text)
        return tree_sha256(tmp_path / name)

    base = tree("a", {"x": "1", "d/y": "2"})
    assert tree("b", {"d/y": "2", "x": "1"}) == base
    assert tree("c", {"x": "1", "d/z": "2"}) != base
    assert tree("e", {"x": "1", "d/y": "3"}) != base


def test_classes_and_functions_among_the_fields_bring_in_their_modules() -> None:
    from edgec.targets.tflite.options import TfliteOptions

    @dataclass(frozen=True)
    class Nested:
        settings: object
        functions: tuple[object, ...] = (textwrap.dedent,)

    assert stage_modules(Nested(TfliteOptions())) == {__name__, "edgec.targets.tflite.options", "textwrap"}  # type: ignore[arg-type]


def test_a_field_that_json_cannot_say_exactly_is_refused(word: Artifact) -> None:
    with pytest.raises(ValueError, match="nan"):
        stage_key(Shout(float("nan")), (word,))  # type: ignore[arg-type]


def test_plain_refuses_what_has_no_canonical_form() -> None:
    with pytest.raises(TypeError, match="a stage's field cannot be set"):
        plain({1, 2})
