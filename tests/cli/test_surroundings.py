"""Full disks, odd names, odd places, and our own bugs: always one error with a code, and nothing half-made."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from disks import mounted

from edgec.pipeline import cli
from edgec.pipeline.cli import main
from edgec.pipeline.core.store import Store

Here = Callable[..., tuple[int, str, str]]
ERROR = re.compile(r"(?:\n|^)error\[([a-z-]+)\]: .+\nhint: .+\n$")


def edgec(*arguments: str | bytes, **settings: str) -> tuple[int, str, str]:
    """Exit status, error code and the whole of standard error of a process of its own."""
    command = [sys.executable, "-m", "edgec.pipeline.cli", *arguments]
    done = subprocess.run(command, capture_output=True, env={**os.environ, **settings}, check=False)
    said = done.stderr.decode(errors="replace")
    found = ERROR.search(said)
    return done.returncode, found.group(1) if found else "", said


class TestFullDisk:
    """Real small disks."""

    @pytest.fixture
    def here(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Here:
        """The same in this process, and in a store."""

        def run(store: Path, *arguments: str) -> tuple[int, str, str]:
            monkeypatch.setenv("EDGEC_CACHE", str(store))
            status = main(list(arguments))
            said = capsys.readouterr().err
            found = ERROR.search(said)
            return status, found.group(1) if found else "", said

        return run

    @pytest.mark.parametrize(("target", "kilobytes"), [("onnxruntime", 0), ("cpu", 12), ("cpu", 24), ("cpu", 44)])
    def test_store_on_a_disk(
        self, target: str, kilobytes: int, here: Here, colours_toml: Path, tiny_images: Path, tmp_path: Path
    ) -> None:
        """Wherever it fills up: nothing half-made. What was finished before is kept, whole."""
        arguments = ["build", str(colours_toml), "--target", target, "--data", str(tiny_images), "--no-measure"]
        with mounted(tmp_path / "small", "size=64k") as small:
            ballast = 64 - kilobytes
            with (small.parent / "small" / "edgec-store.json").open("wb") as marker:
                marker.write(b'{"schema": "edgec-store-1"}\n')
            (small / "weights").write_bytes(bytes(max(0, ballast * 1024 - 4096)))
            status, code, said = here(small, *arguments, "--output", str(tmp_path / "out"))
            assert (status, code) == (1, "disk-full"), said
            assert f"under '{small}" in said
            assert "cache clear" in said
            assert not list(small.glob("tmp/*"))
            assert not (tmp_path / "out").exists()
            assert not list(Store(small).damaged())
            (small / "weights").unlink()
            assert here(small, "cache", "clear")[0] == 0
            assert not list(Store(small).entries())

    def test_output_on_a_disk(
        self, here: Here, store_of_bundles: Path, colours_toml: Path, tiny_images: Path, tmp_path: Path
    ) -> None:
        arguments = ["build", str(colours_toml), "--target", "onnxruntime", "--data", str(tiny_images), "--no-measure"]
        with mounted(tmp_path / "small", "size=40k") as small:
            status, code, said = here(store_of_bundles, *arguments, "--output", str(small / "out"))
            assert (status, code) == (1, "disk-full"), said
            assert f"under '{small / 'out'}'" in said
            assert "cache clear" not in said
            assert not list(small.iterdir())

    def test_temporary_files_on_a_full_disk_are_not_needed(
        self, colours_toml: Path, tiny_images: Path, tmp_path: Path
    ) -> None:
        """All of edgec's lie in the store."""
        arguments = ["build", str(colours_toml), "--target", "onnxruntime", "--data", str(tiny_images), "--no-measure"]
        with mounted(tmp_path / "small", "size=4k") as small:
            (small / "ballast").write_bytes(bytes(4096))
            status, _, said = edgec(*arguments, "--output", str(tmp_path / "out"), TMPDIR=str(small))
            assert status == 0, said


def test_openvinos_writer_on_a_full_disk(tmp_path: Path, cpu_bundle: Path) -> None:
    """It says only that it failed; edgec asks the disk."""
    from edgec.targets.openvino.compiler import compile_model
    from edgec.targets.openvino.options import OpenVinoOptions

    with mounted(tmp_path / "small", "size=8k") as small:
        with pytest.raises(OSError, match="No space left") as caught:
            compile_model(cpu_bundle / "reference" / "qdq.onnx", small / "openvino", OpenVinoOptions())
        assert caught.value.errno == errno.ENOSPC


