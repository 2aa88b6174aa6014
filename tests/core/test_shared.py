"""A store that machines share: once for all of them, whole or not at all, and nothing believed that is not proven."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import textwrap
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import zstandard

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.progress import listening
from edgec.pipeline.core.shared import Shared, default_shared, named_shared
from edgec.pipeline.core.stage import Artifact, source, stage_key
from edgec.pipeline.core.store import Store
from edgec.pipeline.core.trim import beyond, damaged_objects

BUCKET = "edgec-test"


@dataclass(frozen=True)
class Shout:
    """Writes its input in capitals into a folder, and notes that it ran."""

    ran: Path

    output: ClassVar[str] = "loud"
    toolchain: ClassVar[tuple[str, ...]] = ()

    def run(self, output: Path, *inputs: Artifact) -> None:
        with self.ran.open("a") as file:
            file.write("ran\n")
        (output / "deep").mkdir(parents=True)
        (output / "deep" / "word.txt").write_text(inputs[0].path.read_text().upper())
        (output / "empty").write_bytes(b"")


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """An object store of its own kind: moto's server answers S3's protocol on loopback."""
    boto3 = pytest.importorskip("boto3")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    words = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "key-of-the-test",
        "AWS_SECRET_ACCESS_KEY": "secret-of-the-test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in words.items():
            patch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        yield f"s3://{BUCKET}"
    server.stop()


@pytest.fixture(params=["folder", "file", "memory", "s3"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Shared:
    name = tmp_path.name
    if request.param == "s3":
        return Shared(f"{request.getfixturevalue('s3')}/{name}")
    places = {"folder": str(tmp_path / "nfs"), "file": f"file://{tmp_path}/nfs", "memory": f"memory://{name}/deep"}
    return Shared(places[request.param])


@pytest.fixture
def stage(tmp_path: Path) -> Shout:
    return Shout(tmp_path / "ran.txt")


@pytest.fixture
def word(tmp_path: Path) -> Artifact:
    path = tmp_path / "word.txt"
    path.write_text("edge")
    return source(path)


def times(stage: Shout) -> int:
    return stage.ran.read_text().count("ran") if stage.ran.exists() else 0


def machine(tmp_path: Path, name: str, shared: Shared | None) -> Store:
    return Store(tmp_path / name, shared=shared)


def test_what_one_machine_made_the_next_one_has(tmp_path: Path, shared: Shared, stage: Shout, word: Artifact) -> None:
    first, second = (machine(tmp_path, name, shared) for name in ("one", "two"))
    made, found = first.run(stage, word), second.run(stage, word)
    assert times(stage) == 1
    assert (made.sha256, found.sha256) == (made.sha256,) * 2
    assert found.path.is_relative_to(tmp_path / "two")
    assert (found.path / "deep" / "word.txt").read_text() == "EDGE"
    assert (found.path / "empty").read_bytes() == b""
    assert [run.cached for run in second.runs] == [True]
    assert [record for record, _ in first.entries()] == [record for record, _ in second.entries()]
    assert not list((tmp_path / "two" / "tmp").iterdir())


def test_explain_knows_it(tmp_path: Path, shared: Shared, stage: Shout, word: Artifact) -> None:
    assert not machine(tmp_path, "two", shared).explain(stage, word).cached
    machine(tmp_path, "one", shared).run(stage, word)
    plan = machine(tmp_path, "two", shared).explain(stage, word)
    assert (plan.cached, plan.reason) == (True, "result is in the shared cache")


def test_an_object_is_written_once(tmp_path: Path, shared: Shared, stage: Shout, word: Artifact) -> None:
    """Two machines that share nothing make the same result; the first one's object stays."""
    machine(tmp_path, "one", shared).run(stage, word)
    kept = shared.objects()
    time.sleep(0.02)
    other = machine(tmp_path, "two", None)
    other.run(stage, word)
    (tmp_path / "work").mkdir()
    shared.offer(kept[0].key, next(folder for _, folder in other.entries()), tmp_path / "work")
    assert shared.objects() == kept


