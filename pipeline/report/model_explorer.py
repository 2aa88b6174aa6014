"""Figures of each layer as node data, which Google's Model Explorer lays over a graph.

The format is that of its ``GraphNodeData`` (``node_data_builder.py`` there): ``results`` by node id or by the name of
an output tensor, and a gradient from the smallest value (stop 0) to the largest (stop 1). A file holds one figure of
one graph: of a .tflite file by tensor, of other artifacts, and where it names none, by node of the QDQ file; times as
the runtime names its layers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgec.pipeline.bundle.read import Bundle
from edgec.pipeline.bundle.records import read_latency, read_quantization
from edgec.pipeline.bundle.verify import opened
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.report.output import check_replaceable, write_text

BAD, GOOD = "#d7301f", "#ffffff"
FIRST, LAST = "QuantizeLinear", "DequantizeLinear"
OURS = b'"name": "edgec: '


@dataclass(frozen=True)
class NodeData:
    """One file.

    Attributes:
        suffix: what its name has behind the stem that was asked for.
    """

    suffix: str
    content: dict[str, Any]


def node_data(bundle: Bundle) -> tuple[NodeData, ...]:
    """SQNR of each layer's output in dB, and time in microseconds where the runtime tells it.

    Raises:
        EdgecError: ``no-layer-figures`` where neither is known.
    """
    noise = read_quantization(bundle.folder).layer_sqnr_db
    sqnr_db = {name: db for name, db in noise.items() if db is not None}
    layer_us = dict(read_latency(bundle.folder).layer_us)
    found = []
    if sqnr_db:
        found.append(NodeData("", _graph("SQNR in dB", _named(bundle, sqnr_db), low=BAD, high=GOOD)))
    if layer_us:
        found.append(NodeData("-time" if found else "", _graph("time in microseconds", layer_us, low=GOOD, high=BAD)))
    if not found:
        message = f"'{bundle.folder}' has no figure of any layer"
        raise EdgecError("no-layer-figures", message, "build it again: 'edgec build' records the noise of each layer")
    return tuple(found)


def beside(path: Path, suffix: str) -> Path:
    """``nodes.json`` with ``-time`` is ``nodes-time.json``."""
    return path.with_name(f"{path.stem}{suffix}{path.suffix}")


def _graph(name: str, values: Mapping[str, float], low: str, high: str) -> dict[str, Any]:
    gradient = [{"stop": 0, "bgColor": low}, {"stop": 1, "bgColor": high}]
    results = {key: {"value": round(value, 3)} for key, value in values.items()}
    return {"name": f"edgec: {name}", "results": results, "gradient": gradient}


def _named(bundle: Bundle, values: Mapping[str, float]) -> dict[str, float]:
    """Under the names of the artifact's tensors where it holds them, else of the nodes in the QDQ file.

    A .tflite file that firmware links names its inputs and outputs alone.
    """
    import onnx

    if bundle.manifest.target.format != "tflite":
        return dict(values)
    graph, content = onnx.load(bundle.qdq_onnx, load_external_data=False).graph, bundle.artifact.read_bytes()
    written: dict[str, str] = {node.name: node.output[0] for node in graph.node if node.output}
    behind: dict[str, str] = {node.input[0]: node.output[0] for node in graph.node if node.op_type in (FIRST, LAST)}
    ends = {tensor.name for tensor in graph.output}

    def tensor_of(node: str) -> str:
        """An output of the network has its name behind QuantizeLinear and DequantizeLinear."""
        tensor = written.get(node, node)
        end = behind.get(behind.get(tensor, ""), "")
        return end if end in ends else tensor

    tensors = {tensor_of(node): value for node, value in values.items()}
    return tensors if any(_flat(name) in content for name in tensors.keys() - ends) else dict(values)


def _flat(text: str) -> bytes:
    """As a flatbuffer holds it: length in four bytes, little end first, then UTF-8 and a zero."""
    raw = text.encode()
    return len(raw).to_bytes(4, "little") + raw + b"\0"


def write_node_data(path: Path, output: Path) -> list[Path]:
    """The files of a bundle, folder or archive: SQNR as ``output``, time beside it.

    Raises:
        EdgecError: what ``opened`` and ``node_data`` raise; ``output-exists`` where something else lies there;
            ``output-not-writable``.
    """
    with opened(path) as bundle:
        found = {beside(output, one.suffix): one.content for one in node_data(bundle)}
    for place in found:
        check_replaceable(place, OURS, "node data")
    for place, content in found.items():
        write_text(place, json.dumps(content, indent=2) + "\n")
    return list(found)
