"""A project is the bundle's sources and what an ecosystem asks for: the same bytes each time, nobody's work lost."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgec.pipeline.bundle.read import open_bundle
from edgec.pipeline.cli import group
from edgec.pipeline.cli.project import ECOSYSTEMS
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.firmware.memory import Row, app_partition
from edgec.pipeline.firmware.project import CORE, TEMPLATES, _check, write_project

STAND_IN = Path(__file__).parent / "stand_in"


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def projects(mcu_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("projects")
    for ecosystem in CORE:
        write_project(mcu_bundle, ecosystem, root / ecosystem)
    return {ecosystem: root / ecosystem for ecosystem in CORE}


def test_the_command_offers_what_there_is() -> None:
    folders = {path.name for path in TEMPLATES.iterdir() if path.is_dir()} - {"core", "__pycache__"}
    assert set(ECOSYSTEMS) == CORE.keys() == folders


@pytest.mark.parametrize("ecosystem", CORE)
def test_same_bundle_same_bytes(ecosystem: str, projects: dict[str, Path], mcu_bundle: Path, tmp_path: Path) -> None:
    write_project(mcu_bundle, ecosystem, tmp_path / "elsewhere")
    assert tree(tmp_path / "elsewhere") == tree(projects[ecosystem])


@pytest.mark.parametrize("ecosystem", CORE)
def test_the_bundles_own_sources_are_used(ecosystem: str, projects: dict[str, Path], mcu_bundle: Path) -> None:
    core = projects[ecosystem] / CORE[ecosystem].replace("PREFIX", "colours")
    given = tree(mcu_bundle / "c")
    taken = {name: content for name, content in tree(core).items() if name in given}
    assert all(given[name] == content for name, content in taken.items())
    left_out = given.keys() - taken.keys()
    assert left_out == (set() if ecosystem == "cmake" else {"model.S"})


@pytest.mark.parametrize("ecosystem", CORE)
def test_every_file_is_recorded_and_nothing_is_left_open(ecosystem: str, projects: dict[str, Path]) -> None:
    files = tree(projects[ecosystem])
    record = json.loads(files.pop("project.json"))
    assert {entry["path"]: entry["sha256"] for entry in record["files"]} == {
        name: hashlib.sha256(content).hexdigest() for name, content in files.items()
    }
    assert (record["model"], record["version"], record["ecosystem"]) == ("colours", "1.0.0", ecosystem)
    own = {name: content.decode() for name, content in files.items() if not name.endswith((".tflite", ".S"))}
    assert not [name for name, text in own.items() if "{{" in text or "{%" in text]
    assert not [name for name, text in own.items() if "edgec" not in text]  # each says whose it is


def test_the_memory_table(mcu_bundle: Path, tmp_path: Path) -> None:
    written = write_project(mcu_bundle, "cmake", tmp_path / "project")
    rows = {row.what: row.bytes for row in written.memory}
    memory = open_bundle(mcu_bundle).manifest.memory
    assert rows["arena"] == memory.arena_with_margin_bytes
    assert rows["model"] == (mcu_bundle / "model.tflite").stat().st_size
    assert rows["self-test: answers"] == 10 * 3
    assert rows["self-test: real images, which can be left out"] == 4 * 32 * 32 * 3
    board = (tmp_path / "project" / "boards" / "mps2-an385" / "board.ld").read_text()
    assert f"STACK_BYTES = {rows['stack of the bare boards']};" in board
    assert f"| arena | RAM | {rows['arena']:,} |" in (tmp_path / "project" / "README.md").read_text()


def test_a_named_tflite_micro_is_copied_and_pinned(mcu_bundle: Path, tmp_path: Path) -> None:
    """Sources and licences alone; the list of digests is what its own digest pins."""
    source = Path(shutil.copytree(STAND_IN, tmp_path / "tflm"))
    (source / "LICENSE").write_text("Apache-2.0")
    (source / "examples" / "hello").mkdir(parents=True)
    (source / "examples" / "hello" / "main.cc").write_text("int main() {}")
    written = write_project(mcu_bundle, "cmake", tmp_path / "project", source)
    taken = tree(tmp_path / "project" / "third_party" / "tflite-micro")
    assert "LICENSE" in taken
    assert not {name for name in taken if name.endswith(".md") or name.startswith("examples")}
    listing = (tmp_path / "project" / "third_party" / "tflite-micro.sha256").read_bytes()
    assert dict(reversed(line.split("  ")) for line in listing.decode().splitlines()) == {
        name: hashlib.sha256(content).hexdigest() for name, content in taken.items()
    }
    assert written.tflite_micro is not None
    assert written.tflite_micro.sha256 == hashlib.sha256(listing).hexdigest()
    (source / "tensorflow" / "lite" / "micro" / "micro_interpreter.cc").write_text("// changed")
    again = write_project(mcu_bundle, "cmake", tmp_path / "project", source)
    assert again.tflite_micro is not None
    assert again.tflite_micro.sha256 != written.tflite_micro.sha256


def test_what_is_no_tflite_micro(mcu_bundle: Path, tmp_path: Path) -> None:
    checkout = tmp_path / "tensorflow" / "lite" / "micro"
    with pytest.raises(EdgecError) as refused:
        write_project(mcu_bundle, "cmake", tmp_path / "project", tmp_path)
    assert refused.value.code == "not-tflite-micro"
    checkout.mkdir(parents=True)
    (checkout / "micro_interpreter.h").touch()
    with pytest.raises(EdgecError, match=r"flatbuffers\.h") as refused:  # a checkout without its downloads
        write_project(mcu_bundle, "cmake", tmp_path / "project", tmp_path)
    assert "create_tflm_tree.py" in refused.value.hint
    assert not (tmp_path / "project").exists()


def test_a_bundle_without_c_sources(jetson_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(EdgecError) as refused:
        write_project(jetson_bundle, "cmake", tmp_path / "project")
    assert refused.value.code == "no-c-sources"
    assert "--target mcu" in refused.value.hint


def test_a_model_without_an_array(copy: Path) -> None:
    bundle = open_bundle(copy)
    (copy / "c" / "model.c").unlink()
    _check(bundle, "cmake")
    with pytest.raises(EdgecError) as refused:
        _check(bundle, "arduino")
    assert refused.value.code == "no-c-sources"


def test_a_bundle_without_an_arena(mcu_bundle: Path) -> None:
    bundle = open_bundle(mcu_bundle)
    memory = replace(bundle.manifest.memory, arena_with_margin_bytes=None)
    with pytest.raises(EdgecError) as refused:
        _check(replace(bundle, manifest=replace(bundle.manifest, memory=memory)), "cmake")
    assert refused.value.code == "no-arena"


def test_only_an_untouched_project_is_replaced(mcu_bundle: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    write_project(mcu_bundle, "cmake", project)
    write_project(mcu_bundle, "zephyr", project)
    assert not (project / "boards").exists()

    def refusal() -> str:
        with pytest.raises(EdgecError) as refused:
            write_project(mcu_bundle, "zephyr", project)
        assert refused.value.code == "output-exists"
        return refused.value.message

    main = project / "src" / "main.c"
    before = main.read_text()
    main.write_text(before + "/* mine */\n")
    assert "'src/main.c' in it was changed" in refusal()
    main.unlink()
    main.symlink_to("elsewhere.c")
    assert "'src/main.c' in it was changed" in refusal()
    main.unlink()
    main.write_text(before)
    (project / "notes.txt").touch()
    assert "'notes.txt' in it is no file of the project" in refusal()
    (project / "notes.txt").unlink()
    (project / "project.json").write_text("[]")
    assert "its project.json is not of a project" in refusal()
    (project / "project.json").unlink()
    assert "it is no project, which has project.json" in refusal()


def test_a_bundle_is_no_project(mcu_bundle: Path, copy: Path) -> None:
    with pytest.raises(EdgecError) as refused:
        write_project(mcu_bundle, "cmake", copy)
    assert refused.value.code == "output-exists"


def test_files_of_the_ecosystems(projects: dict[str, Path]) -> None:
    """Read as their own tools read them, as far as a parser is at hand."""
    yaml = pytest.importorskip("yaml")
    component = yaml.safe_load((projects["esp-idf"] / "components" / "colours" / "idf_component.yml").read_text())
    assert component["version"] == "1.0.0"
    assert component["dependencies"]["espressif/esp-tflite-micro"].startswith("==")
    assert component.keys() <= {"version", "description", "dependencies"}
    module = yaml.safe_load((projects["zephyr"] / "zephyr" / "module.yml").read_text())
    assert (module.keys(), module["build"].keys()) == ({"name", "build"}, {"cmake", "kconfig"})
    assert (projects["zephyr"] / module["build"]["kconfig"]).is_file()
    assert (projects["zephyr"] / module["build"]["cmake"] / "CMakeLists.txt").is_file()
    lines = (projects["arduino"] / "library.properties").read_text().splitlines()
    properties = dict(line.split("=", 1) for line in lines)
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 _.-]{0,62}", properties["name"])  # Arduino's library specification
    assert set(properties["architectures"].split(",")) <= {"mbed_nano", "mbed_nicla", "mbed_portenta", "esp32"}
    assert properties.keys() >= {"name", "version", "author", "maintainer", "sentence", "paragraph", "category", "url"}
    assert (projects["arduino"] / "src" / properties["includes"]).is_file()
    package = ElementTree.parse(projects["cmsis-pack"] / "edgec.colours.pdsc").getroot()
    named = [entry.attrib["name"] for entry in package.iter("file")]
    assert len(named) > 10
    assert all((projects["cmsis-pack"] / name).is_file() for name in named)
    condition = next(package.iter("component")).attrib["condition"]
    assert condition in [entry.attrib["id"] for entry in package.iter("condition")]


@pytest.mark.parametrize("ecosystem", CORE)
def test_whose_word_it_is_how_tensors_are_laid_out(ecosystem: str, projects: dict[str, Path]) -> None:
    """Whoever builds TFLite Micro: CMake's project does; the others' packages say it, and Zephyr's is built without."""
    lists = [path.read_text() for path in projects[ecosystem].rglob("*") if path.name in ("CMakeLists.txt", "prj.conf")]
    stated = [line for text in lists for line in text.splitlines() if "STATIC_MEMORY" in line.partition("#")[0]]
    assert len(stated) == (1 if ecosystem == "cmake" else 0)


