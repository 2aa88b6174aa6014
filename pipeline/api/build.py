"""``edgec.build``: the whole job, for one board."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

from edgec.pipeline.api.bundle import Bundle, open_bundle
from edgec.pipeline.api.calls import call, checked
from edgec.pipeline.api.images import Data, folder_or_none
from edgec.pipeline.api.networks import Described, Model, as_file
from edgec.pipeline.bundle.extras import Extra
from edgec.pipeline.bundle.folder import check_replaceable
from edgec.pipeline.cli._options import recipe_of
from edgec.pipeline.cli.build import command
from edgec.pipeline.core.progress import Listener
from edgec.pipeline.deliver import Judging, deliver
from edgec.pipeline.forms.scheme import Level
from edgec.pipeline.network.models.spec import Padding


def build(
    model: Model,
    target: str | os.PathLike[str],
    *,
    output: str | os.PathLike[str] | None = None,
    data: Data | None = None,
    calibration_data: Data | None = None,
    test_data: Data | None = None,
    calibration_samples: int = 256,
    weights: str | os.PathLike[str] | None = None,
    task: str | None = None,
    quantizer: Level | None = None,
    max_drop_pp: float | None = None,
    precision: Literal["int8", "fp16", "mixed", "auto"] | None = None,
    width_multiplier: float | None = None,
    input_px: int | None = None,
    num_classes: int | None = None,
    output_stride: Literal[8, 16] | None = None,
    argmax: bool | None = None,
    padding: Padding | None = None,
    model_version: str = "1.0.0",
    no_measure: bool = False,
    sensitivity: bool = False,
    stability: bool = False,
    extras: Sequence[Extra] = (),
    threads: int | None = None,
    on: str | None = None,
    name: str | None = None,
    preprocess: Mapping[str, Any] | None = None,
    labels: Sequence[str] | None = None,
    progress: Listener | None = None,
) -> Bundle:
    """Compile a network for a board and hand it over as a bundle: ``edgec build``, whose options these are.

    Args:
        model: a name (``edgec models``), an ONNX file or a ``model.toml``, an ``onnx.ModelProto``, or a
            ``torch.nn.Module``, which is traced on a picture of ``input_px`` or of the sides that ``preprocess`` tells.
        target: one board, by name or as a TOML file; for several call it again, what is the same is made once.
        output: folder of the bundle; ``./edgec-out/NAME-TARGET`` by default.
        data: a folder, or images in memory (see ``Images``); one half calibrates, the other one tests.
        extras: what ``--with`` names: ``c`` sources, the ``float`` network, golden ``vectors`` as files.
        threads: of the measured runtime; all cores by default.
        name: of a network from memory, or of an ONNX file; its class, its graph or its file's name by default.
        preprocess: the table ``[preprocess]`` of a ``model.toml``, for an ONNX file or a network from memory.
        labels: class names by index, for the same.
        progress: called with (step, done, total) as long steps go on.

    Raises:
        EdgecError: ``bad-argument``, ``bad-images``, ``module-does-not-export``; what ``make_recipe`` and ``deliver``
            raise. Nothing is left at ``output``.
    """
    given = checked(
        command,
        {
            "output": output,
            "calibration_samples": calibration_samples,
            "weights": weights,
            "task": task,
            "quantizer": quantizer,
            "max_drop_pp": max_drop_pp,
            "precision": precision,
            "width_multiplier": width_multiplier,
            "input_px": input_px,
            "num_classes": num_classes,
            "output_stride": output_stride,
            "argmax": argmax,
            "padding": padding,
            "model_version": model_version,
            "no_measure": no_measure,
            "sensitivity": sensitivity,
            "stability": stability,
            "threads": threads,
            "on": on,
        },
    )
    brought = tuple(dict.fromkeys(checked(command, {"extras": extra})["extras"] for extra in extras))
    judging = Judging(
        threads=given.pop("threads") or os.cpu_count() or 1,
        on=given.pop("on"),
        timed=not given.pop("no_measure"),
        ranked=given.pop("sensitivity"),
        halved=given.pop("stability"),
        weigh_precisions=precision == "auto",
        extras=brought,
    )
    place, version = given.pop("output"), given.pop("model_version")
    with call(progress), ExitStack() as held:
        source = held.enter_context(as_file(model, Described(name, preprocess, labels), given.pop("input_px")))
        whole, calibration, test = (
            held.enter_context(folder_or_none(images)) for images in (data, calibration_data, test_data)
        )
        recipe = source.recipe(
            recipe_of(
                model=source.model,
                target=os.fspath(target),
                data=whole,
                calibration_data=calibration,
                test_data=test,
                input_px=source.input_px,
                **given,
            )
        )
        folder = (place or Path("edgec-out") / f"{recipe.name}-{recipe.target.name}").absolute()
        check_replaceable(folder)
        deliver(recipe, folder, judging, version)
    return open_bundle(folder)
