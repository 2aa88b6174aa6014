"""Runtimes answer many images an image on each thread: the same answers to the bit as one after another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgec.pipeline.bundle.read import open_bundle
from edgec.pipeline.bundle.use import open_runner
from edgec.pipeline.forms.compiler import Runner
from edgec.targets.tflite.runner import LiteRtRunner

NEEDS = {"cpu_bundle": "openvino", "mcu_bundle": "ai_edge_litert"}


@pytest.mark.parametrize("name", NEEDS)
@pytest.mark.parametrize("threads", [2, 3])
def test_threads_change_no_answer(request: pytest.FixtureRequest, name: str, threads: int) -> None:
    pytest.importorskip(NEEDS[name])
    bundle = open_bundle(request.getfixturevalue(name))
    images = np.random.default_rng(2).normal(size=(9, *bundle.preprocess.shape)).astype(np.float32)
    check_alike(open_runner(bundle, 1), open_runner(bundle, threads), images)


@pytest.mark.parametrize("xnnpack", [True, False])
def test_threads_change_no_answer_of_xnnpack(mcu_bundle: Path, xnnpack: bool) -> None:
    """The file of a microcontroller as a larger core would run it."""
    pytest.importorskip("ai_edge_litert")
    bundle = open_bundle(mcu_bundle)
    images = np.random.default_rng(2).normal(size=(9, *bundle.preprocess.shape)).astype(np.float32)
    check_alike(*(LiteRtRunner(bundle.artifact, threads, xnnpack) for threads in (1, 3)), images)


def check_alike(one: Runner, several: Runner, images: np.ndarray) -> None:
    """Image by image in a runner of one thread, and as batches in the other."""
    alone = [one.predict(image[None]) for image in images]
    for start, stop in ((0, 9), (0, 1), (4, 7)):
        for place, output in enumerate(several.predict(images[start:stop])):
            expected = np.concatenate([answers[place] for answers in alone[start:stop]])
            np.testing.assert_array_equal(output, expected)


def test_an_image_that_breaks_a_thread_leaves_the_runner_usable(mcu_bundle: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    bundle = open_bundle(mcu_bundle)
    runner = open_runner(bundle, 2)
    images = np.zeros((6, *bundle.preprocess.shape), np.float32)
    with pytest.raises(ValueError, match="Dimension mismatch"):
        runner.predict(images[:, :, :-1])
    assert len(runner.predict(images)[0]) == 6
