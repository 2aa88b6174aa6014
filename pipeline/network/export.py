"""PyTorch definition and weights to float ONNX."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from edgec.pipeline.core.stage import Artifact
from edgec.pipeline.network import models
from edgec.pipeline.network.models.spec import NetworkConfig
from edgec.pipeline.network.models.weights import Weights

if TYPE_CHECKING:
    from torch import Tensor, nn

OPSET = 17  # the newest that TensorRT 8.6 reads; HardSwish is one operator from 14 on


@dataclass(frozen=True)
class Export:
    """Write the network as ONNX: input ``input`` (N, 3, H, W), output ``logits``
    (N, classes) or (N, classes, H, W), or ``classes`` (N, H, W) where ArgMax ends it.

    Batch norm is folded into convolutions; HardSwish and HardSigmoid stay single nodes, because targets recognise them.

    Attributes:
        config: the network.
        weights: where its parameters come from.
        builder: of the family, so that an edited definition is exported again.
    """

    config: NetworkConfig
    weights: Weights
    builder: Callable[[NetworkConfig], nn.Module]

    output: ClassVar[str] = "model.onnx"
    toolchain: ClassVar[tuple[str, ...]] = ("torch", "onnx")

    def run(self, output: Path, *inputs: Artifact) -> None:
        """Build, load and export.

        Raises:
            EdgecError: what loading weights raises.
        """
        from edgec.pipeline.network.models.spec import build_network
        from edgec.pipeline.network.models.weights import load_weights

        spec = models.get(self.config.model)
        network = build_network(self.config)
        load_weights(network, self.weights)
        answer = "classes" if self.config.argmax else "logits"
        export_onnx(network, self.config.input_px or spec.input_px, output, answer)


def export_onnx(network: nn.Module, input_px: int, path: Path, answer: str = "logits") -> None:
    """Trace ``network`` on ``(1, 3, input_px, input_px)`` and write it with a symbolic batch."""
    import torch

    trace(network.eval(), torch.zeros(1, 3, input_px, input_px), path, (answer,))


def trace(network: nn.Module, image: Tensor, path: Path, outputs: Sequence[str]) -> None:
    """Run ``network`` on ``image``, ``(1, C, H, W)``, and write what it did with a symbolic batch.

    Args:
        outputs: names, in the order of its answers.
    """
    import warnings

    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer is what keeps HardSwish whole; torch announces its retirement
        torch.onnx.export(
            network,
            (image,),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=["input"],
            output_names=list(outputs),
            dynamic_axes={name: {0: "N"} for name in ("input", *outputs)},
        )