COMMANDS = [
    ["build", "PATH", "--target", "cpu"],
    ["build", "tiny.onnx", "--target", "PATH"],
    ["build", "tiny.onnx", "--target", "cpu", "--data", "PATH"],
    ["build", "mobilenetv2", "--target", "cpu", "--weights", "PATH"],
    ["build", "tiny.onnx", "--target", "cpu", "--output", "PATH"],
    ["pack", "PATH"],
    ["verify", "PATH"],
    ["verify", "PATH.tar.zst"],
    ["run", "PATH", "x.png"],
    ["inspect", "PATH"],
    ["check", "PATH"],
    ["diff", "PATH", "PATH"],
    ["report", "PATH"],
    ["quantize", "PATH", "--data", "PATH", "--scheme", "tflite"],
]
PATHS = {
    "long name": "x" * 5000,
    "long path": "x/" * 2500,
    "not UTF-8": b"\xff\xfe".decode(errors="surrogateescape"),
    "line feed": "a\nb",
    "loop": "loop/x",
    "below a file": "file/x",
}


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_any_path_anywhere_is_one_error(
    arguments: list[str], path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "loop").symlink_to("loop")
    status = main([word.replace("PATH", path) for word in arguments])
    said = capsys.readouterr().err
    assert status == 1
    assert said.startswith("error[")
    assert not said.startswith("error[internal]"), said
    assert said.startswith("error[bad-path]") or "UTF-8" not in said


def test_a_deleted_directory(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    command = f"cd {gone}; rmdir {gone}; {sys.executable} -m edgec.pipeline.cli targets"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error[bad-path]: the current directory was deleted")


PLACES = {"not UTF-8": "store-\udcff", "a file": "file", "below a file": "file/x", "long": "x" * 5000}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("arguments", [["cache", "list"], ["cache", "clear"], ["cache", "verify"]], ids=" ".join)
def test_places_of_the_store(
    arguments: list[str],
    place: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").write_text("mine")
    monkeypatch.setenv("EDGEC_CACHE", str(tmp_path / place))
    assert main(arguments) == 1
    assert capsys.readouterr().err.startswith(("error[bad-path]", "error[store-not-writable]"))


def test_a_foreign_store(tmp_path: Path, own_cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own_cache.mkdir()
    (own_cache / "notes.txt").write_text("mine")
    assert main(["cache", "clear"]) == 1
    assert capsys.readouterr().err.startswith("error[foreign-store]")


@pytest.mark.parametrize("locale", [{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {}])
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_locale_prints(locale: dict[str, str], encoding: str, tmp_path: Path) -> None:
    """What it cannot say is written in ASCII; a name that it cannot read is refused."""
    settings = {**locale, "PYTHONIOENCODING": encoding}
    assert edgec("targets", **settings)[0] == 0
    assert edgec("cache", "path", EDGEC_CACHE=str(tmp_path / "caché"), **settings)[0] == (1 if locale else 0)
    status, code, said = edgec("verify", "caf\N{LATIN SMALL LETTER E WITH ACUTE}".encode(), **settings)
    assert (status, code) == (1, "bad-path" if locale else "no-such-file"), said


def test_cache_verify(own_cache: Path, capsys: pytest.CaptureFixture[str], colours_toml: Path) -> None:
    from edgec.pipeline.network.import_onnx import ImportOnnx, onnx_artifact

    made = Store(own_cache).run(ImportOnnx(), onnx_artifact(colours_toml.with_name("tiny.onnx")))
    assert main(["cache", "verify"]) == 0
    (made.path.parent / "record.json").write_bytes(b"\xff")
    assert main(["cache", "verify"]) == 1
    captured = capsys.readouterr()
    assert str(made.path.parent) in captured.out
    assert captured.err.startswith("error[corrupt-artifact]")
    assert main(["cache", "list"]) == 0
    assert main(["cache", "verify", "--repair"]) == 0
    assert "deleted 1" in capsys.readouterr().out
    assert not made.path.exists()


@pytest.mark.parametrize(
    "bug", [ZeroDivisionError(), EOFError(), RecursionError(), OSError(errno.EIO, "odd")], ids=repr
)
def test_a_bug_is_named_and_leaves_a_report(
    bug: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    import tempfile

    def fail(*_: object, **__: object) -> None:
        raise bug

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(cli.group, "invoke", fail)
    assert main(["targets"]) == 1
    said = capsys.readouterr().err.strip()
    assert said.startswith(f"error[internal]: edgec has a bug: {type(bug).__name__}")
    (report,) = tmp_path.glob("edgec-report-*.txt")
    assert f"'{report}'" in said
    assert "['targets']" in report.read_text()
    assert "Traceback" in report.read_text()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    assert main(["targets"]) == 1
    assert "Traceback" in capsys.readouterr().err, "it is shown where it cannot be written"


@pytest.mark.parametrize(
    ("number", "code"), [(errno.ENOSPC, "disk-full"), (errno.EACCES, "no-permission"), (errno.ENAMETOOLONG, "bad-path")]
)
def test_what_the_file_system_refuses_is_no_bug(
    number: int, code: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), "history.jsonl")

    monkeypatch.setattr(cli.group, "invoke", fail)
    assert main(["targets"]) == 1
    assert capsys.readouterr().err.startswith(f"error[{code}]")


def test_names_do_not_command_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "a\x1b]0;x\x07\r.onnx"]) == 1
    said = capsys.readouterr().err
    assert "error[no-such-file]" in said
    assert not any(character < " " and character != "\n" for character in said)
