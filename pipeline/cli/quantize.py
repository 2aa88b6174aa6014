"""``edgec quantize``: a quantized ONNX file from a float one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgec.pipeline.cli._options import (
    NAME_OR_FILE,
    choices_of,
    data_options,
    json_option,
    network_options,
    quantizer_options,
)

if TYPE_CHECKING:
    from edgec.pipeline.forms.scheme import Level


@click.command()
@network_options
@click.option(
    "--scheme",
    required=True,
    type=NAME_OR_FILE,
    help="Integer semantics: openvino, tflite, tflite-native or tensorrt.",
)
@data_options
@quantizer_options
@click.option("--output", type=click.Path(path_type=Path), help="File; ./edgec-out/MODEL-SCHEME.onnx by default.")
@click.option("--vnni-off", is_flag=True, help="Emulate x86 without VNNI too: sums of two u8*s8 saturate at 16 bits.")
@json_option
def command(
    model: str,
    scheme: str,
    data: Path | None,
    calibration_data: Path | None,
    test_data: Path | None,
    calibration_samples: int,
    task: str | None,
    quantizer: Level | None,
    learn_minutes: float | None,
    output: Path | None,
    max_drop_pp: float | None,
    vnni_off: bool,
    as_json: bool,
    **choices: Any,
) -> None:
    """Quantize MODEL (a name, a float ONNX file, or a model.toml: ONNX and its preprocessing) to QDQ ONNX."""
    import json
    from dataclasses import asdict

    from edgec.pipeline.cli._progress import progress_bar
    from edgec.pipeline.cli._tables import print_quantized
    from edgec.pipeline.core.root import default_root
    from edgec.pipeline.core.store import Store
    from edgec.pipeline.quantize_network import quantize_network, scheme_recipe, usual_file
    from edgec.pipeline.recipe import DataFolders

    with progress_bar():
        folders, chosen = DataFolders(data, calibration_data, test_data), choices_of(**choices)
        recipe = scheme_recipe(
            model,
            scheme,
            folders,
            calibration_samples,
            quantizer,
            max_drop_pp,
            choices=chosen,
            task=task,
            learn_minutes=learn_minutes,
        )
        quantized = quantize_network(recipe, output or usual_file(recipe, scheme), Store(default_root()), vnni_off)
    if as_json:
        click.echo(json.dumps(asdict(quantized), indent=2))
    else:
        print_quantized(quantized)
