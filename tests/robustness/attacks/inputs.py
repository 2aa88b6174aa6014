"""What a user is given and builds from: networks, weights, TOML files, pictures, folders of them."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import numpy as np
import onnx
from PIL import Image

from attacks.mutate import TEXTS, damaged, other_value
from attacks.trial import Trial, survived

BOARDS = ("mcu", "mcu", "cpu", "arm", "onnxruntime", "jetson")
FOUND = 0.8
"""Share of tries whose store has what the good inputs make."""

INTEGERS = (0, -1, 1, 2**31 - 1, 2**40, -(2**63))


def onnx_file(trial: Trial) -> str:
    """Bytes of the file, or one field of the graph."""
    path, rng = trial.folder / "model.onnx", trial.rng
    content = (trial.material / "tiny.onnx").read_bytes()
    path.write_bytes(damaged(content, rng) if rng.random() < 0.5 else _other_graph(content, trial))
    return survived(trial.run("inspect", path)) or _built(trial, path, rng.choice(BOARDS))


def _other_graph(content: bytes, trial: Trial) -> bytes:
    rng, model = trial.rng, onnx.load_from_string(content)
    node, weight = rng.choice(model.graph.node), rng.choice(model.graph.initializer)
    match rng.randrange(9):
        case 0:
            node.op_type = rng.choice(("Resize", "ConstantOfShape", "Loop", "If", "NoSuch", "Einsum", "Transpose", ""))
        case 1:
            node.input[0] = rng.choice(("", "logits", "nowhere", "w1"))
        case 2 if node.attribute:
            attribute = rng.choice(node.attribute)
            attribute.ints[:] = [rng.choice(INTEGERS) for _ in range(rng.randrange(6))]
            attribute.i = rng.choice(INTEGERS)
        case 3:
            weight.dims[:] = rng.choice(([1] * 70, [], [0], [2**40], [-1, 3], list(weight.dims)[::-1]))
        case 4:
            weight.raw_data = damaged(weight.raw_data, rng)
        case 5:
            weight.data_location, entry = 1, weight.external_data.add()
            entry.key, entry.value = "location", rng.choice(("../../etc/passwd", "/dev/zero", "/etc/hosts", ""))
        case 6:
            for other in model.graph.node:
                other.name = node.name
        case 7:
            _call_functions(model, rng.choice((1, 5, 40, 200)), rng.choice((1, 2, 3)))
        case _:
            value = rng.choice([*model.graph.input, *model.graph.output]).type.tensor_type
            value.elem_type = rng.randrange(20)
            value.shape.dim[rng.randrange(len(value.shape.dim))].dim_value = rng.choice(INTEGERS)
    return model.SerializeToString()


def _call_functions(model: onnx.ModelProto, depth: int, times: int) -> None:
    """The second node becomes a function that calls the next one so many times, and so on down to a Relu."""
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("own", 1)]
    for level in range(depth):
        kind, domain = (f"f{level + 1}", "own") if level + 1 < depth else ("Relu", "")
        nodes = [onnx.helper.make_node(kind, [f"t{i}"], [f"t{i + 1}"], domain=domain) for i in range(times)]
        function = onnx.helper.make_function("own", f"f{level}", ["t0"], [f"t{times}"], nodes, opsets)
        model.functions.append(function)
    model.graph.node[1].op_type, model.graph.node[1].domain = "f0", "own"
    model.opset_import.append(onnx.helper.make_opsetid("own", 1))


def weights_file(trial: Trial) -> str:
    """Bytes of a checkpoint, or its header."""
    rng = trial.rng
    name = rng.choice(("weights.safetensors", "weights.pth"))
    content, path = (trial.material / name).read_bytes(), trial.folder / name
    if name.endswith("safetensors") and rng.random() < 0.6:
        (size,) = struct.unpack("<Q", content[:8])
        header = json.loads(content[8 : 8 + size])
        entry = header[rng.choice(sorted(header.keys() - {"__metadata__"}))]
        field = rng.choice(sorted(entry))
        entry[field] = other_value(entry[field], rng)
        text = json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + size :])
    else:
        path.write_bytes(damaged(content, rng))
    data = trial.material / "data"
    arguments = (
        "--target",
        "mcu",
        "--weights",
        path,
        "--data",
        data,
        "--output",
        trial.folder / "out",
        "--input-px",
        32,
    )
    return survived(trial.run("build", "mobilenetv1", *arguments, "--no-measure"))


def toml_file(trial: Trial) -> str:
    """A model's file or a board's: its bytes, or one line."""
    rng = trial.rng
    name = rng.choice(("model.toml", "board.toml"))
    lines = (trial.material / name).read_text().splitlines()
    at = rng.randrange(len(lines))
    key = lines[at].partition("=")[0].strip() or "x"
    values = (
        "nan",
        "-1",
        "9" * 5000,
        "[" * 3000,
        "{}",
        "true",
        '"rgb"',
        "1e999",
        "[nan, 1, 1]",
        json.dumps(rng.choice(TEXTS)),
    )
    lines[at] = rng.choice(
        (f"{key} = {rng.choice(values)}", f"{key}.{'a.' * rng.choice((3, 20000))}b = 1", "[" * 50, "")
    )
    content = "\n".join(lines).encode()
    path = trial.folder / name
    path.write_bytes(damaged(content, rng) if rng.random() < 0.4 else content)
    shutil.copy(trial.material / "tiny.onnx", trial.folder)
    if name == "model.toml":
        return _built(trial, path)
    return _built(trial, trial.material / "model.toml", path)


def picture(trial: Trial) -> str:
    """Bytes of a picture, or what its format states, in a folder that is built from."""
    rng, data = trial.rng, trial.folder / "data"
    shutil.copytree(trial.material / "data", data)
    victim = rng.choice(sorted(data.rglob("*.png")))
    match rng.randrange(5):
        case 0:
            stream = np.random.default_rng(rng.randrange(1000))
            side = rng.choice(((1, 20_000), (20_000, 1), (1, 1), (3, 3)))
            Image.fromarray(stream.integers(0, 256, (*side, 3), np.uint8)).save(victim)
        case 1:
            victim.write_bytes(b"P6 %d %d 255\n" % (rng.choice((30_000, 2**31, 0)), rng.choice((30_000, 1))))
        case 2:
            Image.new(rng.choice(("1", "L", "P", "LA", "RGBA", "I;16")), (40, 40)).save(victim)
        case _:
            victim.write_bytes(damaged(victim.read_bytes(), rng))
    return survived(trial.run("run", trial.material / "mcu", victim)) or _built(trial, data=data)


def folder_of_pictures(trial: Trial) -> str:
    """``labels.csv``, ``classes.txt`` and the folders themselves."""
    rng, data = trial.rng, trial.folder / "data"
    shutil.copytree(trial.material / "data", data)
    outside = trial.folder / "outside.png"
    shutil.copy(data / "red" / "0.png", outside)
    names = [path.relative_to(data).as_posix() for path in sorted(data.rglob("*.png"))]
    rows = [f"{name},{rng.choice(sorted(p.name for p in data.iterdir()))}" for name in names]
    hostile = (
        "../outside.png,red",
        f"{outside},red",
        "a.png",
        'red/0.png,"',
        ",",
        "\x00,red",
        "red/0.png,caf\u00e9",
        "x" * 300 + ",red",
    )
    match rng.randrange(6):
        case 0:
            rows[rng.randrange(len(rows))] = rng.choice(hostile)
            (data / "labels.csv").write_text(
                "file,label\n" + "\n".join(rows), encoding=rng.choice(("utf-8", "utf-16", "utf-8-sig"))
            )
        case 1:
            numbers = [f"{name},{rng.choice((0, 1, 2, -1, 3_000_000_000, 2**70, 'x', ''))}" for name in names]
            (data / "labels.csv").write_text("file,class_index\n" + "\n".join(numbers))
        case 2:
            (data / "labels.csv").write_bytes(damaged(("file,label\n" + "\n".join(rows)).encode(), rng))
        case 3:
            (data / "classes.txt").write_text(
                rng.choice(("../outside\nred\n", "red\nred\n", "", "caf\u00e9\n", "a\rb\n"))
            )
        case 4:
            (data / "red" / "link.png").symlink_to(
                rng.choice((outside, Path("/etc/passwd"), data / "red" / "link.png"))
            )
        case _:
            (data / rng.choice(("a\rb", "a\nb", "\x1b[31m", "caf\u00e9", "x" * 200))).mkdir()
    return _built(trial, data=data)


def _built(trial: Trial, model: Path | None = None, board: object = "mcu", data: Path | None = None) -> str:
    """Build, and no output where it did not end well."""
    if trial.rng.random() < FOUND:
        shutil.copytree(trial.material / "store", trial.folder / "cache", dirs_exist_ok=True)
    given = ("--target", board, "--data", data or trial.material / "data", "--output", trial.folder / "out")
    done = trial.run("build", model or trial.material / "model.toml", *given, "--no-measure")
    half = done.status == 1 and (trial.folder / "out").exists()
    return survived(done) or ("a refused build left its output" if half else "")
