"""Activation statistics of the float model: collected once, target-free, memory flat in the number of images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from edgec.pipeline.core.at_once import each_at_once, num_cores, side_by_side
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.forms.ort import PROVIDERS, session_options
from edgec.pipeline.network.graph import Graph, Node
from edgec.pipeline.quantize.masked import bottomless
from edgec.pipeline.quantize.observers import Histogram

Array = npt.NDArray[Any]
Batches = Callable[[], Iterable[npt.NDArray[np.float32]]]
"""Each call starts the calibration set anew: float32 ``(N, C, H, W)`` batches in a fixed order."""
Progress = Callable[[int, int], None]

SAMPLED_POSITIONS = 16
"""Spatial positions per image and channel that enter a histogram; extremes see every position."""


@dataclass(frozen=True, eq=False)
class TensorStatistics:
    """What was seen in one tensor. Per-channel arrays run along axis 1, shape ``(C,)`` float32.

    Attributes:
        channel_min: over all images and positions.
        channel_max: over all images and positions.
        channel_mean: mean over the sampled positions.
        channel_square_mean: mean square over the sampled positions.
        channel_min_mean: mean over the images of the image's minimum ("moving average" range).
        channel_max_mean: mean over the images of the image's maximum.
        histogram_counts: ``(NUM_BINS,)`` int64 over ``[-histogram_limit, histogram_limit)``.
        histogram_limit: shape ``()``.
    """

    channel_min: Array
    channel_max: Array
    channel_mean: Array
    channel_square_mean: Array
    channel_min_mean: Array
    channel_max_mean: Array
    histogram_counts: Array
    histogram_limit: Array

    @property
    def histogram(self) -> Histogram:
        return Histogram(self.histogram_counts, float(self.histogram_limit))


@dataclass(frozen=True, eq=False)
class Calibration:
    """Statistics of every float tensor by its name in the float model."""

    tensors: Mapping[str, TensorStatistics]
    num_images: int

    def save(self, path: Path) -> None:
        """Write an uncompressed ``.npz``; equal statistics give equal bytes."""
        arrays = {
            f"{index}.{field.name}": getattr(statistics, field.name)
            for index, statistics in enumerate(self.tensors.values())
            for field in fields(TensorStatistics)
        }
        names = np.array(list(self.tensors), dtype=np.str_)
        with path.open("wb") as file:
            np.savez(file, names=names, num_images=np.array(self.num_images), **arrays)

    @classmethod
    def load(cls, path: Path) -> Calibration:
        with np.load(path) as arrays:
            tensors = {
                str(name): TensorStatistics(*(arrays[f"{index}.{field.name}"] for field in fields(TensorStatistics)))
                for index, name in enumerate(arrays["names"])
            }
            return cls(tensors, int(arrays["num_images"]))


def collect(onnx_path: Path, batches_factory: Batches, progress: Progress | None = None) -> Calibration:
    """Run the calibration set once through the float model and gather the statistics of all tensors.

    ONNX Runtime computes minima and maxima itself, by Reduce nodes added to the graph: only ``(N, C)`` arrays and a
    sample of positions leave it. ``progress`` gets ``(images done, 0)``: the total is not known to a stream.

    Raises:
        EdgecError: ``empty-calibration``, ``activation-not-finite``.
    """
    graph = Graph.read(onnx.load(onnx_path))
    probed = _Probes.of(graph)
    cores = num_cores()
    at_once = side_by_side(cores)[0] if graph.shapes[graph.inputs[0]][0] in (None, 1) else 1
    session = _session(probed.model, cores - at_once + 1)
    running = {name: _Running() for name in probed.names}
    done = 0
    for batch in batches_factory():
        for piece, outputs in _asked(session, probed, batch, graph, at_once):
            for name in probed.names:
                running[name].add(*probed.read(name, outputs, piece))
            done += len(piece)
        if progress is not None:
            progress(done, 0)
    if done == 0:
        raise EdgecError("empty-calibration", "the calibration set has no images", "name a data set with --data")
    return Calibration({name: state.statistics(name) for name, state in running.items()}, done)


def observed_tensors(graph: Graph) -> list[str]:
    """All activations but those between a linear operator and the ReLU or Clip that every runtime fuses into it, and
    those at the bottom of which only maxima read."""
    names = list(graph.inputs)
    for node in graph.nodes:
        reader = graph.only_consumer(node.output)
        absorbing = node.op in ("Conv", "Gemm", "Add", "ConvTranspose")
        if not (absorbing and reader is not None and reader.op in ("Relu", "Clip")):
            names.extend(node.outputs if node.op == "Split" else node.outputs[:1])
    hidden = bottomless(graph)
    return [name for name in names if _is_float_activation(graph, name) and name not in hidden]


def _is_float_activation(graph: Graph, name: str) -> bool:
    """Known rank of 2 to 5 with the batch in front, and not one of ONNX's integer-valued results."""
    producer = graph.producer.get(name)
    integer = producer is not None and producer.op in ("Shape", "ArgMax", "ArgMin", "NonZero", "Cast", "Size")
    return not integer and 2 <= len(graph.shapes.get(name, ())) <= 5


