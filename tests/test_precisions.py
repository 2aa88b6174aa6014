"""``--precision`` on every board: what is offered works, what is not is refused by name, and ``auto`` says why."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from tiny import LOPSIDED_MCU, lopsided_network

from edgec.pipeline.cli import main
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.forms.measure import Latency
from edgec.pipeline.forms.spec import Precision, load_target, names, with_precision
from edgec.pipeline.network.graph import Graph
from edgec.pipeline.precision import Outcome, rows_of, weigh
from edgec.pipeline.quantize import prefix
from edgec.pipeline.tasks.accuracy import Accuracy

EVERY: tuple[Precision, ...] = ("int8", "fp16", "mixed")
IN_INTEGERS = {"mcu", "stm32h7", "cortex-m7", "cortex-m55"}


def built(capsys: pytest.CaptureFixture[str], network: Path, images: Path, output: Path, *options: str) -> dict:
    arguments = ["build", str(network), "--data", str(images), "--output", str(output), "--json", *options]
    status = main(arguments)
    said = capsys.readouterr()
    assert status == 0, said.err
    return json.loads(said.out)


def outcome(top1: float, p50_ms: float | None = None, instructions: int | None = None) -> Outcome:
    accuracy = Accuracy("classification", "top1", 80.0, 80.0, top1, 80.0 - top1, 95.0, 20.0, 100)
    latency = Latency("measured" if p50_ms else "not-measured", p50_ms=p50_ms)
    return Outcome(accuracy, latency, instructions, 1000)


@pytest.mark.parametrize("board", names())
@pytest.mark.parametrize("precision", EVERY)
def test_every_board_gives_or_refuses_each(board: str, precision: Precision) -> None:
    target = load_target(board)
    if precision in target.precisions:
        assert with_precision(target, precision).precision == precision
        return
    with pytest.raises(EdgecError, match=f"'{board}' takes the precision {', '.join(target.precisions)}") as refusal:
        with_precision(target, precision)
    assert refusal.value.code == "unsupported-precision"


def test_boards_in_integers_offer_no_float() -> None:
    assert {name for name in names() if load_target(name).precisions == ("int8", "mixed")} == IN_INTEGERS
    for name in IN_INTEGERS:
        assert with_precision(load_target(name), "mixed").scheme.first_layers == "tflite-16x8"


@pytest.mark.parametrize("board", ["arm", "armv7", "cpu", "rpi5"])
def test_fp16_is_the_float_network_in_half_the_bytes(
    board: str, tiny_onnx: Path, tiny_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = built(
        capsys, tiny_onnx, tiny_images, tmp_path / "out", "--target", board, "--precision", "fp16", "--no-measure"
    )
    assert found["precision"] == "fp16"
    if found["accuracy"]["target"] is not None:  # armv7's runtime answers there alone
        assert found["accuracy"]["agreement"] == 100
        assert found["accuracy"]["sqnr_db"] > 40
    reference = onnx.load(tmp_path / "out" / "reference" / "qdq.onnx")
    assert "QuantizeLinear" not in {node.op_type for node in reference.graph.node}
    assert ("float16, this machine in float32" in " ".join(found["notes"])) == (board == "rpi5")
    assert main(["verify", str(tmp_path / "out")]) == 0


def test_mixed_for_openvino_quantizes_no_input(
    crowded_onnx: Path,
    tiny_images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only a board that takes integers has them in front of float layers. With all 8 bits of weights: else they make
    the noise of this network, and first layers in float gain nothing."""
    monkeypatch.setattr(prefix, "MOST_MACS", 0.99)
    board = tmp_path / "cpu-vnni.toml"
    board.write_text(
        'description = "with VNNI"\ncompiler = "openvino"\nprecisions = ["int8", "mixed"]\n'
        '[scheme]\nname = "openvino-vnni"\nextends = "openvino"\nsafe_pairs = false\n'
        '[device]\nis_this_machine = true\ndescription = "this one"\n[options]\ninference_precision = "f32"\n'
    )
    mixed = ("--target", str(board), "--precision", "mixed", "--no-measure")
    found = built(capsys, crowded_onnx, tiny_images, tmp_path / "out", *mixed)
    graph = Graph.read(onnx.load(tmp_path / "out" / "reference" / "qdq.onnx"))
    assert "QuantizeLinear" not in {node.op for node in graph.consumers[graph.inputs[0]]}
    assert "QuantizeLinear" in {node.op for node in graph.nodes}
    assert found["float_layers"]


