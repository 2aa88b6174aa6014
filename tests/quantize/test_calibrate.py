"""Streamed statistics equal those of all images at once, and take the same memory for any number of images."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from edgec.pipeline.network.graph import Graph
from edgec.pipeline.quantize import calibrate
from edgec.pipeline.quantize.calibrate import Calibration, collect
from edgec.pipeline.quantize.executor import run

IMAGES = np.random.default_rng(9).normal(0, 1, (13, 3, 32, 32)).astype(np.float32)


def streamed(path: Path, size: int, images: np.ndarray = IMAGES) -> Calibration:
    return collect(path, lambda: (images[i : i + size] for i in range(0, len(images), size)))


def activations(path: Path) -> dict[str, np.ndarray]:
    """Every activation of the float network, all images at once."""
    seen: dict[str, np.ndarray] = {}

    def keep(name: str, value: torch.Tensor) -> torch.Tensor:
        seen[name] = value.numpy()
        return value

    run(Graph.read(onnx.load(path)), {"input": torch.from_numpy(IMAGES)}, keep)
    return seen


def test_statistics_equal_a_direct_computation(tiny_onnx: Path) -> None:
    calibration, seen = streamed(tiny_onnx, 4), activations(tiny_onnx)
    assert calibration.num_images == len(IMAGES)
    assert {"input", "r1", "c2", "p", "f", "logits"} == set(calibration.tensors), "c1 is fused into the ReLU"
    for name, statistics in calibration.tensors.items():
        flat = seen[name].reshape(*seen[name].shape[:2], -1)
        low, high = flat.min(axis=2), flat.max(axis=2)
        expected = {
            "channel_min": low.min(axis=0),
            "channel_max": high.max(axis=0),
            "channel_min_mean": low.mean(axis=0),
            "channel_max_mean": high.mean(axis=0),
        }
        for field, value in expected.items():
            np.testing.assert_allclose(
                getattr(statistics, field), value, rtol=1e-4, atol=1e-5, err_msg=f"{name} {field}"
            )
        deviation = flat.std() / np.sqrt(16 * len(IMAGES))
        np.testing.assert_allclose(statistics.channel_mean, flat.mean(axis=(0, 2)), atol=5 * deviation)


@pytest.mark.parametrize("size", [1, 5, 13])
def test_the_size_of_batches_does_not_matter(tiny_onnx: Path, size: int) -> None:
    one, other = streamed(tiny_onnx, 4), streamed(tiny_onnx, size)
    for name in one.tensors:
        for field in fields(one.tensors[name]):
            values = [np.asarray(getattr(part.tensors[name], field.name)) for part in (one, other)]
            np.testing.assert_allclose(values[0], values[1], rtol=1e-4, atol=2 if "counts" in field.name else 1e-5)


def test_statistics_do_not_grow_with_the_images(tiny_onnx: Path) -> None:
    def size(calibration: Calibration) -> int:
        parts = calibration.tensors.values()
        return sum(np.asarray(getattr(part, field.name)).nbytes for part in parts for field in fields(part))

    assert size(streamed(tiny_onnx, 4)) == size(streamed(tiny_onnx, 4, np.concatenate([IMAGES] * 3)))


def test_a_saved_calibration_comes_back_and_has_the_same_bytes(tiny_onnx: Path, tmp_path: Path) -> None:
    calibration = streamed(tiny_onnx, 4)
    calibration.save(tmp_path / "a.npz")
    streamed(tiny_onnx, 4).save(tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    loaded = Calibration.load(tmp_path / "a.npz")
    assert list(loaded.tensors) == list(calibration.tensors)
    np.testing.assert_array_equal(loaded.tensors["r1"].channel_max, calibration.tensors["r1"].channel_max)


def test_progress_counts_images(tiny_onnx: Path) -> None:
    seen: list[int] = []
    collect(tiny_onnx, lambda: iter([IMAGES[:5], IMAGES[5:]]), lambda done, _: seen.append(done))
    assert seen == [5, 13]


@pytest.mark.parametrize("batch", [1, 4])
def test_a_fixed_batch_is_fed_in_its_own_size(tmp_path: Path, batch: int) -> None:
    from tiny import tiny_network

    onnx.save(tiny_network(batch=batch), tmp_path / "fixed.onnx")
    onnx.save(tiny_network(), tmp_path / "free.onnx")
    fixed, free = (streamed(tmp_path / f"{name}.onnx", 4, IMAGES[:7]) for name in ("fixed", "free"))
    assert fixed.num_images == 7
    for name, statistics in free.tensors.items():
        np.testing.assert_allclose(fixed.tensors[name].channel_mean, statistics.channel_mean, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(fixed.tensors[name].channel_max, statistics.channel_max, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cores", [1, 2, 3])
def test_statistics_do_not_depend_on_the_cores(
    cores: int, tiny_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual, found = tmp_path / "usual.npz", tmp_path / "found.npz"
    streamed(tiny_onnx, 5).save(usual)
    monkeypatch.setattr(calibrate, "num_cores", lambda: cores)
    streamed(tiny_onnx, 5).save(found)
    assert found.read_bytes() == usual.read_bytes()
