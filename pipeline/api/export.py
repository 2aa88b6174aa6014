"""``edgec.export``: the float network as ONNX."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from edgec.pipeline.api.calls import call, checked
from edgec.pipeline.api.networks import Described, Model, as_file
from edgec.pipeline.cli.export import command
from edgec.pipeline.core.progress import Listener
from edgec.pipeline.core.root import default_root
from edgec.pipeline.core.store import Store
from edgec.pipeline.export_network import Exported, export_network, usual_file
from edgec.pipeline.network.models.spec import Padding
from edgec.pipeline.recipe import network_recipe


def export(
    model: Model,
    *,
    output: str | os.PathLike[str] | None = None,
    weights: str | os.PathLike[str] | None = None,
    width_multiplier: float | None = None,
    input_px: int | None = None,
    num_classes: int | None = None,
    output_stride: Literal[8, 16] | None = None,
    argmax: bool | None = None,
    padding: Padding | None = None,
    name: str | None = None,
    preprocess: Mapping[str, Any] | None = None,
    labels: Sequence[str] | None = None,
    progress: Listener | None = None,
) -> Exported:
    """Write the float network as ONNX, simplified and proven equal: ``edgec export``, whose options these are.

    Args:
        model: as ``build`` takes it.
        output: the file; ``./edgec-out/NAME.onnx`` by default. A ``model.toml`` lies beside it.
        name, preprocess, labels: as ``build`` takes them.
        progress: called with (step, done, total).

    Raises:
        EdgecError: ``bad-argument``, ``module-does-not-export``; what ``network_recipe`` and ``export_network`` raise.
    """
    given = checked(command, locals())
    with call(progress), as_file(model, Described(name, preprocess, labels), given["input_px"]) as source:
        recipe = source.recipe(network_recipe(source.model, source.choices(given)))
        return export_network(recipe, given["output"] or usual_file(recipe), Store(default_root()))