def test_many_writers_leave_one_whole_object(tmp_path: Path, shared: Shared, stage: Shout, word: Artifact) -> None:
    made = machine(tmp_path, "one", None)
    made.run(stage, word)
    key, folder = stage_key(stage, (word,)), next(folder for _, folder in made.entries())
    works = [tmp_path / f"work{number}" for number in range(8)]
    for work in works:
        work.mkdir()
    threads = [threading.Thread(target=shared.offer, args=(key, folder, work)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.key for one in shared.objects()] == [key]
    assert list(damaged_objects(shared, tmp_path / "two")) == []


@pytest.mark.parametrize(
    "kind",
    ["cut", "other bytes", "empty", "another result", "changed inside", "outside", "link", "long name", "deep headers"],
)
def test_a_damaged_object_is_refused(tmp_path: Path, shared: Shared, stage: Shout, word: Artifact, kind: str) -> None:
    machine(tmp_path, "one", shared).run(stage, word)
    key = stage_key(stage, (word,))
    damage(shared, key, kind, tmp_path)
    other = machine(tmp_path, "two", shared)
    with pytest.raises(EdgecError) as caught:
        other.run(stage, word)
    assert caught.value.code == "corrupt-artifact"
    assert "edgec cache verify --shared --repair" in caught.value.hint
    assert times(stage) == 1
    assert list(other.entries()) == []
    assert not (tmp_path / "outside.txt").exists()
    assert [name for name, _ in damaged_objects(shared, tmp_path / "two")] == [key]
    shared.delete([key])
    other.run(stage, word)
    assert times(stage) == 2
    assert list(damaged_objects(shared, tmp_path / "two")) == []


def damage(shared: Shared, key: str, kind: str, tmp_path: Path) -> None:
    files, path = shared._files, shared._path(key)
    whole = files.cat_file(path)
    entries: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(zstandard.ZstdDecompressor().decompressobj().decompress(whole))) as archive:
        for entry in archive:
            file = archive.extractfile(entry)
            assert file is not None
            entries[entry.name] = file.read()
    if kind == "another result":
        entries["loud/deep/word.txt"] = b"WORD"
    if kind == "changed inside":
        entries["record.json"] = entries["record.json"].replace(b"Shout", b"Mouth")
    if kind == "outside":
        entries["../../../outside.txt"] = b"outside"
    if kind == "long name":
        entries["n" * 300] = b""
    named = tarfile.TarInfo("././@LongLink")
    named.type, named.size = tarfile.GNUTYPE_LONGNAME, 5
    deep = (named.tobuf(tarfile.GNU_FORMAT) + b"name".ljust(512, b"\0")) * 5000
    bytes_of = {"cut": whole[: len(whole) // 2], "other bytes": b"not an archive", "empty": b""}
    bytes_of["deep headers"] = zstandard.ZstdCompressor().compress(deep)
    files.pipe_file(path, bytes_of.get(kind) or packed(entries, kind == "link") if kind != "empty" else b"")


def packed(entries: dict[str, bytes], linked: bool) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        for name, content in entries.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        if linked:
            link = tarfile.TarInfo("loud/link")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(link)
    return zstandard.ZstdCompressor().compress(raw.getvalue())


def test_a_failed_stage_shares_nothing(tmp_path: Path, shared: Shared, word: Artifact) -> None:
    @dataclass(frozen=True)
    class Fail(Shout):
        def run(self, output: Path, *inputs: Artifact) -> None:
            super().run(output, *inputs)
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        machine(tmp_path, "one", shared).run(Fail(tmp_path / "ran.txt"), word)
    assert shared.objects() == []


def test_what_cannot_be_reached_is_left_out_and_said(tmp_path: Path, stage: Shout, word: Artifact) -> None:
    (tmp_path / "file").write_text("no folder")
    said: list[str] = []
    store = machine(tmp_path, "one", Shared(str(tmp_path / "file")))
    with listening(lambda *_: None, None, said.append):
        store.run(stage, word)
        store.run(Shout(tmp_path / "other.txt"), word)
    assert times(stage) == 1
    assert len(said) == 1
    assert said[0].startswith(f"cannot use the shared cache '{tmp_path / 'file'}'")
    assert said[0].endswith("going on without writing there")


def test_who_may_only_read_goes_on_reading(tmp_path: Path, stage: Shout, word: Artifact) -> None:
    """A stage that nobody ran is not shared, and the next one is fetched all the same; it is said once."""
    others, shared, said = Shout(tmp_path / "others.txt"), Shared(str(tmp_path / "nfs")), list[str]()
    machine(tmp_path, "one", shared).run(others, word)
    (tmp_path / "nfs" / "tmp").rmdir()
    (tmp_path / "nfs" / "tmp").write_text("no folder")  # root may write where rights forbid it
    store = machine(tmp_path, "two", shared)
    with listening(lambda *_: None, None, said.append):
        store.run(stage, word)
        store.run(Shout(tmp_path / "third.txt"), word)
        store.run(others, word)
    assert [run.cached for run in store.runs] == [False, False, True]
    assert [text.endswith("going on without writing there") for text in said] == [True]
    assert len(shared.objects()) == 1


def test_a_command_about_it_says_that_it_cannot_be_reached(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(EdgecError) as caught:
        Shared(str(tmp_path / "file")).delete(["0" * 64])
    assert caught.value.code == "shared-cache-unreachable"


def test_a_server_that_is_not_there(tmp_path: Path, s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    from s3fs import S3FileSystem

    S3FileSystem.clear_instance_cache()
    with pytest.raises(EdgecError) as caught:
        Shared(s3).objects()
    S3FileSystem.clear_instance_cache()
    assert caught.value.code == "shared-cache-unreachable"
    assert "secret-of-the-test" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["/", " ", "//", "file://", "file:///", "local://", "s3://", "s3:///edgec", "gs://", "memory://"]
)
def test_an_address_names_a_place(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEC_SHARED_CACHE", url)
    for use in (Shared(url).objects, named_shared):
        with pytest.raises(EdgecError) as caught:
            use()
        assert caught.value.code == "bad-shared-cache"


@pytest.mark.parametrize("name", ["a::b", "with space", "\u00fcn\u00ef", "100%25", "a?b#c", "[x]*", "x/", "file::x"])
def test_a_folder_of_any_name_is_that_folder(tmp_path: Path, stage: Shout, word: Artifact, name: str) -> None:
    for start in ("", "file://"):
        machine(tmp_path, f"one{start[:1]}", Shared(f"{start}{tmp_path}/all/{name}")).run(stage, word)
    assert times(stage) == 1
    assert len(Shared(f"{tmp_path}/all/{name}").objects()) == 1
    assert len(list(Path(f"{tmp_path}/all/{name}").glob("results/*/*.tar.zst"))) == 1


def test_what_cannot_be_read_is_not_empty(tmp_path: Path, stage: Shout, word: Artifact) -> None:
    shared = Shared(str(tmp_path / "nfs"))
    assert shared.objects() == []
    (tmp_path / "nfs").mkdir()
    (tmp_path / "nfs" / "results").symlink_to(tmp_path / "nfs" / "results")
    with pytest.raises(EdgecError) as caught:
        shared.objects()
    assert caught.value.code == "shared-cache-unreachable"


def test_a_folder_by_an_objects_name_is_none(tmp_path: Path, stage: Shout, word: Artifact) -> None:
    shared, key = Shared(str(tmp_path / "nfs")), stage_key(stage, (word,))
    (Path(shared._path(key)) / "theirs").mkdir(parents=True)
    store = machine(tmp_path, "one", shared)
    store.run(stage, word)
    assert times(stage) == 1
    assert shared.objects() == []
    assert (Path(shared._path(key)) / "theirs").is_dir()


@pytest.mark.parametrize("url", ["http://host/cache", "ftp://host/cache", "nothing://x", "sftp://me@host/cache"])
def test_only_what_writes_once(url: str) -> None:
    with pytest.raises(EdgecError) as caught:
        Shared(url).objects()
    assert caught.value.code == "bad-shared-cache"


@pytest.mark.parametrize("url", ["s3://key:secret@bucket/edgec", "gs://token@bucket"])
def test_credentials_stay_out_of_addresses(url: str) -> None:
    with pytest.raises(EdgecError) as caught:
        Shared(url).has("0" * 64)
    assert caught.value.code == "bad-shared-cache"
    assert "secret" not in str(caught.value)
    assert "token@" not in str(caught.value)


def test_a_protocol_whose_package_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(EdgecError) as caught:
        Shared("gs://bucket/edgec").objects()
    assert caught.value.code == "missing-fsspec"
    assert "gcsfs" in caught.value.message


def test_without_fsspec(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(EdgecError) as caught:
        Shared("s3://bucket").objects()
    assert caught.value.code == "missing-fsspec"


def test_where_it_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert default_shared() is None
    assert Store(tmp_path).shared is None
    with pytest.raises(EdgecError) as caught:
        named_shared()
    assert caught.value.code == "no-shared-cache"
    monkeypatch.setenv("EDGEC_SHARED_CACHE", "s3://bucket/edgec")
    assert Store(tmp_path).shared == Shared("s3://bucket/edgec")


def test_only_objects_of_edgec_are_deleted(tmp_path: Path, stage: Shout, word: Artifact) -> None:
    shared = Shared(str(tmp_path / "nfs"))
    machine(tmp_path, "one", shared).run(stage, word)
    foreign = [tmp_path / "nfs" / "notes.txt", tmp_path / "nfs" / "results" / "ab" / "cd.tar.zst"]
    old, young, theirs = (tmp_path / "nfs" / "tmp" / f"{name}.part" for name in ("0" * 16, "1" * 16, "film.mkv"))
    for path in (*foreign, old, young, theirs):
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    for path in (old, theirs):
        os.utime(path, (0, 0))
    assert [one.key for one in shared.objects()] == [stage_key(stage, (word,))]
    shared.delete(one.key for one in shared.objects())
    assert shared.objects() == []
    assert all(path.exists() for path in (*foreign, young, theirs))
    assert not old.exists()


def test_a_folder_knows_what_was_used(tmp_path: Path, word: Artifact) -> None:
    shared = Shared(str(tmp_path / "nfs"))
    stages = [Shout(tmp_path / f"{name}.txt") for name in "ab"]
    for number, stage in enumerate(stages):
        machine(tmp_path, "one", shared).run(stage, word)
        os.utime(shared._path(stage_key(stage, (word,))), (number, number))
    machine(tmp_path, "two", shared).run(stages[0], word)
    assert [one.key for one in shared.objects()] == [stage_key(stage, (word,)) for stage in reversed(stages)]


def test_what_goes_is_least() -> None:
    items = [("a", 5), ("b", 3), ("c", 2)]
    assert [beyond(items, size) for size in (10, 9, 5, 4, 0)] == [[], ["a"], ["a"], ["a", "b"], ["a", "b", "c"]]


def test_a_writer_that_is_killed_leaves_no_object(tmp_path: Path) -> None:
    """It dies while its bytes travel: others see nothing of them."""
    program = f"""
    import os, shutil
    from pathlib import Path
    from edgec.pipeline.core.shared import Shared

    def half(source, target):
        Path(target).write_bytes(Path(source).read_bytes()[:100])
        os._exit(9)

    shutil.copyfile = half
    here = Path({str(tmp_path)!r})
    (here / "result").mkdir()
    (here / "work").mkdir()
    (here / "result" / "record.json").write_bytes(os.urandom(5000))
    Shared(str(here / "nfs")).offer("0" * 64, here / "result", here / "work")
    """
    assert subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=False).returncode == 9
    shared = Shared(str(tmp_path / "nfs"))
    assert not shared.has("0" * 64)
    assert shared.objects() == []
    assert len(list((tmp_path / "nfs" / "tmp").iterdir())) == 1
