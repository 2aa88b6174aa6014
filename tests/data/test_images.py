"""Image files as people have them: every mode, range, size, orientation and damage."""

from __future__ import annotations

import random
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.data.dataset import read_image
from edgec.pipeline.data.images import read_rgb
from edgec.pipeline.data.preprocess import MAX_RESIZED, Preprocess

PX = 24
AS_IS = Preprocess(resize_px=PX, crop_px=PX)
NOISE = np.random.default_rng(4).integers(0, 256, (PX, PX + 10, 3), np.uint8)
PICTURE = Image.fromarray(NOISE)
GREY = np.arange(256, dtype=np.uint16).reshape(16, 16)
FIXTURES = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def refusal(path: Path, preprocess: Preprocess = AS_IS) -> EdgecError:
    with pytest.raises(EdgecError) as caught:
        read_image(path, preprocess)
    return caught.value


def error_of(path: Path) -> EdgecError | None:
    """The refusal; None where the picture is read."""
    try:
        assert read_image(path, AS_IS).shape == (PX, PX, 3)
    except EdgecError as error:
        return error
    return None


def png(width: int, height: int, depth: int, color: int, rows: bytes) -> bytes:
    """A PNG written by hand, for what PIL reads and does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


# Sizes: what was read yesterday is read today, and a long picture takes no memory.


def whole_then_cropped(image: Image.Image, preprocess: Preprocess) -> np.ndarray:
    """The rule as it reads: resize the whole picture, then crop."""
    scale, crop = preprocess.resize_px / min(image.size), preprocess.crop_px
    width, height = (round(side * scale) for side in image.size)
    if scale != 1.0:
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - crop) / 2), round((height - crop) / 2)
    return np.asarray(image.crop((left, top, left + crop, top + crop)))


SIZES = st.tuples(st.integers(1, 300), st.integers(1, 300))
EDGES = st.integers(1, 64).flatmap(lambda crop: st.tuples(st.just(crop), st.integers(crop, 80)))


@FIXTURES
@given(size=SIZES, edges=EDGES, seed=st.integers(0, 99))
def test_ordinary_pictures_are_resized_whole_and_then_cropped(
    tmp_path: Path, size: tuple[int, int], edges: tuple[int, int], seed: int
) -> None:
    image = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8))
    image.save(tmp_path / "p.png")
    preprocess = Preprocess(crop_px=edges[0], resize_px=edges[1])
    np.testing.assert_array_equal(preprocess.pixels(tmp_path / "p.png"), whole_then_cropped(image, preprocess))


@FIXTURES
@given(size=SIZES | st.permutations([2000, 3]).map(tuple), edges=EDGES, seed=st.integers(0, 99))
def test_cropping_first_gives_the_same_picture(
    tmp_path: Path, size: tuple[int, int], edges: tuple[int, int], seed: int
) -> None:
    image = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8))
    image.save(tmp_path / "p.png")
    preprocess = Preprocess(crop_px=edges[0], resize_px=edges[1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgec.pipeline.data.preprocess.MAX_RESIZED", 0)
        found = preprocess.pixels(tmp_path / "p.png")
    assert np.abs(found.astype(int) - whole_then_cropped(image, preprocess)).max() <= 2  # a rounding for each pass


@pytest.mark.parametrize("size", [(1, 20_000), (20_000, 1), (1, 60_000), (2, 400_000)])
def test_a_long_picture_takes_little_memory(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size, (9, 99, 199)).save(tmp_path / "thin.png")
    assert max(size) / min(size) * 256**2 > MAX_RESIZED
    pixels = Preprocess().pixels(tmp_path / "thin.png")
    assert pixels.shape == (224, 224, 3)
    assert np.unique(pixels.reshape(-1, 3), axis=0).tolist() == [[9, 99, 199]]


def test_a_picture_smaller_than_the_crop_is_enlarged(tmp_path: Path) -> None:
    Image.new("RGB", (1, 3), (1, 2, 3)).save(tmp_path / "p.png")
    assert AS_IS.pixels(tmp_path / "p.png")[PX // 2, PX // 2].tolist() == [1, 2, 3]


# Modes.


WRITTEN = {
    ".png": "1 L LA P RGB RGBA",
    ".tif": "1 L LA P RGB RGBA CMYK YCbCr",
    ".jpg": "1 L RGB CMYK YCbCr",
    ".jfif": "L RGB CMYK",
    ".gif": "1 L LA P RGB RGBA",
    ".bmp": "1 L P RGB RGBA",
    ".webp": "1 L LA P RGB RGBA",
    ".ppm": "1 L RGB RGBA",
}


@pytest.mark.parametrize(("suffix", "mode"), [(suffix, mode) for suffix in WRITTEN for mode in WRITTEN[suffix].split()])
def test_modes_are_read_as_pil_converts_them(tmp_path: Path, mode: str, suffix: str) -> None:
    path = tmp_path / f"p{suffix}"
    PICTURE.convert(mode).save(path)
    with Image.open(path) as again:
        np.testing.assert_array_equal(np.asarray(read_rgb(path)), np.asarray(again.convert("RGB")))


def test_transparency_is_dropped_and_the_stored_colour_kept(tmp_path: Path) -> None:
    pixels = np.dstack([NOISE, np.zeros(NOISE.shape[:2], np.uint8)])
    Image.fromarray(pixels).save(tmp_path / "clear.png")
    np.testing.assert_array_equal(np.asarray(read_rgb(tmp_path / "clear.png")), NOISE)
    palette = PICTURE.convert("P")
    palette.save(tmp_path / "palette.png", transparency=bytes(range(256)))
    np.testing.assert_array_equal(np.asarray(read_rgb(tmp_path / "palette.png")), np.asarray(palette.convert("RGB")))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_sixteen_bits_of_grey_are_read_by_their_range(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(GREY * 257).save(tmp_path / f"g{suffix}")
    np.testing.assert_array_equal(np.asarray(read_rgb(tmp_path / f"g{suffix}"))[..., 0], GREY)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("bits", [10, 12, 14])
def test_fewer_bits_in_sixteen_are_refused_by_name(tmp_path: Path, bits: int, suffix: str) -> None:
    Image.fromarray(GREY << (bits - 8)).save(tmp_path / f"g{suffix}")
    error = refusal(tmp_path / f"g{suffix}")
    assert error.code == "unreadable-image"
    assert f"no value above {255 << (bits - 8)}" in error.message
    Image.fromarray(GREY * 0).save(tmp_path / f"black{suffix}")
    assert read_image(tmp_path / f"black{suffix}", AS_IS).max() == 0


@pytest.mark.parametrize("color", [2, 4, 6])
def test_sixteen_bits_of_colour(tmp_path: Path, color: int) -> None:
    channels = {2: 3, 4: 2, 6: 4}[color]
    for bits in (12, 16):
        values = (np.tile(GREY[..., None], channels) << (bits - 8)).astype(">u2")
        rows = b"".join(b"\0" + row.tobytes() for row in values)
        (tmp_path / f"{bits}.png").write_bytes(png(16, 16, 16, color, rows))
    np.testing.assert_array_equal(np.asarray(read_rgb(tmp_path / "16.png"))[..., 0], GREY)
    assert "10, 12 or 14 bits" in refusal(tmp_path / "12.png").message


def test_a_pgm_file_states_its_range(tmp_path: Path) -> None:
    (tmp_path / "g.pgm").write_bytes(b"P5 16 16 4095\n" + (GREY * 16).astype(">u2").tobytes())
    found = np.asarray(read_rgb(tmp_path / "g.pgm"))[..., 0].astype(int)
    np.testing.assert_array_equal(found, np.round(GREY.astype(float) * 16 * 255 / 4095))


@pytest.mark.parametrize("values", [np.float32(0.5), np.float32(np.nan), np.int32(-1), np.int32(1 << 20)])
def test_values_without_a_range_are_refused(tmp_path: Path, values: np.generic) -> None:
    Image.fromarray(np.full((8, 8), values)).save(tmp_path / "v.tif")
    assert refusal(tmp_path / "v.tif").code == "unreadable-image"


# Orientation.


@pytest.mark.parametrize("orientation", range(9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_orientation_is_applied(tmp_path: Path, orientation: int, suffix: str) -> None:
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    PICTURE.save(tmp_path / f"p{suffix}", exif=exif)
    with Image.open(tmp_path / f"p{suffix}") as file:
        expected = np.asarray(ImageOps.exif_transpose(file).convert("RGB"))
    np.testing.assert_array_equal(np.asarray(read_rgb(tmp_path / f"p{suffix}")), expected)


def test_an_exif_block_that_cannot_be_read_says_nothing(tmp_path: Path) -> None:
    PICTURE.save(tmp_path / "p.png", exif=b"Exif\0\0MM\0*" + b"\xff" * 60)
    np.testing.assert_array_equal(np.asarray(read_rgb(tmp_path / "p.png")), NOISE)


# Damage.


@pytest.mark.filterwarnings("ignore::UserWarning")  # PIL says more of some files than that they are damaged
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "PPM", "TIFF", "GIF", "WEBP"])
def test_damaged_files_are_named_or_read(tmp_path: Path, kind: str) -> None:
    """Cut anywhere, or a few bytes changed, most of them in the head."""
    path, stream = tmp_path / "p.png", random.Random(6)
    PICTURE.save(path, kind)
    whole = path.read_bytes()
    assert read_image(path, AS_IS).shape == (PX, PX, 3)
    for number in range(150):
        damaged = bytearray(whole[: stream.randrange(len(whole))] if number % 3 == 0 else whole)
        for _ in range(stream.choice((1, 4)) if damaged and number % 3 else 0):
            damaged[stream.randrange(min(len(damaged), 300))] = stream.randrange(256)
        path.write_bytes(damaged)
        error = error_of(path)
        assert error is None or (error.code == "unreadable-image" and str(path) in error.message)


@pytest.mark.parametrize(
    "content",
    [
        b"P6 30000 30000 255\nx",
        png(2**31 - 1, 2**31 - 1, 8, 2, b""),
        png(30_000, 30_000, 1, 0, b"\0" * 100),
    ],
)
def test_more_pixels_than_pil_reads_are_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bomb.png").write_bytes(content)
    error = refusal(tmp_path / "bomb.png")
    assert error.code == "unreadable-image"
    assert "bomb.png" in error.message


def test_a_packed_comment_does_not_unpack(tmp_path: Path) -> None:
    packed = zlib.compress(b"\0" * (1 << 27))
    PICTURE.save(tmp_path / "p.png")
    whole, data = (tmp_path / "p.png").read_bytes(), b"zTXtComment\0\0" + packed
    chunk = struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))
    (tmp_path / "p.png").write_bytes(whole[:33] + chunk + whole[33:])
    tracemalloc.start()
    assert refusal(tmp_path / "p.png").code == "unreadable-image"
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"])
def test_other_files_with_an_images_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "p.png").write_bytes(content)
    assert refusal(tmp_path / "p.png").code == "unreadable-image"


@pytest.mark.parametrize("name", ["gone.png", "a" * 5000, "a\0b"])
def test_an_image_that_is_not_there(tmp_path: Path, name: str) -> None:
    assert refusal(tmp_path / name).code == "no-such-file"


# Values of the preprocessing.


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"color": "rgb"}, "color is 'rgb', did you mean 'RGB'?"),
        ({"color": "bgr"}, "did you mean 'BGR'?"),
        ({"color": "XYZ"}, "known: BGR, GRAY, RGB, RGBA"),
        ({"color": ""}, "color is ''"),
        ({"resize_px": -1}, "resize_px is -1"),
        ({"crop_px": 0}, "crop_px is 0"),
        ({"crop_px": 10**9, "resize_px": 10**9}, "crop_px is 1000000000"),
        ({"resize_px": 223}, "resize_px 223 is smaller than crop_px 224"),
        ({"mean": (1.0, float("nan"), 1.0)}, "mean"),
        ({"mean": (1.0, 1e30, 1.0)}, "mean"),
        ({"std": (1.0, 0.0, 1.0)}, "std"),
        ({"std": (1.0, -1.0, 1.0)}, "std"),
        ({"std": (float("inf"), 1.0, 1.0)}, "std"),
    ],
)
def test_preprocessing_that_cannot_be_meant(fields: dict, named: str) -> None:
    with pytest.raises(ValueError, match=r"expected|smaller|mean|known|positive") as caught:
        Preprocess(**fields)
    assert named in str(caught.value)