def test_auto_on_this_machine_shows_what_it_chose_from(
    tiny_onnx: Path, tiny_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / "out"
    found = built(capsys, tiny_onnx, tiny_images, bundle, "--target", "cpu", "--precision", "auto")
    weighed = {row["precision"]: row for row in found["weighed"]}
    assert {"int8", "fp16"} <= weighed.keys() <= set(EVERY)
    assert found["precision"] in weighed
    assert all(row["p50_ms"] > 0 and row["size_bytes"] > 0 for row in weighed.values())
    assert found["precision_verdict"].startswith(f"ship {found['precision'].upper()}: ")
    assert json.loads((bundle / "manifest.json").read_text())["weighed"] == found["weighed"]
    page = (bundle / "report.html").read_text()
    assert "Every precision that was built" in page
    assert main(["verify", str(bundle)]) == 0


def test_auto_without_the_board_is_refused_before_anything_is_built(
    tiny_onnx: Path, tiny_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["build", str(tiny_onnx), "--target", "rpi4", "--precision", "auto", "--data", str(tiny_images)]
    assert main([*arguments, "--output", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert "precision-undecided" in said
    assert "--on" in said
    assert not (tmp_path / "out").exists()


def test_instructions_stand_for_time_on_an_emulated_core() -> None:
    found = {
        "int8": outcome(79.8, instructions=16_000_000),
        "fp16": outcome(80.0, instructions=27_000_000),
        "mixed": outcome(80.0, instructions=20_000_000),
    }
    verdict = weigh(found)
    assert verdict.precision == "int8"
    assert verdict.text == (
        "ship INT8: INT8 gains 1.69x for 0.2 pp, MIXED gains 1.35x for 0.0 pp, "
        "counted in instructions of an emulated core"
    )
    assert weigh({**found, "int8": outcome(78.0, instructions=16_000_000)}).precision == "mixed"
    first = rows_of(found)[0]
    assert (first.precision, first.headline, first.instructions) == ("int8", 79.8, 16_000_000)


def test_the_arena_stands_for_time_on_a_microcontroller() -> None:
    found = {"int8": in_arena(79.8, 580_000), "mixed": in_arena(80.0, 1_200_000)}
    verdict = weigh(found)
    assert verdict.precision == "int8"
    assert verdict.text == (
        "ship INT8: INT8 takes 580.000 KB of arena and loses 0.2 pp, MIXED takes 1200.000 KB of arena and loses 0.0 pp"
    )
    assert weigh({**found, "int8": in_arena(78.0, 580_000)}).precision == "mixed"
    assert [row.arena_bytes for row in rows_of(found)] == [580_000, 1_200_000]


def in_arena(top1: float, arena_bytes: int) -> Outcome:
    return replace(outcome(top1), arena_bytes=arena_bytes)


def test_auto_weighs_by_the_arena_of_a_microcontroller(
    tiny_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefix, "MOST_MACS", 0.99)
    network, board = tmp_path / "net.onnx", tmp_path / "board.toml"
    onnx.save(lopsided_network(), network)
    board.write_text(LOPSIDED_MCU)
    found = built(capsys, network, tiny_images, tmp_path / "out", "--target", str(board), "--precision", "auto")
    rows = {row["precision"]: row for row in found["weighed"]}
    assert rows.keys() == {"int8", "mixed"}
    assert rows["int8"]["arena_bytes"] < rows["mixed"]["arena_bytes"]
    assert rows["mixed"]["sqnr_db"] > rows["int8"]["sqnr_db"]
    assert found["precision_verdict"].startswith(f"ship {found['precision'].upper()}: ")
    assert "Arena</th>" in (tmp_path / "out" / "report.html").read_text()


def test_times_are_not_weighed_against_instructions() -> None:
    with pytest.raises(EdgecError) as refusal:
        weigh({"int8": outcome(80.0, p50_ms=1.0), "fp16": outcome(80.0, instructions=1)})
    assert refusal.value.code == "precision-undecided"


def test_time_counts_where_both_are_known() -> None:
    found = {"int8": outcome(80.0, 2.0, 10), "fp16": outcome(80.0, 1.0, 100)}
    assert weigh(found).precision == "fp16"
