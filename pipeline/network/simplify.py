"""onnxsim on the float network, before any Q/DQ: constant folding, batch norm and padding into convolutions.

A symbolic batch is one image while onnxsim works, so that shapes computed from it fold away; afterwards it is symbolic
again where the result still takes any number of images. Otherwise the network stays at one, and runs image by image.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from edgec.pipeline.core.disk import FULL
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.stage import Artifact
from edgec.pipeline.forms.format import Batch
from edgec.pipeline.forms.ort import OrtRunner

if TYPE_CHECKING:
    import onnx

Feeds = Callable[[npt.NDArray[np.float32]], tuple[npt.NDArray[Any], npt.NDArray[Any]]]

DISK_FULL = 28  # exit status of the process that simplifies


@dataclass(frozen=True)
class Simplify:
    """Simplify in a process of its own, because onnxsim can crash or run without end on a stranger's model.

    Attributes:
        time_limit_s: after this the step is refused, not skipped.
        tolerance: largest difference of any output, relative to the largest output, on seeded noise.
    """

    time_limit_s: float = 300.0
    tolerance: float = 1e-4

    output: ClassVar[str] = "model.onnx"
    toolchain: ClassVar[tuple[str, ...]] = ("onnxsim", "onnx")

    def run(self, output: Path, *inputs: Artifact) -> None:
        """Simplify ``inputs[0]`` and prove that its outputs are unchanged.

        Raises:
            EdgecError: ``simplify-timeout``, ``simplify-failed``, ``simplify-changed-outputs``.
        """
        (model,) = inputs
        command = [sys.executable, "-m", "edgec.pipeline.network.simplify", str(model.path), str(output)]
        environment = {**os.environ, "TMPDIR": str(output.parent)}  # whatever it leaves there goes with us
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=self.time_limit_s, check=False, env=environment
            )
        except subprocess.TimeoutExpired:
            raise EdgecError(
                "simplify-timeout",
                f"onnxsim did not finish within {self.time_limit_s:.0f} s",
                "simplify the model yourself first",
            ) from None
        if done.returncode == DISK_FULL:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(output))
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
            raise EdgecError("simplify-failed", f"onnxsim stopped: {reason}", "check the model with onnx.checker")
        difference = outputs_difference(model.path, output)
        if not difference <= self.tolerance:
            raise EdgecError(
                "simplify-changed-outputs",
                f"simplification changed the outputs by {difference:.2g}, expected at most {self.tolerance:.2g}",
                "report the model to onnxsim; edgec does not continue on a changed network",
            )


def outputs_difference(before: Path, after: Path, feeds: Feeds | None = None) -> float:
    """Largest output difference on seeded noise, relative to the largest output of ``before``.

    Args:
        feeds: what each of them takes for a noise of ``after``'s shape; the noise of ``before`` for both where None.
    """
    old, new = OrtRunner(before), OrtRunner(after)
    one, other = feeds(new.noise()) if feeds else (old.noise(), old.noise())
    pairs = zip(old.predict(one), new.predict(other), strict=True)
    return max(_apart(a, b) for a, b in pairs)


def _apart(one: Batch, other: Batch) -> float:
    """Relative to the largest finite value; what is NaN, or the same infinity, in both is equal."""
    differ = (one != other) & ~(np.isnan(one) & np.isnan(other))
    largest = float(np.max(np.abs(one), where=np.isfinite(one), initial=1e-6))
    return float(np.max(np.abs(one[differ] - other[differ]), initial=0.0)) / largest


def _simplify(source: Path, output: Path) -> None:
    sys.modules["torch"] = None  # type: ignore[assignment]  # seconds: onnxsim takes it along where it is there, unused
    import onnx
    import onnxsim

    model = onnx.load(source)
    batches = [value.type.tensor_type.shape.dim[0] for value in image_inputs(model)]
    free = all(batch.dim_value <= 0 for batch in batches)
    single, _ = onnxsim.simplify(with_batch(model, 1) if free else model)
    onnx.save(single, output)
    if free:
        freed = with_batch(single, "N")
        onnx.save(freed, f"{output}.freed")
        if takes_any_batch(output, Path(f"{output}.freed")):
            onnx.save(freed, output)
        Path(f"{output}.freed").unlink()


def image_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """What is fed: the inputs that are no initializers."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in constants]


def with_batch(model: onnx.ModelProto, batch: int | str) -> onnx.ModelProto:
    """A copy that takes this many images, or any under a name; other shapes are left to inference."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]
    for value in image_inputs(copy):
        side = value.type.tensor_type.shape.dim[0]
        side.Clear()
        setattr(side, "dim_value" if isinstance(batch, int) else "dim_param", batch)
    for value in copy.graph.output:
        value.type.tensor_type.ClearField("shape")
    return onnx.shape_inference.infer_shapes(copy, data_prop=True)


def takes_any_batch(single: Path, freed: Path) -> bool:
    """Three images at once are answered as each of them alone.

    A Reshape to a constant shape, say, holds the one image that the network was simplified for.
    """
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, RuntimeException

    try:
        one, many = OrtRunner(single), OrtRunner(freed)
        images = np.concatenate([one.noise(seed) for seed in range(3)])
        pairs = list(zip(one.predict(images), many.predict(images), strict=True))
    except (Fail, InvalidArgument, RuntimeException, ValueError):
        return False
    return all(a.shape == b.shape and np.allclose(a, b, rtol=1e-3, atol=1e-4 * np.abs(a).max()) for a, b in pairs)


if __name__ == "__main__":
    try:
        _simplify(Path(sys.argv[1]), Path(sys.argv[2]))
    except OSError as error:
        if error.errno in FULL:
            sys.exit(DISK_FULL)
        raise
