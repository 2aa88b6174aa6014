"""Images from memory are the data set that the same files would be."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgec.pipeline.api.images import Images, as_folder, folder_or_none, pictures
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.data.dataset import open_dataset

Arrays = list[np.ndarray[Any, Any]]


@pytest.fixture(scope="session")
def arrays(tiny_images: Path) -> Arrays:
    """In the order of the folder."""
    return [np.asarray(Image.open(file)) for file in sorted(tiny_images.rglob("*.png"))]


NAMES = ["blue"] * 8 + ["green"] * 8 + ["red"] * 8
INDICES = [0] * 8 + [1] * 8 + [2] * 8
FORMS: dict[str, Callable[[Arrays], Iterable[Any]]] = {
    "array": np.stack,
    "list": list,
    "iterator": iter,
    "generator": lambda arrays: (array.copy() for array in arrays),
    "PIL": lambda arrays: map(Image.fromarray, arrays),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("labels", "classes"),
    [(NAMES, ()), (NAMES, ("blue", "green", "red")), (np.array(INDICES), ("blue", "green", "red")), (iter(NAMES), ())],
    ids=["names", "names and classes", "indices and classes", "iterator"],
)
def test_memory_equals_the_folder(
    form: str, labels: Any, classes: tuple[str, ...], arrays: Arrays, tiny_images: Path
) -> None:
    """The same digest, which covers bytes, order and labels; the same classes."""
    labels = (
        NAMES if form != "array" and not isinstance(labels, list | np.ndarray) else labels
    )  # an iterator is read once
    with as_folder(Images(FORMS[form](arrays), labels, classes)) as folder:
        found, expected = open_dataset(folder), open_dataset(tiny_images)
        assert found.artifact().sha256 == expected.artifact().sha256
        assert found.classes == expected.classes
    assert not folder.exists()


def test_without_labels_and_by_index_alone(arrays: Arrays) -> None:
    with as_folder(np.stack(arrays)) as folder:
        assert open_dataset(folder).labels is None
    with as_folder(Images(arrays, INDICES)) as folder:
        found = open_dataset(folder)
        assert (found.classes, list(found.labels)) == ((), INDICES)


def test_a_path_is_itself(tiny_images: Path) -> None:
    for given in (tiny_images, str(tiny_images)):
        with as_folder(given) as folder:
            assert folder == tiny_images
    with folder_or_none(None) as nothing:
        assert nothing is None


@pytest.mark.parametrize("channels", [(), (1,), (3,), (4,)], ids=str)
def test_channels(channels: tuple[int, ...]) -> None:
    stack = np.random.default_rng(0).integers(0, 256, (2, 5, 7, *channels), np.uint8)
    found = list(pictures(stack))
    assert all(np.array_equal(one, expected.squeeze()) for one, expected in zip(found, stack, strict=True))
    with as_folder(stack) as folder:
        files = sorted(folder.iterdir())
        kept = [np.asarray(Image.open(file)) for file in files]
    assert all(np.array_equal(one, expected.squeeze()) for one, expected in zip(kept, stack, strict=True))


PICTURE = np.zeros((4, 4, 3), np.uint8)
WRONG: dict[str, Any] = {
    "floats": np.zeros((2, 4, 4, 3), np.float32),
    "one image": PICTURE,
    "a vector": np.zeros(4, np.uint8),
    "channels first": np.zeros((2, 3, 8, 8), np.uint8),
    "five channels": [np.zeros((4, 4, 5), np.uint8)],
    "nothing in it": [np.zeros((0, 4, 3), np.uint8)],
    "ragged": [[[1, 2], [3]]],
    "no iterable": 7,
    "one PIL image": Image.new("RGB", (4, 4)),
    "a path inside": [PICTURE, "photo.png"],
    "fewer labels": Images([PICTURE] * 3, [0, 1]),
    "more labels": Images([PICTURE], [0, 1]),
    "labels of two kinds": Images([PICTURE] * 2, [0, "b"]),  # type: ignore[list-item]
    "a label that is no class": Images([PICTURE], ["c"], ("a", "b")),
    "an index beyond": Images([PICTURE], [2], ("a", "b")),
    "a negative index": Images([PICTURE], [-1]),
    "a float label": Images([PICTURE], [0.5]),  # type: ignore[list-item]
    "no image": [],
    "an iterator at its end": Images(iter(()), []),
    "no label": Images([PICTURE], [None]),  # type: ignore[list-item]
    "an empty label": Images([PICTURE], [" "]),
    "one name twice": Images([PICTURE], [0], ("a", "a")),
    "a name of two lines": Images([PICTURE], [0], ("a\nb",)),
}


@pytest.mark.parametrize("given", WRONG.values(), ids=WRONG)
def test_what_is_no_picture_is_refused(given: Any) -> None:
    with pytest.raises(EdgecError) as refusal, as_folder(given):
        pass
    assert refusal.value.code == "bad-images"
