"""A latency to expect before there is a device: a roofline per kernel (Williams, Waterman, Patterson, CACM 2009).

Each fused kernel takes a launch plus the longer of its arithmetic and its memory traffic:

    t = launch + max(2 MACs / (efficiency * peak), bytes / (efficiency * bandwidth))

Dense products run at the tensor cores' peak; depthwise convolutions and pointwise work are taken as traffic alone. The
three constants were fitted to the published figures in ``benchmarks/jetson_estimate.py``, which also tells the error on
networks left out of the fit; ``FACTOR`` covers it. An estimate is never a measurement and says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod

import onnx

from edgec.pipeline.forms.spec import Gpu
from edgec.pipeline.network.cost import layer_macs
from edgec.pipeline.network.graph import LINEAR, Graph, Node

FACTOR = 1.5
"""Published figures lay within this factor of the estimate, up or down."""

POINTWISE = ("Relu", "Clip", "HardSigmoid", "Sigmoid", "HardSwish", "Mul", "Add", "Tanh", "LeakyRelu")
FREE = ("QuantizeLinear", "DequantizeLinear", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity")


@dataclass(frozen=True)
class Constants:
    """What a kernel costs beside its work, and which share of the peaks it reaches."""

    launch_us: float = 8.6
    compute_efficiency: float = 0.61
    memory_efficiency: float = 0.70


@dataclass(frozen=True)
class Kernel:
    """What TensorRT runs in one launch.

    Attributes:
        macs: of a dense convolution or product; 0 for everything else.
        bytes: read and written, weights included.
        integer: it multiplies int8.
    """

    name: str
    macs: int
    bytes: int
    integer: bool


FITTED = Constants()


@dataclass(frozen=True)
class Estimate:
    """Milliseconds of one call; the truth should lie between ``low_ms`` and ``high_ms``."""

    low_ms: float
    high_ms: float


def estimate_latency(model: onnx.ModelProto, gpu: Gpu, precision: str) -> Estimate | None:
    """Of a QDQ or float file with fixed shapes; None where the board's rates are not known."""
    seconds = kernel_seconds(kernels(model), gpu, precision)
    if seconds is None:
        return None
    milliseconds = 1000 * sum(seconds)
    return Estimate(milliseconds / FACTOR, milliseconds * FACTOR)


def kernel_seconds(found: list[Kernel], gpu: Gpu, precision: str, constants: Constants = FITTED) -> list[float] | None:
    """The roofline of each kernel, or None where the board's rates are not known."""
    int8 = 0.0 if precision == "fp16" else gpu.int8_tops
    if gpu.fp16_tflops is None or gpu.bandwidth_gb_s is None or int8 is None:
        return None
    rates = {
        True: 1e12 * int8 * constants.compute_efficiency,
        False: 1e12 * gpu.fp16_tflops * constants.compute_efficiency,
    }
    bandwidth = 1e9 * gpu.bandwidth_gb_s * constants.memory_efficiency
    return [
        constants.launch_us * 1e-6 + max(2 * kernel.macs / (rates[kernel.integer] or 1.0), kernel.bytes / bandwidth)
        for kernel in found
    ]


def kernels(model: onnx.ModelProto) -> list[Kernel]:
    """The file's operators, fused as TensorRT does: convolution + Add + activation, and chains of pointwise work."""
    network = _Fused(Graph.read(model))
    groups: dict[str, list[Node]] = {}
    leader: dict[str, str] = {}
    for node in network.graph.nodes:
        if node.op in FREE:
            continue
        before = next((leader[maker.name] for maker in network.absorbers(node) if maker.name in leader), node.name)
        leader[node.name] = before
        groups.setdefault(before, []).append(node)
    return [network.kernel(group) for group in groups.values()]


@dataclass(frozen=True)
class _Fused:
    """Looks through Q and DQ at who computes what."""

    graph: Graph

    @cached_property
    def readers(self) -> dict[str, int]:
        """How many computing nodes read each computed tensor."""
        counts: dict[str, int] = {}
        for node in self.graph.nodes:
            if node.op not in FREE:
                for name in {self.origin(name) for name in node.inputs if name}:
                    counts[name] = counts.get(name, 0) + 1
        return counts

    def origin(self, name: str) -> str:
        """The tensor that Q, DQ and reshapes only pass on."""
        maker = self.graph.producer.get(name)
        return self.origin(maker.inputs[0]) if maker is not None and maker.op in FREE else name

    def absorbers(self, node: Node) -> list[Node]:
        """Producers whose kernel can do this node's work as well: nobody else reads their output."""
        if node.op not in POINTWISE:
            return []
        makers = []
        for name in node.inputs:
            source = self.origin(name)
            maker = self.graph.producer.get(source)
            is_ours = self.readers.get(source) == 1 or self._gate(node, maker)
            if maker is not None and is_ours and maker.op in (*LINEAR, *POINTWISE):
                makers.append(maker)
        return sorted(makers, key=lambda maker: maker.op in POINTWISE)

    def _gate(self, node: Node, maker: Node | None) -> bool:
        """``x * HardSigmoid(x)`` reads x twice and is one piece of pointwise work."""
        return (
            maker is not None
            and node.op in ("Mul", "HardSigmoid")
            and self.readers.get(maker.output) == 2
            and (node.op == "HardSigmoid" or any(self._is_gate_of(name, maker.output) for name in node.inputs))
        )

    def _is_gate_of(self, name: str, source: str) -> bool:
        maker = self.graph.producer.get(name)
        return maker is not None and maker.op == "HardSigmoid" and self.origin(maker.inputs[0]) == source

    def kernel(self, group: list[Node]) -> Kernel:
        """Traffic across the group's border, and the MACs inside."""
        inside = {node.output for node in group}
        inputs = {self.origin(name) for node in group for name in node.inputs if name} - inside
        outputs = {node.output for node in group[-1:]}
        first = group[0]
        integer = first.op in LINEAR and self._element_bytes(first.inputs[1]) == 1
        traffic = sum(self._bytes(name) for name in inputs | outputs)
        return Kernel(first.name, self._macs(first), traffic, integer)

    def _macs(self, node: Node) -> int:
        """Of a dense convolution or product; grouped convolutions count as traffic."""
        if node.op not in LINEAR or int(node.attributes.get("group", 1)) > 1:
            return 0
        return layer_macs(node.op, node.inputs, node.output, self.graph.shapes) or 0

    def _bytes(self, name: str) -> int:
        shape = self.graph.shapes.get(name, ())
        return prod(size or 1 for size in shape) * self._element_bytes(name)

    def _element_bytes(self, name: str) -> int:
        """1 where a Q stores the tensor as int8, else 2: FP16."""
        maker = self.graph.producer.get(name)
        stored = maker is not None and maker.op == "DequantizeLinear"
        quantized = any(node.op == "QuantizeLinear" for node in self.graph.consumers.get(name, ()))
        return 1 if stored or quantized else 2
