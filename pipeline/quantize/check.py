"""Asks a target about the network that quantization will make, before any image is read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from edgec.pipeline.core.stage import Artifact
from edgec.pipeline.forms.compiler import LoadsCompiler, load_compiler
from edgec.pipeline.forms.scheme import Scheme
from edgec.pipeline.quantize.stages import given_among

if TYPE_CHECKING:
    from onnx import ModelProto

    from edgec.pipeline.quantize.take_apart import Given


@dataclass(frozen=True)
class Check(LoadsCompiler):
    """Ask the target's compiler whether it takes the network as its scheme will quantize it.

    The compiler sees the same nodes, and the same tensors in integers and in float, as after quantization; only the
    ranges are made up. A hard-swish of which the images decide whether it is in parts is one operator here.

    Attributes:
        compiler: by name.
        settings: what it reads of the board.
        scheme: integer semantics.
    """

    compiler: str
    settings: Any
    scheme: Scheme

    output: ClassVar[str] = "checked.json"

    @property
    def toolchain(self) -> tuple[str, ...]:
        """The compiler's own, and what reads the network."""
        return ("onnx", *load_compiler(self.compiler).TOOLCHAIN)

    def run(self, output: Path, *inputs: Artifact) -> None:
        """Check ``inputs[0]``, a float ONNX file, and what the network was given, where it was.

        Raises:
            EdgecError: ``unsupported-operator`` names the node.
        """
        import onnx

        compiler = load_compiler(self.compiler)
        asked = pretended(onnx.load(inputs[0].path), self.scheme, given_among(inputs))
        remarks = compiler.check(asked, self.settings) or ()
        output.write_text(json.dumps({"accepted": True, "remarks": list(remarks)}))


def read_remarks(path: Path) -> tuple[str, ...]:
    """What a compiler had to say of a network that it takes."""
    return tuple(json.loads(path.read_bytes())["remarks"])


def pretended(model: ModelProto, scheme: Scheme, given: Given | None = None) -> ModelProto:
    """The QDQ network of a scheme, with every range that is not given from -1 to 1."""
    from edgec.pipeline.network.graph import Graph
    from edgec.pipeline.quantize.as_given import plan_as_given
    from edgec.pipeline.quantize.calibrate import unseen
    from edgec.pipeline.quantize.plan import Network, make_plan
    from edgec.pipeline.quantize.prepare import prepare
    from edgec.pipeline.quantize.qdq import insert_qdq
    from edgec.pipeline.quantize.ranges import observed
    from edgec.pipeline.quantize.rescaling import remove_unused_rescaling

    source = Graph.read(model)
    if given is not None:
        network, plan, _ = plan_as_given(source, unseen(source), scheme, given, {})
        return insert_qdq(network.graph, plan)
    network = prepare(observed(source, unseen(source)), scheme)
    graph = remove_unused_rescaling(network.graph)
    return insert_qdq(graph, make_plan(Network(graph, network.seen), scheme))
