"""From a picture to the input: channels, shapes, resizes and filters, with known answers."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from edgec.pipeline.data.preprocess import CHANNELS, REACH, Preprocess, letterboxed

FIXTURES = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
PICTURE = Image.fromarray(np.random.default_rng(4).integers(0, 256, (30, 44, 4), np.uint8))


def made(color: str = "RGB", height: int = 8, width: int = 12, **fields: object) -> Preprocess:
    channels = CHANNELS[color]
    plain = Preprocess(
        color, min(height, width), None, (0.0,) * channels, (1.0,) * channels, height_px=height, width_px=width
    )
    return replace(plain, **fields)  # type: ignore[arg-type]


def read(preprocess: Preprocess, image: Image.Image, folder: Path) -> np.ndarray:
    image.save(folder / "p.png")
    return preprocess.pixels(folder / "p.png")


# What files said before these fields were there is what they say now.


def test_old_fields_are_kept_as_they_were() -> None:
    said = '{"color": "BGR", "resize_px": 40, "crop_px": 32, "mean": [1.0, 2.0, 3.0], "std": [4.0, 5.0, 6.0]}'
    assert json.dumps(Preprocess(**json.loads(said)).stated()) == said


@given(
    color=st.sampled_from(list(CHANNELS)),
    sides=st.tuples(st.integers(1, 99), st.integers(1, 99)),
    resize=st.sampled_from(["short-side", "stretch", "letterbox"]),
    interpolation=st.sampled_from(list(REACH)),
)
def test_what_is_stated_is_enough(color: str, sides: tuple[int, int], resize: str, interpolation: str) -> None:
    preprocess = made(color, *sides, resize=resize, interpolation=interpolation)
    assert Preprocess(**preprocess.stated()) == preprocess
    assert preprocess.shape == (CHANNELS[color], *sides)
    assert asdict(preprocess).items() >= preprocess.stated().items()


# Colours


def test_grey_is_the_luma_that_pillow_computes(tmp_path: Path) -> None:
    found = read(made("GRAY", 30, 44), PICTURE.convert("RGB"), tmp_path)
    assert found.shape == (30, 44, 1)
    np.testing.assert_array_equal(found[..., 0], np.asarray(PICTURE.convert("RGB").convert("L")))
    red, green, blue = (int(value) for value in np.asarray(PICTURE)[3, 5, :3])
    assert found[3, 5, 0] == (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16


@given(level=st.integers(0, 255))
@FIXTURES
def test_grey_pictures_stay_what_they_are(tmp_path: Path, level: int) -> None:
    assert read(made("GRAY", 2, 2), Image.new("L", (2, 2), level), tmp_path).ravel().tolist() == [level] * 4


def test_sixteen_bits_of_grey(tmp_path: Path) -> None:
    """Thermal cameras and spectrograms: the upper byte's scale, not its clipping."""
    wide = Image.fromarray(np.arange(256, dtype=np.uint16).reshape(16, 16) * 257)
    np.testing.assert_array_equal(read(made("GRAY", 16, 16), wide, tmp_path).ravel(), np.arange(256))


def test_four_channels_are_the_colour_and_the_alpha_as_stored(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read(made("RGBA", 30, 44), PICTURE, tmp_path), np.asarray(PICTURE))
    opaque = read(made("RGBA", 30, 44), PICTURE.convert("RGB"), tmp_path)
    assert (opaque[..., 3] == 255).all()
    clear = Image.new("P", (4, 4))
    clear.putpalette([9, 8, 7] * 256)
    clear.info["transparency"] = 0
    assert read(made("RGBA", 4, 4), clear, tmp_path)[0, 0].tolist() == [9, 8, 7, 0]