@dataclass(frozen=True, eq=False)
class _Probes:
    """The float model with outputs that carry statistics: reduced ones for feature maps, whole tensors for vectors."""

    model: onnx.ModelProto
    names: tuple[str, ...]
    outputs: tuple[str, ...]
    reduced: frozenset[str]

    @classmethod
    def of(cls, graph: Graph) -> _Probes:
        names = tuple(observed_tensors(graph))
        reduced = frozenset(name for name in names if len(graph.shapes[name]) == 4 and graph.shapes[name][2:] != (1, 1))
        nodes: list[Node] = list(graph.nodes)
        constants: dict[str, Array] = {"edgec.axes": np.array([2, 3])}
        outputs: list[str] = []
        for name in names:
            if name in reduced:
                added = _probe_nodes(graph, name, constants)
                nodes.extend(added)
                outputs.extend(node.output for node in added)
            elif name not in graph.inputs:
                outputs.append(name)
        model = graph.with_nodes(nodes, constants).write()
        del model.graph.output[:]
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
        return cls(model, names, tuple(outputs), reduced)

    def read(self, name: str, outputs: Mapping[str, Array], batch: Array) -> tuple[Array, Array, Array]:
        """Per-image ``(N, C)`` minimum and maximum, and the sampled values ``(N, C, S)`` of one tensor."""
        if name in self.reduced:
            low, high, sample = (outputs[f"{name}.{kind}"] for kind in ("min", "max", "sample"))
            return low, high, sample.reshape(*low.shape, -1)
        values = outputs.get(name, batch)
        flat = values.reshape(*values.shape[:2], -1)
        return flat.min(axis=2), flat.max(axis=2), flat


