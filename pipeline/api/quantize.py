"""``edgec.quantize``: a quantized ONNX file from a float network."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Literal

from edgec.pipeline.api.calls import bad_argument, call, checked
from edgec.pipeline.api.images import Data, folder_or_none
from edgec.pipeline.api.networks import Described, Model, as_file
from edgec.pipeline.cli.quantize import command
from edgec.pipeline.core.progress import Listener
from edgec.pipeline.core.root import default_root
from edgec.pipeline.core.store import Store
from edgec.pipeline.forms.scheme import Level
from edgec.pipeline.network.models.spec import Padding
from edgec.pipeline.quantize_network import QuantizedFile, quantize_network, scheme_recipe, usual_file
from edgec.pipeline.recipe import DataFolders


def quantize(
    model: Model,
    scheme: str | os.PathLike[str],
    *,
    data: Data | None = None,
    images: Data | None = None,
    calibration_data: Data | None = None,
    test_data: Data | None = None,
    calibration_samples: int = 256,
    output: str | os.PathLike[str] | None = None,
    weights: str | os.PathLike[str] | None = None,
    task: str | None = None,
    quantizer: Level | None = None,
    learn_minutes: float | None = None,
    max_drop_pp: float | None = None,
    vnni_off: bool = False,
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
) -> QuantizedFile:
    """Write the network as explicit-QDQ ONNX: ``edgec quantize``, whose options these are.

    Args:
        model: as ``build`` takes it.
        data: a folder, or images in memory; a part calibrates, the others judge.
        images: another name for ``data``: at most one of the two is given.
        output: the file; ``./edgec-out/NAME-SCHEME.onnx`` by default.
        name, preprocess, labels, progress: as ``build`` takes them.

    Returns:
        Where it was written (``output``) and what it is worth beside the float network.

    Raises:
        EdgecError: ``bad-argument``, ``bad-images``, ``module-does-not-export``; what ``scheme_recipe`` and
            ``quantize_network`` raise.
    """
    given = checked(command, locals())
    if data is not None and images is not None:
        raise bad_argument("data and images are two names for one thing", "give one of them")
    with call(progress), ExitStack() as held:
        source = held.enter_context(as_file(model, Described(name, preprocess, labels), given["input_px"]))
        sets = (images if data is None else data, calibration_data, test_data)
        folders = DataFolders(*(held.enter_context(folder_or_none(one)) for one in sets))
        made = scheme_recipe(
            source.model,
            given["scheme"],
            folders,
            given["calibration_samples"],
            given["quantizer"],
            given["max_drop_pp"],
            choices=source.choices(given),
            task=given["task"],
            learn_minutes=given["learn_minutes"],
        )
        written = given["output"] or usual_file(made, given["scheme"])
        return quantize_network(source.recipe(made), written, Store(default_root()), given["vnni_off"])
