"""The Python API takes what the command line takes, and importing it loads nothing."""

from __future__ import annotations

import errno
import inspect
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest

import edgec
from edgec.pipeline.api.calls import call, checked
from edgec.pipeline.cli import build, check, export, quantize
from edgec.pipeline.core.errors import EdgecError

COMMANDS: dict[Callable[..., Any], tuple[click.Command, list[str]]] = {
    edgec.build: (build.command, ["model", "--target", "cpu"]),
    edgec.check: (check.command, ["bundle"]),
    edgec.export: (export.command, ["model"]),
    edgec.quantize: (quantize.command, ["model", "--scheme", "tflite", "--data", "photos"]),
}
"""Each function's command, and the least that it takes."""

OTHERWISE = {"as_json", "formats"}
"""Options that say how a command prints: a function gives an object back."""

CALLED = {"targets": "target", "baselines": "baseline"}
"""Options that a command takes several times, and what their one argument is called."""

REQUIRED = {"model", "target", "scheme", "bundles", "data"}

MEMORY = {"name", "preprocess", "labels", "progress", "images"}
"""Arguments that no command has: for networks and images from memory."""


@pytest.mark.parametrize("function", COMMANDS, ids=lambda function: function.__name__)
def test_every_option_is_an_argument_of_the_same_name_and_default(function: Callable[..., Any]) -> None:
    """A new option of a command fails here until the function has it, or ``OTHERWISE`` says why not."""
    command, least = COMMANDS[function]
    given = command.make_context("edgec", list(least)).params
    defaults = {CALLED.get(name, name): value for name, value in given.items() if name not in OTHERWISE}
    arguments = inspect.signature(function).parameters
    assert arguments.keys() - MEMORY == defaults.keys()
    for name, default in defaults.items():
        if name in REQUIRED or name == "threads":
            continue
        expected = str(default) if isinstance(default, Path) else default
        assert arguments[name].default == (None if name == "baseline" else expected), name


def test_threads_are_all_cores_in_both() -> None:
    option = next(option for option in build.command.params if option.name == "threads")
    assert isinstance(option, click.Option)
    assert option.show_default == "all cores"
    assert inspect.signature(edgec.build).parameters["threads"].default is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"calibration_samples": 0},
        {"calibration_samples": 2.5},
        {"calibration_samples": "many"},
        {"calibration_samples": [1]},
        {"quantizer": "fastest"},
        {"precision": "int7"},
        {"output_stride": 12},
        {"width_multiplier": -1.0},
        {"input_px": 8},
        {"max_drop_pp": -0.1},
        {"threads": 0},
        {"no_measure": "perhaps"},
        {"output": 42},
        {"extras": ("everything",)},
        {"target": ["cpu", "arm"]},
        {"weights": ["parts", "random"]},
    ],
    ids=str,
)
def test_a_wrong_value_is_refused_as_the_command_would(wrong: dict[str, Any]) -> None:
    with pytest.raises(EdgecError) as refusal:
        edgec.build("mobilenetv2", **{"target": "cpu"} | wrong)
    assert refusal.value.code == "bad-argument"
    (name,) = wrong
    assert name in refusal.value.message


def test_right_values_arrive_as_they_are() -> None:
    given = {"output_stride": 16, "calibration_samples": np.int64(3), "max_drop_pp": 1, "output": "x", "argmax": None}
    found = checked(build.command, given)
    assert found == {
        "output_stride": "16",
        "calibration_samples": 3,
        "max_drop_pp": 1,
        "output": Path("x"),
        "argmax": None,
    }


def test_names_and_files_may_be_paths() -> None:
    given = {"weights": Path("own/w.pth"), "task": "tensors"}
    assert checked(build.command, given) == {"weights": "own/w.pth", "task": "tensors"}
    assert checked(quantize.command, {"scheme": Path("my.toml")}) == {"scheme": "my.toml"}


def test_importing_loads_nothing() -> None:
    """Counted, since a clock would say what else the machine does: the package itself and no module more."""
    program = "import sys; before = {*sys.modules}; import edgec; print(*sorted({*sys.modules} - before))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["edgec"]


def test_every_public_name_is_there_and_no_other() -> None:
    assert {"build", "check", "export", "open_bundle", "quantize", "Bundle", "EdgecError"} <= {*edgec.__all__}
    for name in edgec.__all__:
        assert getattr(edgec, name).__doc__
    assert {*edgec.__all__, "__version__"} <= {*dir(edgec)}
    assert edgec.__version__.count(".") == 2
    assert edgec.EdgecError is EdgecError
    with pytest.raises(AttributeError, match="biuld"):
        edgec.biuld  # type: ignore[attr-defined]  # noqa: B018


def test_what_the_file_system_refuses_is_an_edgec_error() -> None:
    with pytest.raises(EdgecError) as refusal, call():
        raise OSError(errno.ENOSPC, "No space left on device", "/there")
    assert refusal.value.code == "disk-full"
    with pytest.raises(ConnectionError), call():
        raise ConnectionError("a caller's own")


def test_an_unknown_name_is_refused_with_its_code() -> None:
    with pytest.raises(edgec.EdgecError) as refusal:
        edgec.build("mobilnetv3", "cpu")
    assert refusal.value.code == "unknown-model"
    assert "mobilenetv3" in refusal.value.hint
    with pytest.raises(edgec.EdgecError) as refusal:
        edgec.quantize("my.onnx", "tflite", data="photos", images="photos")
    assert refusal.value.code == "bad-argument"
