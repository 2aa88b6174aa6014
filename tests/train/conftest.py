"""What the tests of training share: one thread, and a data set of two colours."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from PIL import Image

from edgec.pipeline.data.dataset import Dataset, open_dataset


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Two classes that differ in colour: reddish and bluish noise."""
    root = tmp_path_factory.mktemp("colours")
    random = np.random.default_rng(0)
    for channel, name in ((2, "blue"), (0, "red")):
        (root / name).mkdir()
        for index in range(16):
            pixels = random.integers(0, 120, (40, 40, 3), np.uint8)
            pixels[..., channel] += 100
            Image.fromarray(pixels).save(root / name / f"{index}.png")
    return open_dataset(root)
