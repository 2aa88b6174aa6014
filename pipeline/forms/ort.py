"""ONNX Runtime: executes float and QDQ networks; the reference that every target is compared with."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgec.pipeline.core.at_once import each_at_once
from edgec.pipeline.core.scratch import scratch
from edgec.pipeline.forms.format import Batch, Outputs

PROVIDERS = ["CPUExecutionProvider"]
PROFILED_RUNS = 20


class OrtRunner:
    """An ONNX file in ONNX Runtime.

    Args:
        path: the ONNX file, float or QDQ.
        threads: intra-op threads; images that run side by side share all but their own.
        as_written: execute every QuantizeLinear and DequantizeLinear as the file says instead of fusing them into
            integer kernels. This is the reference semantics: it is the same on every machine, while fused u8*s8 kernels
            saturate on x86 without VNNI.
        integer_sums: move the scales of a file executed as written behind its sums (``integer_sums.py``). Not for
            comparing two spellings of one network, only one of which may have the form that it looks for.
        at_once: images that ``predict`` runs side by side, each alone: two on a thread each take 0.6 of the time that
            two threads need for a batch, whose tensors leave the caches.
    """

    def __init__(
        self,
        path: Path,
        threads: int = 1,
        as_written: bool = False,
        *,
        integer_sums: bool = True,
        at_once: int = 1,
    ) -> None:
        self._at_once = at_once
        self._session = _session(path, threads, as_written, integer_sums)
        self._input = self._session.get_inputs()[0]
        self.outputs: list[str] = [output.name for output in self._session.get_outputs()]

    @property
    def fixed_batch(self) -> int | None:
        """Images that the file takes at once; None where it takes any number."""
        size = self._input.shape[0]
        return size if isinstance(size, int) and size > 0 else None

    def predict(self, batch: Batch) -> Outputs:
        """``(N, C, H, W)`` to every output; in steps of the file's own batch where that is fixed."""
        step = self.fixed_batch or (1 if self._at_once > 1 else len(batch))
        pieces = [batch[i : i + step] for i in range(0, len(batch), step)]
        parts = each_at_once(lambda piece: self._session.run(None, {self._input.name: piece}), pieces, self._at_once)
        return tuple(np.concatenate(part).astype(np.float32, copy=False) for part in zip(*parts, strict=True))

    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Of every output for one input of noise."""
        return tuple(np.shape(found) for found in self._session.run(None, {self._input.name: self.noise()}))

    def single(self, image: Batch) -> Callable[[], None]:
        """One image bound to the session; the returned call runs it into ONNX Runtime's own output buffers."""
        binding = self._session.io_binding()
        binding.bind_cpu_input(self._input.name, np.ascontiguousarray(image))
        for name in self.outputs:
            binding.bind_output(name)

        def invoke() -> None:
            self._session.run_with_iobinding(binding)

        return invoke

    def noise(self, seed: int = 0) -> Batch:
        """One standard normal input of the network's shape."""
        return _noise([side if isinstance(side, int) and side > 0 else 1 for side in self._input.shape], seed)


def noise_for(path: Path) -> Batch:
    """``OrtRunner.noise`` for a file of edgec's own, without loading it into the runtime."""
    import onnx

    sides = onnx.load(path, load_external_data=False).graph.input[0].type.tensor_type.shape.dim
    return _noise([side.dim_value or 1 for side in sides], 0)


def _noise(shape: Sequence[int], seed: int) -> Batch:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def node_times(path: Path, threads: int) -> dict[str, float]:
    """Mean microseconds in each node that ONNX Runtime executes, while its profiler listens."""
    import onnxruntime

    options, image = session_options(threads), OrtRunner(path, threads).noise()
    with scratch("profile") as folder:
        options.enable_profiling, options.profile_file_prefix = True, str(folder / "profile")
        session = onnxruntime.InferenceSession(str(path), options, providers=PROVIDERS)
        for _ in range(PROFILED_RUNS):
            session.run(None, {session.get_inputs()[0].name: image})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    total: Counter[str] = Counter()
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            total[event["name"].removesuffix("_kernel_time")] += event["dur"]
    return {name: time_us / PROFILED_RUNS for name, time_us in total.items()}


def session_options(threads: int) -> Any:
    """Of a session that keeps its remarks to itself; 0 threads: as many as there are cores."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return options


def _session(path: Path, threads: int, as_written: bool, integer_sums: bool) -> Any:
    import onnxruntime

    options = session_options(threads)
    if as_written:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    else:
        return onnxruntime.InferenceSession(str(path), options, providers=PROVIDERS)
    kept_apart = ["DoubleQDQPairsRemover"]  # of two pairs in a row it leaves the finer one alone
    if not integer_sums:
        return onnxruntime.InferenceSession(str(path), options, providers=PROVIDERS, disabled_optimizers=kept_apart)
    import onnx

    from edgec.pipeline.forms.integer_sums import with_integer_sums

    content = with_integer_sums(onnx.load(path)).SerializeToString()
    kept_apart.append("ConvMulFusion")  # it would multiply the factor back into the weights
    return onnxruntime.InferenceSession(content, options, providers=PROVIDERS, disabled_optimizers=kept_apart)
