"""One node in an evaluator that has every operator: ONNX's own, or ONNX Runtime for what that lacks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edgec.pipeline.forms.ort import PROVIDERS, session_options
from edgec.pipeline.network.export import OPSET
from edgec.pipeline.network.graph import Node


def by_reference(node: Node, inputs: list[Tensor | None]) -> tuple[Tensor, ...]:
    from onnx.reference import ReferenceEvaluator
    from onnx.reference.op_run import RuntimeContextError, RuntimeImplementationError

    feeds = {name: value.detach().numpy() for name, value in zip(node.inputs, inputs, strict=True) if value is not None}
    try:
        results = ReferenceEvaluator(node.proto(), opsets={"": OPSET}).run(None, feeds)
    except (NotImplementedError, RuntimeContextError, RuntimeImplementationError):
        results = _in_runtime(node, feeds)
    return tuple(torch.from_numpy(np.array(result)) for result in results)


def _in_runtime(node: Node, feeds: Mapping[str, npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
    """One node in ONNX Runtime, for what the evaluator lacks, GlobalLpPool say, or ONNX itself does."""
    import onnxruntime
    from onnx import ValueInfoProto, helper

    types = {name: helper.np_dtype_to_tensor_dtype(value.dtype) for name, value in feeds.items()}
    given = [helper.make_tensor_value_info(name, types[name], value.shape) for name, value in feeds.items()]
    graph = helper.make_graph([node.proto()], "node", given, [ValueInfoProto(name=name) for name in node.outputs])
    domains = [helper.make_opsetid("", OPSET), *([helper.make_opsetid(node.domain, 1)] if node.domain else [])]
    model = helper.make_model(graph, opset_imports=domains, ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), session_options(1), providers=PROVIDERS)
    answers: list[npt.NDArray[Any]] = session.run(None, dict(feeds))
    return answers


def operator_by_reference(op: str, a: Mapping[str, Any], *inputs: Tensor | None) -> Tensor:
    names = tuple("" if tensor is None else f"input{index}" for index, tensor in enumerate(inputs))
    return by_reference(Node(op, names, ("output",), a, op), list(inputs))[0]