def test_orientation_turns_every_colour(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = PICTURE.convert("RGB").transpose(Image.Transpose.ROTATE_90)
    turned.save(tmp_path / "turned.png", exif=exif)
    for color in CHANNELS:
        found = made(color, 30, 44).pixels(tmp_path / "turned.png")
        np.testing.assert_array_equal(found, read(made(color, 30, 44), PICTURE.convert("RGB"), tmp_path))


def test_normalisation_has_the_network_s_channels() -> None:
    pixels = np.arange(16, dtype=np.uint8).reshape(1, 2, 2, 4)
    values = made("RGBA", 2, 2, mean=(0.0, 1.0, 2.0, 3.0), std=(1.0, 2.0, 4.0, 8.0)).normalise(pixels)
    assert values.shape == (1, 4, 2, 2)
    assert values[0, :, 0, 1].tolist() == [4.0, 2.0, 1.0, 0.5]


# Shapes

KNOWN = [  # resize, picture, size after the resize, where the input of 8 x 12 begins
    ("short-side", (24, 16), (12, 8), (0, 0)),
    ("short-side", (16, 16), (12, 12), (0, 2)),  # enlarged: its short side would not cover the width
    ("short-side", (48, 16), (24, 8), (6, 0)),
    ("short-side", (16, 48), (12, 36), (0, 14)),
    ("stretch", (48, 16), (12, 8), (0, 0)),
    ("stretch", (5, 500), (12, 8), (0, 0)),
    ("letterbox", (24, 16), (12, 8), (0, 0)),
    ("letterbox", (16, 16), (8, 8), (-2, 0)),
    ("letterbox", (48, 16), (12, 4), (0, -2)),
    ("letterbox", (16, 48), (3, 8), (-4, 0)),  # 2 2/3 wide; of 9 columns 4 are on the left
    ("letterbox", (1, 999), (1, 8), (-5, 0)),
    ("letterbox", (24, 5), (12, 3), (0, -2)),  # 2.5 high is 3; of 5 rows 2 are above
]


@pytest.mark.parametrize(("resize", "picture", "size", "start"), KNOWN)
def test_known_places(resize: str, picture: tuple[int, int], size: tuple[int, int], start: tuple[int, int]) -> None:
    assert made(resize=resize).place(*picture) == (size, start)


def test_short_side_and_crop_of_a_rectangle_are_those_of_training_code() -> None:
    """Short side to 16, then 8 x 12 from the centre, where that lies inside."""
    assert made(resize_px=16).place(640, 480) == ((21, 16), (4, 4))
    assert made(resize_px=16, resize="stretch").place(640, 480) == ((24, 16), (6, 4))


SIDES = st.integers(1, 400)


@given(picture=st.tuples(SIDES, SIDES), box=st.tuples(st.integers(1, 90), st.integers(1, 90)))
def test_a_letterbox_is_the_largest_that_fits(picture: tuple[int, int], box: tuple[int, int]) -> None:
    """One side is exact, the other within half a pixel of the picture's shape, or one pixel."""
    width, height = letterboxed(*picture, *box)
    scale = min(Fraction(box[0], picture[0]), Fraction(box[1], picture[1]))
    assert (width, height) == tuple(max(1, int(side * scale + Fraction(1, 2))) for side in picture)
    assert width <= box[0]
    assert height <= box[1]
    assert width == box[0] or height == box[1]


@given(
    picture=st.tuples(SIDES, SIDES),
    sides=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    more=st.integers(0, 40),
    resize=st.sampled_from(["short-side", "stretch"]),
)
def test_a_crop_lies_inside_every_picture(
    picture: tuple[int, int], sides: tuple[int, int], more: int, resize: str
) -> None:
    size, start = made("RGB", *sides, resize=resize, resize_px=min(sides) + more).place(*picture)
    assert all(
        first >= 0 and first + side <= whole for first, side, whole in zip(start, sides[::-1], size, strict=True)
    )


@pytest.mark.parametrize("color", ["RGB", "BGR", "GRAY", "RGBA"])
def test_what_a_letterbox_pads(tmp_path: Path, color: str) -> None:
    pad = (10, 20, 30, 40)[: CHANNELS[color]]
    white = Image.new("RGB", (4, 4), (255, 255, 255))
    found = read(made(color, 4, 8, resize="letterbox", pad_color=pad), white, tmp_path)
    assert found[:, :2].reshape(-1, CHANNELS[color]).tolist() == [list(pad)] * 8
    assert found[:, 6:].reshape(-1, CHANNELS[color]).tolist() == [list(pad)] * 8
    assert (found[:, 2:6] == 255).all()
    plain = read(made(color, 4, 8, resize="letterbox"), white, tmp_path)
    assert plain[0, 0].tolist() == [0, 0, 0, 255][: CHANNELS[color]]


@pytest.mark.parametrize("interpolation", REACH)
@pytest.mark.parametrize("mode", ["RGB", "GRAY", "RGBA"])
def test_every_filter_is_pillow_s(tmp_path: Path, interpolation: str, mode: str) -> None:
    found = read(made(mode, 9, 7, resize="stretch", resize_px=7, interpolation=interpolation), PICTURE, tmp_path)
    source = {"RGB": PICTURE.convert("RGB"), "GRAY": PICTURE.convert("RGB").convert("L"), "RGBA": PICTURE}[mode]
    expected = np.asarray(source.resize((7, 9), Image.Resampling[interpolation.upper()]))
    np.testing.assert_array_equal(found, expected.reshape(9, 7, -1))


@pytest.mark.parametrize("interpolation", [name for name in REACH if name != "nearest"])
def test_a_long_picture_is_cropped_first_under_every_filter(
    tmp_path: Path, interpolation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = Image.fromarray(np.random.default_rng(1).integers(0, 256, (20, 900, 3), np.uint8))
    preprocess = made("RGB", 16, 16, interpolation=interpolation, resize_px=16)
    whole = read(preprocess, long, tmp_path).astype(int)
    monkeypatch.setattr("edgec.pipeline.data.preprocess.MAX_RESIZED", 1)
    assert np.abs(read(preprocess, long, tmp_path) - whole).max() <= 1


# What cannot be meant


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"resize": "fit"}, "resize is 'fit'"),
        ({"interpolation": "BILINEAR"}, "did you mean 'bilinear'"),
        ({"crop_px": 8}, "crop_px, height_px, width_px told"),
        ({"height_px": None}, "width_px told, expected"),
        ({"height_px": None, "width_px": None}, "no size told"),
        ({"height_px": 0}, "height_px is 0"),
        ({"width_px": 8193}, "width_px is 8193"),
        ({"resize_px": 7}, "smaller than the input's short side 8"),
        ({"resize": "letterbox", "resize_px": 9}, "a letterbox crops nothing"),
        ({"pad_color": (0, 0, 0)}, "pads nothing"),
        ({"resize": "letterbox", "pad_color": (0, 0, 256)}, "pad_color is (0, 0, 256)"),
        ({"resize": "letterbox", "pad_color": (0,)}, "pad_color has 1 numbers, and RGB has 3"),
        ({"mean": (0.0,)}, "mean has 1 numbers"),
        ({"color": "GRAY"}, "mean has 3 numbers, and GRAY has 1"),
        ({"color": "YUV"}, "color is 'YUV'"),
    ],
)
def test_refusals(fields: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=re.escape(named)):
        replace(made(), **fields)  # type: ignore[arg-type]


@given(
    st.lists(st.tuples(st.floats(-300, 300), st.floats(0.01, 300)), min_size=3, max_size=3),
    st.integers(0, 2**32 - 1),
)
def test_normalising_is_the_formula_for_every_pixel(scales: list[tuple[float, float]], seed: int) -> None:
    """By a table of the 256 values that a pixel can have; to the bit what arithmetic on the picture gives."""
    mean, std = (tuple(values) for values in zip(*scales, strict=True))
    pixels = np.random.default_rng(seed).integers(0, 256, (2, 7, 5, 3)).astype(np.uint8)
    found = made("RGB", 7, 5, mean=mean, std=std).normalise(pixels)
    expected = (pixels.astype(np.float32) - np.float32(mean)) / np.float32(std)
    np.testing.assert_array_equal(found, expected.transpose(0, 3, 1, 2))
    assert found.flags.c_contiguous
