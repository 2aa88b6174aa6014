"""Writes a firmware project from a bundle: the bundle's own C sources, what runs them, and what one ecosystem asks for.

The files of each ecosystem are the folder ``templates/`` of that name; ``templates/core/`` is the same for all.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from edgec.pipeline.bundle.c_sources import c_prefix, c_title
from edgec.pipeline.bundle.folder import copy_folder, replacing
from edgec.pipeline.bundle.manifest import MANIFEST
from edgec.pipeline.bundle.read import Bundle, open_bundle
from edgec.pipeline.bundle.semver import parse_version
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.stage import file_sha256
from edgec.pipeline.firmware.memory import (
    ANSWERS,
    ARENA,
    MODEL,
    PICTURES,
    STACK,
    STACK_BYTES,
    Row,
    app_partition,
    bytes_of,
    memory_rows,
)
from edgec.pipeline.firmware.memory_plot import memory_plot
from edgec.pipeline.firmware.record import RECORD, Listed, Record, TfliteMicro, foreign
from edgec.pipeline.firmware.templates import environment
from edgec.pipeline.forms.compiler import load_compiler
from edgec.pipeline.forms.format import TensorContract

TEMPLATES = Path(str(resources.files("edgec.pipeline.firmware.templates")))
CORE = {"cmake": "src", "zephyr": "module/src", "arduino": "src", "esp-idf": "components/PREFIX", "cmsis-pack": "src"}
"""Where each ecosystem has the model, its self-test and its interpreter."""

HEADERS = {"arduino": ("Chirale_TensorFlowLite.h",), "esp-idf": ("esp_attr.h",)}
"""What the interpreter's source includes beside TFLite Micro's own: the library's name, where an arena may lie."""

MEMORY_PLOT = "memory.svg"
TFLITE_MICRO = "third_party/tflite-micro"
_MARK = "tensorflow/lite/micro/micro_interpreter.h"
_SOURCES = re.compile(r".*\.(h|hpp|c|cc|cpp|inc|S)|(.*/)?(LICENSE|COPYING|NOTICE)[^/]*")
_CORE_FILES = tuple(
    f"{name}.{suffix}"
    for name, code in (("firmware", "c"), ("model", "c"), ("model_io", "c"), ("runner", "cpp"), ("selftest", "c"))
    for suffix in (code, "h")
)
_MAX_CLASSES = 256  # of a class map: what is counted on the device


@dataclass(frozen=True)
class Project:
    """What was written.

    Attributes:
        memory: what is known before a linker runs.
        warning: that the network does not fit the board it was built for; empty where it does.
    """

    output: str
    ecosystem: str
    num_files: int
    tflite_micro: TfliteMicro | None
    memory: tuple[Row, ...]
    warning: str


def default_output(folder: Path, ecosystem: str) -> Path:
    """``edgec-out/MODEL-ECOSYSTEM``.

    Raises:
        EdgecError: what ``open_bundle`` raises.
    """
    return Path("edgec-out") / f"{open_bundle(folder).manifest.model.name}-{ecosystem}"


def write_project(folder: Path, ecosystem: str, output: Path, tflite_micro: Path | None = None) -> Project:
    """Write the project of ``folder``, a bundle, into ``output``: a new or empty folder, or an unchanged project.

    Args:
        ecosystem: a key of ``CORE``.
        tflite_micro: a tree of TFLite Micro's sources to copy in; for ``cmake`` alone.

    Raises:
        EdgecError: ``no-c-sources``, ``no-arena``, ``not-tflite-micro``, ``output-exists``, ``output-not-writable``,
            ``disk-full``, ``missing-runtime``, and what ``open_bundle`` raises.
    """
    bundle = open_bundle(folder)
    _check(bundle, ecosystem)
    if tflite_micro is not None:
        _check_tflite_micro(tflite_micro)
    with replacing(output, foreign) as work:
        prefix = c_prefix(bundle.manifest.model.name)
        core = work / CORE[ecosystem].replace("PREFIX", prefix)
        copy_folder(folder / "c", core, lambda name: ecosystem == "cmake" or name.endswith((".c", ".h")))
        if ecosystem == "cmake":
            shutil.copyfile(bundle.artifact, core / bundle.artifact.name)  # what model.S includes
        pinned = None if tflite_micro is None else _copy_tflite_micro(tflite_micro, work / TFLITE_MICRO)
        rows = memory_rows(bundle, ecosystem == "cmake")
        values = _values(bundle, prefix, ecosystem, rows, pinned)
        _render("core", core, values)
        _render(ecosystem, work, values)
        steps = load_compiler(bundle.target.compiler).FORMAT.memory_steps(bundle.artifact)
        (work / MEMORY_PLOT).write_text(memory_plot(steps, bundle.manifest.memory), "utf-8", newline="\n")
        (work / "NOTICE").write_text(environment().get_template("NOTICE.j2").render(values), "utf-8", newline="\n")
        record = _record(bundle, ecosystem, pinned, work)
        (work / RECORD).write_text(json.dumps(asdict(record), indent=2) + "\n", "utf-8", newline="\n")
    return Project(str(output), ecosystem, len(record.files) + 1, pinned, rows, bundle.manifest.memory.warning)


