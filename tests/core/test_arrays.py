"""Array files of anyone's: the array that was expected, or one code."""

from __future__ import annotations

import io
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgec.pipeline.core.arrays import Expected, read_array, read_arrays
from edgec.pipeline.core.errors import EdgecError

EXPECTED = Expected("int8", (10, 3))
VALUES = np.arange(30, dtype=np.int8).reshape(10, 3)


def npy(values: np.ndarray, allow_pickle: bool = False) -> bytes:
    file = io.BytesIO()
    np.save(file, values, allow_pickle=allow_pickle)
    return file.getvalue()


GOOD = npy(VALUES)


def test_the_array_itself(tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(GOOD)
    np.testing.assert_array_equal(read_array(tmp_path / "x.npy", EXPECTED, "corrupt-bundle"), VALUES)
    np.savez(tmp_path / "x.npz", VALUES, VALUES[:2])
    first, second = read_arrays(tmp_path / "x.npz", [EXPECTED, Expected("int8", (2, 3))], "corrupt-bundle")
    np.testing.assert_array_equal(first, VALUES)
    np.testing.assert_array_equal(second, VALUES[:2])


def code(content: bytes, folder: Path, name: str = "x.npy") -> str:
    (folder / name).write_bytes(content)
    read, expected = (read_arrays, [EXPECTED]) if name.endswith(".npz") else (read_array, EXPECTED)
    with pytest.raises(EdgecError) as caught:
        read(folder / name, expected, "corrupt-bundle")  # type: ignore[operator]
    return caught.value.code


@pytest.mark.parametrize(
    "content",
    [
        b"",
        GOOD[:-1],
        GOOD[:20],
        npy(VALUES.astype(np.uint8)),
        npy(VALUES.T.copy()),
        npy(np.array([{}], object), allow_pickle=True),
        GOOD.replace(b"(10, 3)", b"(1099511627776, 3)").replace(b" " * 12, b"", 1),
        GOOD.replace(b"(10, 3)", b"(-1, 3)"),
        GOOD.replace(b"(10, 3)", b"((((((("),
        GOOD.replace(b"'descr'", b"\x00descr'"),
        b"PK\x03\x04" + bytes(100),
    ],
    ids=range(11),
)
def test_arrays_that_are_none(content: bytes, tmp_path: Path) -> None:
    assert code(content, tmp_path) == "corrupt-bundle"


@given(at=st.integers(0, 127), value=st.integers(0, 255))
def test_any_header(at: int, value: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    """It is the array, or it is refused."""
    path = tmp_path_factory.mktemp("header") / "x.npy"
    path.write_bytes(GOOD[:at] + bytes([value]) + GOOD[at + 1 :])
    with suppress(EdgecError):
        found = read_array(path, EXPECTED, "corrupt-bundle")
        assert (found.shape, found.dtype) == (VALUES.shape, VALUES.dtype)


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x05\x06" + bytes(18),
        zipped({"arr_0.npy": GOOD})[:-30],
        zipped({"arr_1.npy": GOOD}),
        zipped({"../arr_0.npy": GOOD}),
        zipped({"arr_0.npy": GOOD, "arr_1.npy": GOOD}),
        zipped({"arr_0.npy": bytes(50 << 20)}, zipfile.ZIP_DEFLATED),
        zipped({"arr_0.npy": npy(VALUES[:9])}),
        zipped({"arr_0.npy": GOOD}).replace(GOOD[-30:], bytes(30)),
    ],
    ids=range(9),
)
def test_archives_of_arrays_that_are_none(content: bytes, tmp_path: Path) -> None:
    assert code(content, tmp_path, "x.npz") == "corrupt-bundle"