def test_a_program_of_esp_idf_has_room(projects: dict[str, Path], mcu_bundle: Path, tmp_path: Path) -> None:
    table = (projects["esp-idf"] / "partitions.csv").read_text().splitlines()
    rows = [[cell.strip() for cell in line.split(",")] for line in table if not line.startswith("#")]
    (offset, size) = (int(cell, 0) for row in rows if row[0] == "factory" for cell in row[3:])
    defaults = (projects["esp-idf"] / "sdkconfig.defaults").read_text()
    (flash,) = re.findall(r"^CONFIG_ESPTOOLPY_FLASHSIZE_(\d+)MB=y$", defaults, re.M)
    assert offset % 0x10000 == size % 0x10000 == 0
    assert size >= open_bundle(mcu_bundle).manifest.memory.flash_bytes + (1 << 20)
    assert offset + size <= int(flash) << 20 <= 2 * (offset + size)
    ends = [int(row[3], 0) + int(row[4], 0) for row in rows]
    assert [int(row[3], 0) for row in rows[1:]] == ends[:-1]
    assert 'CONFIG_PARTITION_TABLE_CUSTOM_FILENAME="partitions.csv"' in defaults


@pytest.mark.parametrize(
    ("flash", "partition"),
    [(1, (0x110000, 2)), (0x10000, (0x110000, 2)), (0x0E0000, (0x1E0000, 2)), (0x0F0000, (0x1F0000, 2)),
     (0x0F0001, (0x200000, 4)), (0x2F0000, (0x3F0000, 4)), (0x2F0001, (0x400000, 8))],
)  # fmt: skip
def test_partitions_by_hand(flash: int, partition: tuple[int, int]) -> None:
    found = app_partition((Row("model", "flash", flash, ""), Row("arena", "RAM", 1 << 30, "")))
    assert (found.bytes, found.flash_mib) == partition


def test_the_command(mcu_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(group, ["project", str(mcu_bundle), "--for", "arduino"])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "edgec-out" / "colours-arduino" / "library.properties").is_file()
    arena = open_bundle(mcu_bundle).manifest.memory.arena_with_margin_bytes
    assert f"{arena:,} bytes  arena (" in done.output
    done = CliRunner().invoke(group, ["project", str(mcu_bundle), "--for", "cmake", "--output", "there", "--json"])
    assert json.loads(done.output)["num_files"] == len(tree(tmp_path / "there"))
    done = CliRunner().invoke(group, ["project", str(mcu_bundle), "--for", "zephyr", "--tflite-micro", str(STAND_IN)])
    assert done.exit_code == 2
    assert "zephyr has TFLite Micro as a package" in done.output
