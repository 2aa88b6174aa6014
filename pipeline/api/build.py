"""``edgec.build``: the whole job, for one board."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Literal

from edgec.pipeline.api.bundle import Bundle, open_bundle
from edgec.pipeline.api.calls import bad_argument, call, checked
from edgec.pipeline.api.images import Data, folder_or_none
from edgec.pipeline.api.networks import Described, Model, as_file
from edgec.pipeline.bundle.extras import Extra
from edgec.pipeline.bundle.folder import check_replaceable
from edgec.pipeline.cli.build import command
from edgec.pipeline.core.progress import Listener
from edgec.pipeline.deliver import Judging, deliver, usual_folder
from edgec.pipeline.forms.scheme import Level
from edgec.pipeline.network.models.spec import Padding
from edgec.pipeline.recipe import DataFolders, make_recipe


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
    learn_minutes: float | None = None,
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
    given = checked(command, locals())
    if not isinstance(target, str | os.PathLike):
        raise bad_argument(f"target is {target!r}, expected one board", "several boards are several calls")
    judging = Judging(
        threads=given["threads"] or os.cpu_count() or 1,
        on=given["on"],
        timed=not given["no_measure"],
        ranked=given["sensitivity"],
        halved=given["stability"],
        weigh_precisions=given["precision"] == "auto",
        extras=tuple(dict.fromkeys(given["extras"])),
    )
    with call(progress), ExitStack() as held:
        source = held.enter_context(as_file(model, Described(name, preprocess, labels), given["input_px"]))
        sets = (held.enter_context(folder_or_none(images)) for images in (data, calibration_data, test_data))
        made = make_recipe(
            source.model,
            os.fspath(target),
            DataFolders(*sets),
            source.choices(given),
            given["calibration_samples"],
            given["quantizer"],
            given["precision"],
            given["max_drop_pp"],
            given["task"],
            given["learn_minutes"],
        )
        recipe = source.recipe(made)
        folder = (given["output"] or usual_folder(recipe)).absolute()
        check_replaceable(folder)
        deliver(recipe, folder, judging, given["model_version"])
    return open_bundle(folder)
