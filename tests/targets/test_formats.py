"""Formats: what each compiler's file expects and answers, and that nothing is told by a suffix."""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from seams import settings_of

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.forms.compiler import Compiler, compiler_names, load_compiler
from edgec.pipeline.forms.format import Format
from edgec.pipeline.forms.spec import load_target, names


def members(protocol: type) -> dict[str, object]:
    return {name: member for name, member in vars(protocol).items() if not name.startswith("_")}


@pytest.mark.parametrize("name", compiler_names())
def test_every_function_of_the_seam_takes_what_it_is_given(name: str) -> None:
    """Names and order of the parameters; what they are is for the type checker (``targets/seams.py``)."""
    compiler = load_compiler(name)
    for protocol, found in ((Compiler, compiler), (Format, compiler.FORMAT)):
        for member, wanted in members(protocol).items():
            if inspect.isfunction(wanted):
                expected = [parameter for parameter in inspect.signature(wanted).parameters if parameter != "self"]
                assert list(inspect.signature(getattr(found, member)).parameters) == expected, (name, member)
    settings = settings_of(next(board for board in map(load_target, names()) if board.compiler == name))
    assert compiler.FORMAT.runtime(settings).versions.startswith(">=")
    assert isinstance(compiler.TOOLCHAIN, tuple)


class Nowhere:
    """A device that fails the test once it is asked."""

    name = "ssh://nowhere"

    def run(self, script: Path, arguments: Sequence[str], timeout_s: float, progress: object = None) -> dict[str, Any]:
        raise LookupError(script.name)

    def push(self, path: Path, progress: object = None) -> str:
        raise LookupError(path.name)

    def pull(self, there: str, path: Path) -> None:
        raise LookupError(there)


@pytest.mark.parametrize("name", compiler_names())
def test_what_a_device_runs_is_the_formats_script(name: str) -> None:
    """``describe`` starts it; where artifacts stay here there is none."""
    script = load_compiler(name).FORMAT.device_script
    if script is None:
        with pytest.raises(EdgecError) as caught:
            load_compiler(name).describe(Nowhere())
        assert caught.value.code == "cannot-run-there"
        return
    with pytest.raises(LookupError, match=script.name):
        load_compiler(name).describe(Nowhere())
    assert "import edgec" not in script.read_text()
    assert "from edgec" not in script.read_text()


@pytest.mark.parametrize("name", [name for name in compiler_names() if name != "tensorrt"])
def test_formats_of_one_network_leave_no_choice_to_the_device(name: str, tmp_path: Path) -> None:
    with pytest.raises(EdgecError) as caught:
        load_compiler(name).FORMAT.with_candidates("int8", {}, tmp_path / "out")
    assert caught.value.code == "precision-undecided"


def test_formats_have_names_of_their_own() -> None:
    found = [load_compiler(name).FORMAT for name in compiler_names()]
    assert len({format_.name for format_ in found}) == len(found)


@pytest.mark.parametrize("board", names())
def test_further_kernel_sets_have_no_name_of_a_form(board: str) -> None:
    format_, settings = load_compiler(load_target(board).compiler).FORMAT, settings_of(board)
    for kernels in format_.kernel_sets(settings):
        assert kernels not in ("float", "reference", "target", "device")
        assert isinstance(format_.board_runs(kernels, settings), bool)


def test_no_microcontroller_has_xnnpack() -> None:
    pytest.importorskip("ai_edge_litert")
    format_ = load_compiler("tflite").FORMAT
    assert format_.board_runs("xnnpack", settings_of("arm"))
    assert not format_.board_runs("xnnpack", settings_of("mcu"))


def test_an_engine_is_described_by_what_it_is_built_from(mcu_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "model.engine").write_bytes(b"opaque")
    shutil.copy(mcu_bundle / "reference" / "qdq.onnx", tmp_path / "model.onnx")
    contract = load_compiler("tensorrt").FORMAT.contract(tmp_path)
    assert (contract.inputs[0].dtype, contract.inputs[0].layout) == ("float32", "NCHW")


@pytest.mark.parametrize("name", compiler_names())
@pytest.mark.parametrize("content", [b"<net><layers><layer", b"", b"\x00" * 64, b"TFL3TFL3"])
def test_damaged_artifacts_are_named(name: str, content: bytes, tmp_path: Path) -> None:
    format_ = load_compiler(name).FORMAT
    if format_.artifact == "model.tflite" or format_.artifact == "model.onnx":
        artifact = tmp_path / format_.artifact
        artifact.write_bytes(content)
    else:
        artifact = tmp_path / format_.artifact
        artifact.mkdir()
        for file in ("model.xml", "model.onnx", "model.tflite"):
            (artifact / file).write_bytes(content)
    if not content and name in ("onnxruntime", "tensorrt"):
        assert format_.contract(artifact).inputs == ()  # nothing is an empty protobuf message, and verify refuses that
        return
    with pytest.raises(EdgecError) as caught:
        format_.contract(artifact)
    assert caught.value.code in ("corrupt-artifact-file", "corrupt-tflite")


def test_an_unknown_compiler_is_refused() -> None:
    with pytest.raises(EdgecError) as caught:
        load_compiler("tensort")
    assert (caught.value.code, "tensorrt" in caught.value.hint) == ("unknown-compiler", True)