def _probe_nodes(graph: Graph, name: str, constants: dict[str, Array]) -> list[Node]:
    height, width = (side or 64 for side in graph.shapes[name][2:])
    stride = max(1, int(np.ceil(np.sqrt(height * width / SAMPLED_POSITIONS))))
    constants[f"{name}.starts"] = np.array([min(stride, height) // 2, min(stride, width) // 2])
    constants[f"{name}.ends"] = np.array([np.iinfo(np.int32).max] * 2)
    constants[f"{name}.steps"] = np.array([stride, stride])
    axes = {"axes": [2, 3], "keepdims": 0}
    slicing = (name, f"{name}.starts", f"{name}.ends", "edgec.axes", f"{name}.steps")
    return [
        _reduce("ReduceMin", name, "min", axes, graph),
        _reduce("ReduceMax", name, "max", axes, graph),
        Node("Slice", slicing, (f"{name}.sample",), {}, f"{name}.sample"),
    ]


def _reduce(op: str, name: str, kind: str, attributes: Mapping[str, Any], graph: Graph) -> Node:
    """Axes are an attribute before opset 18 and an input from there on."""
    opset = next(entry.version for entry in graph.model.opset_import if entry.domain in ("", "ai.onnx"))
    inputs = (name,) if opset < 18 else (name, "edgec.axes")
    kept = attributes if opset < 18 else {"keepdims": 0}
    return Node(op, inputs, (f"{name}.{kind}",), kept, f"{name}.{kind}")


class _Running:
    """Accumulator of one tensor."""

    def __init__(self) -> None:
        self.num_images = 0
        self.low: Array | float = np.inf
        self.high: Array | float = -np.inf
        self.sums: list[Array] = [np.zeros((), np.float64)] * 4
        self.histogram = Histogram.empty()

    def add(self, low: Array, high: Array, sample: Array) -> None:
        self.num_images += len(low)
        self.low = np.minimum(self.low, low.min(axis=0))
        self.high = np.maximum(self.high, high.max(axis=0))
        mean, square = sample.mean(axis=2), np.einsum("ncs,ncs->nc", sample, sample) / sample.shape[2]
        addends = (mean, square, low, high)
        self.sums = [total + part.sum(axis=0, dtype=np.float64) for total, part in zip(self.sums, addends, strict=True)]
        if np.isfinite(self.low).all() and np.isfinite(self.high).all():
            self.histogram = self.histogram.add(sample)

    def statistics(self, name: str) -> TensorStatistics:
        extremes = np.stack([np.asarray(self.low, np.float32), np.asarray(self.high, np.float32)])
        means = [(total / self.num_images).astype(np.float32) for total in self.sums]
        if not all(np.isfinite(values).all() for values in (extremes, *means)):
            raise EdgecError(
                "activation-not-finite",
                f"tensor '{name}' takes NaN or infinite values on the calibration set",
                "check the weights and the preprocessing: the float model itself is broken",
            )
        counts, limit = self.histogram.counts, np.array(self.histogram.limit)
        return TensorStatistics(*(extremes[0], extremes[1], *means, counts, limit))


def _session(model: onnx.ModelProto, threads: int) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(model.SerializeToString(), session_options(threads), providers=PROVIDERS)


def _asked(
    session: Any, probed: _Probes, batch: Array, graph: Graph, at_once: int
) -> Iterator[tuple[Array, Mapping[str, Array]]]:
    """(images, what the probes say of them): of the whole batch, or piece by piece where the model's batch is fixed.

    An image on each core: the feature maps of a batch would be most of what a build holds in memory.
    """
    size = graph.shapes[graph.inputs[0]][0]
    pieces = [batch[start : start + (size or 1)] for start in range(0, len(batch), size or 1)]

    def ask(piece: Array) -> list[Array]:
        results = session.run(list(probed.outputs), {graph.inputs[0]: _filled(piece, graph)})
        return [values[: len(piece)] for values in results]

    found = each_at_once(ask, pieces, at_once)
    if size:
        yield from (
            (piece, dict(zip(probed.outputs, one, strict=True))) for piece, one in zip(pieces, found, strict=True)
        )
    else:
        whole = (np.concatenate(parts) for parts in zip(*found, strict=True))
        yield batch, dict(zip(probed.outputs, whole, strict=True))


def _filled(piece: Array, graph: Graph) -> Array:
    """The piece with its last image repeated up to the model's fixed batch."""
    missing = (graph.shapes[graph.inputs[0]][0] or len(piece)) - len(piece)
    return np.concatenate([piece, np.repeat(piece[-1:], missing, axis=0)]) if missing else piece


def unseen(graph: Graph) -> Calibration:
    """Statistics of no image: every tensor that ``collect`` would observe lies between -1 and 1."""
    tensors = {}
    for name in observed_tensors(graph):
        ones = np.ones(graph.shapes[name][1] or 1, np.float32)
        histogram = Histogram.empty()
        moments = (-ones, ones, 0 * ones, ones / 3, -ones, ones)
        tensors[name] = TensorStatistics(*moments, histogram.counts, np.array(1.0))
    return Calibration(tensors, 1)
