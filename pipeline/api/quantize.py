"""``edgec.quantize``: a quantized ONNX file from a float network."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgec.pipeline.api.calls import bad_argument, call, checked
from edgec.pipeline.api.images import Data, as_folder
from edgec.pipeline.api.networks import Described, Model, as_file
from edgec.pipeline.cli.quantize import command
from edgec.pipeline.core.progress import Listener
from edgec.pipeline.core.store import Store, default_root
from edgec.pipeline.forms.scheme import Level
from edgec.pipeline.quantize_network import QuantizedFile, quantize_network, scheme_recipe
from edgec.pipeline.recipe import DataFolders


def quantize(
    model: Model,
    scheme: str | os.PathLike[str],
    *,
    data: Data | None = None,
    images: Data | None = None,
    output: str | os.PathLike[str] | None = None,
    calibration_samples: int = 256,
    quantizer: Level | None = None,
    max_drop_pp: float | None = None,
    vnni_off: bool = False,
    input_px: int | None = None,
    name: str | None = None,
    preprocess: Mapping[str, Any] | None = None,
    labels: Sequence[str] | None = None,
    progress: Listener | None = None,
) -> QuantizedFile:
    """Write the network as explicit-QDQ ONNX: ``edgec quantize``, whose options these are.

    Args:
        model: as ``build`` takes it.
        data: a folder, or images in memory; a part calibrates, the others judge.
        images: another name for ``data``: one of the two is given.
        output: the file; ``./edgec-out/NAME-SCHEME.onnx`` by default.
        input_px: side of the picture on which a ``torch.nn.Module`` is traced.
        name, preprocess, labels: as ``build`` takes them.
        progress: called with (step, done, total).

    Returns:
        Where it was written (``output``) and what it is worth beside the float network.

    Raises:
        EdgecError: ``bad-argument``, ``bad-images``, ``module-does-not-export``; what ``scheme_recipe`` and
            ``quantize_network`` raise.
    """
    if (data is None) == (images is None):
        raise bad_argument("quantize needs images", "give either data or images")
    options = {"calibration_samples": calibration_samples, "quantizer": quantizer, "max_drop_pp": max_drop_pp}
    given = checked(command, {"scheme": scheme, "output": output, "vnni_off": vnni_off, **options})
    with (
        call(progress),
        as_file(model, Described(name, preprocess, labels), input_px) as source,
        as_folder(images if data is None else data) as folder,
    ):
        if source.input_px is not None:
            raise bad_argument("input_px is for a torch.nn.Module", "leave it away")
        samples, level, most = (given[option] for option in options)
        recipe = source.recipe(scheme_recipe(source.model, given["scheme"], DataFolders(folder), samples, level, most))
        written = given["output"] or Path("edgec-out") / f"{recipe.name}-{Path(given['scheme']).stem}.onnx"
        return quantize_network(recipe, written, Store(default_root()), given["vnni_off"])