def _check(bundle: Bundle, ecosystem: str) -> None:
    board, again = bundle.manifest.target.name, "edgec build MODEL --target mcu, or another microcontroller's board"
    sources = bundle.folder / "c"
    if not (sources / "selftest.c").is_file():
        raise EdgecError("no-c-sources", f"the bundle for '{board}' has no C sources", again)
    if ecosystem != "cmake" and not (sources / "model.c").is_file():
        message = f"the model is no C array: above 8 MiB there is none, and '{ecosystem}' takes nothing else"
        raise EdgecError("no-c-sources", message, "use --for cmake, or build a smaller network")
    if bundle.manifest.memory.arena_with_margin_bytes is None:
        message = f"the bundle for '{board}' does not say what arena TFLite Micro needs"
        raise EdgecError("no-arena", message, f"pip install 'edgec[mcu]', then {again}")


def _check_tflite_micro(tree: Path) -> None:
    wanted = (_MARK, "third_party/flatbuffers/include/flatbuffers/flatbuffers.h")
    missing = next((name for name in wanted if not (tree / name).is_file()), None)
    if missing:
        message = f"'{tree}' is no tree of TFLite Micro: it has no {missing}"
        hint = "make one in a checkout: tensorflow/lite/micro/tools/project_generation/create_tflm_tree.py DIR"
        raise EdgecError("not-tflite-micro", message, hint)


def _copy_tflite_micro(tree: Path, target: Path) -> TfliteMicro:
    copy_folder(tree, target, lambda name: _SOURCES.fullmatch(name) is not None and not name.startswith("examples/"))
    files = _listed(target)
    lines = "".join(f"{file.sha256}  {file.path}\n" for file in files)
    listing = target.parent / "tflite-micro.sha256"
    listing.write_text(lines, "utf-8", newline="\n")
    return TfliteMicro(file_sha256(listing), len(files))


def _values(
    bundle: Bundle, prefix: str, ecosystem: str, rows: tuple[Row, ...], pinned: TfliteMicro | None
) -> dict[str, Any]:
    manifest = bundle.manifest
    output = manifest.contract.outputs[0]
    kind = _kind(output)
    counted = min(len(bundle.labels), _MAX_CLASSES) or _MAX_CLASSES
    core = CORE[ecosystem].replace("PREFIX", prefix)
    return {
        "p": prefix,
        "P": prefix.upper(),
        "title": c_title(manifest.model.name),
        "version": parse_version(manifest.model.version),
        "artifact": bundle.artifact.name,
        "library_name": f"edgec_{prefix}"[:63],  # the longest that Arduino takes
        "ecosystem": ecosystem,
        "preprocess": bundle.preprocess,
        "output": output,
        "kind": kind,
        "num_classes": output.size if kind == "vector" else counted,
        "labels": bundle.labels,
        "has_array": (bundle.folder / "c" / "model.c").is_file(),
        "headers": HEADERS.get(ecosystem, ()),
        "arena_attribute": "EXT_RAM_BSS_ATTR " if ecosystem == "esp-idf" else "",
        "tflite_micro": pinned,
        "memory": rows,
        "rom_bytes": bytes_of(rows, MODEL, ANSWERS),
        "picture_bytes": bytes_of(rows, PICTURES),
        "ram_bytes": bytes_of(rows, ARENA, STACK),
        "partition": app_partition(rows),
        "stack_bytes": STACK_BYTES,
        "warning": manifest.memory.warning,
        "licences": manifest.licences,
        "manifest_sha256": file_sha256(bundle.folder / MANIFEST),
        "core_files": [
            {"name": f"{core}/{name}", "category": "header" if name.endswith(".h") else "source"}
            for name in _CORE_FILES
        ],
    }


def _kind(output: TensorContract) -> str:
    """``vector`` of classes, ``classes`` by place, or ``numbers``."""
    if output.is_index:
        return "classes"
    return "vector" if max(output.shape) == output.size and len(output.shape) <= 2 else "numbers"


def _render(name: str, target: Path, values: dict[str, Any]) -> None:
    for path in sorted((TEMPLATES / name).rglob("*.j2")):
        template = environment().get_template(path.relative_to(TEMPLATES).as_posix())
        plain = path.relative_to(TEMPLATES / name).as_posix().removesuffix(".j2")
        file = target / plain.replace("PREFIX", values["p"]).replace("LIBRARY", values["library_name"])
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(template.render(values), encoding="utf-8", newline="\n")


def _record(bundle: Bundle, ecosystem: str, pinned: TfliteMicro | None, work: Path) -> Record:
    model = bundle.manifest.model
    return Record(1, ecosystem, model.name, model.version, file_sha256(bundle.folder / MANIFEST), pinned, _listed(work))


def _listed(folder: Path) -> tuple[Listed, ...]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return tuple(Listed(path.relative_to(folder).as_posix(), file_sha256(path)) for path in paths)
