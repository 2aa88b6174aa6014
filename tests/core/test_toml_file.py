"""TOML from outside: whatever the bytes are, data or an error with the reader's code, in little time and memory."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.toml_file import MAX_BYTES, MAX_DEPTH, read_toml

MODEL = b'onnx = "tiny.onnx"\n[preprocess]\nresize_px = 40\ncrop_px = 32\nmean = [1.5, 2.5, 3.5]\n'
PIECES = st.sampled_from(
    [letter.encode() for letter in (*".=[]{}\"'\\#,\n\r\0-1a", '"""', "'''")]
    + [b"nan", b"inf", b"1e999", b"9" * 5000, b"0x" + b"f" * 5000, b"1979-13-45", b"\xe9", b"\xff\xfe", b"\xef\xbb\xbf"]
)


def read(path: Path, content: bytes) -> dict[str, object]:
    path.write_bytes(content)
    return read_toml(path, "bad-model-file")


def code_of(path: Path, content: bytes) -> str | None:
    """The code of the refusal; None where the file is read."""
    try:
        read(path, content)
    except EdgecError as error:
        return error.code
    return None


def refusal(path: Path, content: bytes) -> EdgecError:
    with pytest.raises(EdgecError) as caught:
        read(path, content)
    return caught.value


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.integers(0, len(MODEL)), pieces=st.lists(PIECES, max_size=12), repeats=st.sampled_from([1, 40, 3000]))
@example(start=0, pieces=[b"a", b"."], repeats=50_000)
@example(start=0, pieces=[b"a", b"=", b"["], repeats=50_000)
@example(start=0, pieces=[b"a", b"=", b"{"], repeats=3000)
def test_any_bytes_are_data_or_the_readers_code(tmp_path: Path, start: int, pieces: list[bytes], repeats: int) -> None:
    content = MODEL[:start] + b"".join(pieces) * repeats + MODEL[start:]
    assert code_of(tmp_path / "x.toml", content) in (None, "bad-model-file")


@pytest.mark.parametrize(
    "opening",
    [b"a = " + b"[" * 50_000, b"a" + b".a" * 50_000 + b" = 1", b"[a" + b" . a" * 50_000 + b"]", b"a = {b = " * 9000],
    ids=["array", "key", "table", "inline"],
)
def test_nesting_is_refused_before_it_is_parsed(tmp_path: Path, opening: bytes) -> None:
    tracemalloc.start()
    error = refusal(tmp_path / "x.toml", opening)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert f"deeper than {MAX_DEPTH}" in error.message
    assert peak < 40_000_000


@pytest.mark.parametrize("levels", [1, MAX_DEPTH])
def test_dots_and_brackets_in_strings_and_comments_are_no_nesting(tmp_path: Path, levels: int) -> None:
    text = "[.{" * 100
    quoted = f"a = \"{text}\" # {text}\nb = '{text}'\nc = \"\"\"\n{text}\"\"\"\nd = '''{text}'''\n"
    numbers = "e = [" + "1.5, " * 500 + "]\n"
    nested = "f = " + "[" * levels + "]" * levels
    assert read(tmp_path / "x.toml", (quoted + numbers + nested).encode())["b"] == text


@pytest.mark.parametrize("value", ["nan", "-inf", "inf", "1e999"])
def test_numbers_that_are_not_finite_are_named(tmp_path: Path, value: str) -> None:
    error = refusal(tmp_path / "x.toml", f"[preprocess]\nstd = [1.0, {value}]".encode())
    assert "preprocess.std.1 is" in error.message


@pytest.mark.parametrize("value", ["9" * 20, "9" * 5000, "-9223372036854775809", "0x" + "f" * 5000])
def test_numbers_beyond_64_bits_are_refused(tmp_path: Path, value: str) -> None:
    assert refusal(tmp_path / "x.toml", f"[a]\nb = {value}".encode()).code == "bad-model-file"
    assert read(tmp_path / "x.toml", b"a = -9223372036854775808") == {"a": -(2**63)}


def test_encodings(tmp_path: Path) -> None:
    assert read(tmp_path / "x.toml", b"\xef\xbb\xbfa = 1\r\nb = 2\r\n") == {"a": 1, "b": 2}
    for content in (b'a = "\xe9"', 'a = "x"'.encode("utf-16")):
        error = refusal(tmp_path / "x.toml", content)
        assert "is not UTF-8" in error.message
        assert error.hint == "save it as UTF-8"


def test_a_file_that_is_too_long(tmp_path: Path) -> None:
    assert f"{MAX_BYTES:,} bytes" in refusal(tmp_path / "x.toml", b'a = "' + b"a" * MAX_BYTES + b'"').message


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    expected = {tmp_path: "bad-model-file", tmp_path / "gone": "no-such-file", tmp_path / "pipe.toml": "no-such-file"}
    expected |= {Path("a" * 5000): "no-such-file", Path("a\0b"): "no-such-file"}
    for path, code in expected.items():
        with pytest.raises(EdgecError) as caught:
            read_toml(path, "bad-model-file")
        assert caught.value.code == code
