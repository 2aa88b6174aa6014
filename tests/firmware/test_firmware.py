"""Projects build, and their firmware boots on emulated Cortex-M cores and passes its self-test.

No package that we found has TFLite Micro's sources: ``stand_in/`` has the interface that the project uses and sends
each run to ``listener.py``, where TFLite Micro itself answers from its Python package.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from edgec.pipeline.bundle.read import open_bundle
from edgec.pipeline.firmware.project import CORE, write_project
from edgec.pipeline.firmware.templates import environment

HERE = Path(__file__).parent
STAND_IN = HERE / "stand_in"
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"]
EMULATOR = ["qemu-system-arm", "-display", "none", "-monitor", "none", "-serial", "stdio"]
SEMIHOSTING = ["-semihosting-config", "enable=on,target=native"]


def need(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


def run(*command: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run([str(word) for word in command], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@dataclass(frozen=True)
class Said:
    status: int
    console: str
    num_operators: int


def answered(command: list[str], bundle: Path, folder: Path, emulated: bool, off: int = 0) -> Said:
    """Run a firmware whose stand-in is answered by TFLite Micro, each answer ``off`` steps away."""
    folder.mkdir()
    asked, said = folder / "pipe.out", folder / "pipe.in"  # as the emulator names both ends of a pipe
    for pipe in (asked, said):
        os.mkfifo(pipe)
    model = [str(bundle / "model.tflite"), str(asked), str(said), str(off)]
    with subprocess.Popen([sys.executable, str(HERE / "listener.py"), *model], stdout=subprocess.PIPE) as listener:
        names = {} if emulated else {"STAND_IN_TO": str(asked), "STAND_IN_FROM": str(said)}
        try:
            done = subprocess.run(
                command, env={**os.environ, **names}, capture_output=True, text=True, timeout=300, check=False,
                stdin=subprocess.DEVNULL, cwd=folder,
            )  # fmt: skip
            num_operators = int(listener.communicate(timeout=60)[0])
        finally:
            listener.kill()  # it would wait for ever for a firmware that ended before it opened its pipes
    return Said(done.returncode, done.stdout.replace("\r", ""), num_operators)


@pytest.fixture(scope="module")
def project(mcu_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For CMake, with the stand-in in place of TFLite Micro."""
    folder = tmp_path_factory.mktemp("firmware") / "project"
    write_project(mcu_bundle, "cmake", folder, STAND_IN)
    return folder


def built(project: Path, build: Path, *options: str) -> str:
    need("cmake", "ninja")
    run("cmake", "-G", "Ninja", "-S", project, "-B", build, *options)
    return run("cmake", "--build", build)


@pytest.fixture(scope="module")
def host(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    need("gcc", "g++")
    build = tmp_path_factory.mktemp("host")
    assert "warning" not in built(project, build)
    return build / "firmware"


def test_on_this_machine(host: Path, mcu_bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("tflite_micro")
    said = answered([str(host)], mcu_bundle, tmp_path / "run", emulated=False)
    assert said.status == 0, said.console
    lines = said.console.splitlines()
    assert lines[:2] == [
        "edgec firmware: colours 1.0.0",
        "STAND-IN for TFLite Micro: it computes nothing, whoever listens answers",
    ]
    assert lines[3] == "self-test: PASS: 10 vectors, at most 0 of 1 steps off"
    assert lines[4].startswith("picture: ")
    contract = open_bundle(mcu_bundle).manifest.contract
    assert said.num_operators == len(contract.operators)  # exactly those of the file
    answer = np.load(mcu_bundle / "golden" / "outputs.target.int8.npy")[-1].astype(np.float64).reshape(-1)
    output = contract.outputs[0]
    assert output.scale is not None
    reals = (answer - output.zero_point) * output.scale
    ranked = sorted(range(3), key=lambda index: (-reals[index], index))
    names = ("blue", "green", "red")
    expected = [f"  {rank}. {names[index]}  {reals[index]:.3f}" for rank, index in enumerate(ranked, 1)]
    assert lines[5:] == expected


def test_a_wrong_answer_fails(host: Path, mcu_bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("tflite_micro")
    said = answered([str(host)], mcu_bundle, tmp_path / "run", emulated=False, off=2)
    assert said.status == 1
    assert "self-test: FAIL: an answer is out of tolerance, vector " in said.console
    assert "PASS" not in said.console


def test_a_picture_of_ones_own(host: Path, mcu_bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("tflite_micro")
    picture = np.zeros((32, 32, 3), np.uint8) + np.array((210, 40, 30), np.uint8)
    (tmp_path / "red.raw").write_bytes(picture.tobytes())
    said = answered([str(host), str(tmp_path / "red.raw")], mcu_bundle, tmp_path / "run", emulated=False)
    assert said.status == 0
    assert "picture: the board's\n  1. red  " in said.console
    (tmp_path / "short.raw").write_bytes(bytes(5))
    said = answered([str(host), str(tmp_path / "short.raw")], mcu_bundle, tmp_path / "again", emulated=False)
    assert said.status == 4


@pytest.mark.parametrize("board", ["mps2-an385", "mps3-an547"])
def test_boots_on_an_emulated_board(board: str, project: Path, mcu_bundle: Path, tmp_path: Path) -> None:
    """Cortex-M3 and Cortex-M55: reset to PASS, the verdict over the board's first UART, answers over its second."""
    pytest.importorskip("tflite_micro")
    need("arm-none-eabi-g++", "qemu-system-arm")
    said = built(project, tmp_path / "build", f"-DBOARD={board}", "-DFREESTANDING=ON")
    assert "warning" not in said
    sections = {
        words[0]: int(words[1]) for line in said.splitlines() if len(words := line.split()) == 3 and line[0] == "."
    }
    memory = open_bundle(mcu_bundle).manifest.memory
    assert sections[".arena"] == memory.arena_with_margin_bytes
    assert memory.flash_bytes <= sections[".model"] <= memory.flash_bytes + 48  # and its digest
    assert sections[".selftest"] >= 4 * 32 * 32 * 3 + 10 * 3
    assert sections[".bss"] < 1024
    assert (tmp_path / "build" / "firmware.map").is_file()
    pipe = tmp_path / "run" / "pipe"
    machine = [*EMULATOR, "-M", board, "-serial", f"pipe:{pipe}", *SEMIHOSTING, "-kernel"]
    elf = str(tmp_path / "build" / "firmware.elf")
    found = answered([*machine, elf], mcu_bundle, tmp_path / "run", emulated=True)
    assert found.status == 0, found.console
    assert "self-test: PASS: 10 vectors, at most 0 of 1 steps off\n" in found.console
    assert "STAND-IN" in found.console


def test_pictures_can_stay_out(project: Path, tmp_path: Path) -> None:
    need("arm-none-eabi-g++")
    said = built(project, tmp_path, "-DBOARD=mps2-an385", "-DFREESTANDING=ON", "-DSELFTEST_PICTURES=OFF")
    (size,) = (int(line.split()[1]) for line in said.splitlines() if line.startswith(".selftest"))
    assert size < 1024


@pytest.mark.parametrize(
    ("options", "says"),
    [(["-DBOARD=mars"], "no board 'mars'"), (["-DTFLITE_MICRO_DIR=/nowhere"], "no TFLite Micro at '/nowhere'")],
)
def test_configuring_refuses(options: list[str], says: str, project: Path, tmp_path: Path) -> None:
    need("cmake", "ninja")
    command = ["cmake", "-G", "Ninja", "-S", str(project), "-B", str(tmp_path), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert says in " ".join(done.stderr.split())


@pytest.mark.parametrize("board", ["mps2-an385", "mps3-an547"])
@pytest.mark.parametrize(("part", "region"), [("ROM", "(?:FLASH|ROM)"), ("RAM", "RAM")])
def test_a_network_too_large_for_the_board(part: str, region: str, board: str, project: Path, tmp_path: Path) -> None:
    """Refused when it is configured, with the numbers, before a linker says what overflowed."""
    need("cmake", "ninja")
    mine = Path(shutil.copytree(project, tmp_path / "project"))
    lists, folder = mine / "CMakeLists.txt", mine / "boards" / board
    (line,) = re.findall(rf"set\({part}_BYTES (\d+)\)", lists.read_text())
    (limit,) = re.findall(rf"set\(BOARD_{part}_BYTES (\d+)\)", (folder / "board.cmake").read_text())
    (size, unit) = re.findall(rf"^  {region} .*LENGTH = (\d+)([KM])$", (folder / "board.ld").read_text(), re.M)[0]
    assert int(limit) == int(size) << {"K": 10, "M": 20}[unit]  # two places, one number
    taken = int(limit) + 1
    lists.write_text(lists.read_text().replace(f"set({part}_BYTES {line})", f"set({part}_BYTES {taken})"))
    options = [f"-DBOARD={board}", "-DSELFTEST_PICTURES=OFF"]
    command = ["cmake", "-G", "Ninja", "-S", str(mine), "-B", str(tmp_path / "build"), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    said = " ".join(done.stderr.split())
    assert f"the board '{board}' has {limit} bytes of {part}, the " in said
    assert f" take {taken}: " in said


def test_what_is_checked_is_what_is_linked(project: Path, mcu_bundle: Path) -> None:
    memory = open_bundle(mcu_bundle).manifest.memory
    text = (project / "CMakeLists.txt").read_text()
    assert f"set(RAM_BYTES {(memory.arena_with_margin_bytes or 0) + (16 << 10)})" in text
    assert f"set(ROM_BYTES {memory.flash_bytes + 10 * 3})" in text  # ten vectors of three classes
    assert f'"${{ROM_BYTES}} + {4 * 32 * 32 * 3}"' in text


@pytest.mark.parametrize("ecosystem", CORE)
def test_compiles_without_a_warning(ecosystem: str, mcu_bundle: Path, tmp_path: Path) -> None:
    """With the host's compilers and the ecosystems' headers as stand-ins: plain C11 and C++17."""
    need("gcc", "g++")
    write_project(mcu_bundle, ecosystem, tmp_path / "project")
    core = tmp_path / "project" / CORE[ecosystem].replace("PREFIX", "colours")
    include = [f"-I{path}" for path in (core, tmp_path / "project", STAND_IN, HERE / "ecosystems")]
    c, cpp = ["gcc", "-std=c11", *WARNINGS, *include], ["g++", "-std=c++17", *WARNINGS, *include]
    for path in sorted((tmp_path / "project").rglob("*")):
        if "boards/bare" in path.as_posix():  # another processor's
            continue
        if path.suffix == ".c":
            run(*c, "-c", path, "-o", tmp_path / "out.o")
        elif path.suffix == ".cpp":
            run(*cpp, "-c", path, "-o", tmp_path / "out.o")
        elif path.suffix == ".ino":
            run(*cpp, "-include", "Arduino.h", "-x", "c++", "-c", path, "-o", tmp_path / "out.o")


def test_both_namespaces_of_tflite_micro(project: Path) -> None:
    """Its classes lie in ``tflite``, since 2026 in ``tflite::micro``."""
    need("g++")
    runner = project / "src" / "runner.cpp"
    for names in ([], ["-DSTAND_IN_NESTED"]):
        run("g++", "-std=c++17", *WARNINGS, *names, "-fsyntax-only", f"-I{STAND_IN}", runner)


def test_a_tree_with_cmsis_nn(mcu_bundle: Path, tmp_path: Path) -> None:
    """As TFLite Micro's script lays one out: every source finds its headers and definitions, and no other is built.

    The files are stand-ins of ours that check what those of TFLite Micro ask for.
    """
    need("gcc", "g++")
    tree = Path(shutil.copytree(STAND_IN, tmp_path / "tflm"))
    micro, others = tree / "tensorflow" / "lite" / "micro", tree / "third_party"
    checked = "#if !defined(CMSIS_NN) || !defined(TF_LITE_STATIC_MEMORY) || defined(TF_LITE_STRIP_ERROR_STRINGS)\n"
    headers = {  # as sources include them, and where they lie
        "Include/arm_nnfunctions.h": others / "cmsis_nn",
        "arm_nn_types.h": others / "cmsis_nn" / "Include",
        "cmsis_compiler.h": others / "cmsis" / "CMSIS" / "Core" / "Include",
        "fixedpoint/fixedpoint.h": others / "gemmlowp",
        "ruy/profiler/instrumentation.h": others / "ruy",
        "kiss_fft.h": others / "kissfft",
    }
    for name, folder in headers.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    includes = "".join(f'#include "{name}"\n' for name in (*headers, "flatbuffers/flatbuffers.h"))
    sources = {
        micro / "kernels" / "cmsis_nn" / "add.cc": f"{checked}#error\n#endif\n{includes}",
        others / "cmsis_nn" / "Source" / "arm_add.c": '#include "arm_nn_types.h"\nint arm_add;\n',
        # it names registers of a device, but for this definition
        micro / "cortex_m_generic" / "micro_time.cc": "#ifndef TF_LITE_STRIP_ERROR_STRINGS\n#error\n#endif\n",
        micro / "kernels" / "add_test.cc": "#error\n",
        tree / "examples" / "hello" / "main.cc": "#error\n",
    }
    for path, text in sources.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    write_project(mcu_bundle, "cmake", tmp_path / "project", tree)
    said = built(tmp_path / "project", tmp_path / "build")
    assert "warning" not in said
    (tmp_path / "elsewhere").mkdir()
    write_project(mcu_bundle, "cmake", tmp_path / "bare")
    built(tmp_path / "bare", tmp_path / "again", f"-DTFLITE_MICRO_DIR={tree}")  # where it lies, examples and all


STARTS = """
#include <stdio.h>
#include <string.h>
#include "runner.h"
extern "C" void port_write(const char *) {}
extern "C" void stand_in_send(const void *, size_t) {}
extern "C" void stand_in_receive(void *to, size_t size) {
    const uint32_t sizes[2] = {COLOURS_INPUT_SIZE, COLOURS_OUTPUT_SIZE};
    memcpy(to, sizes, size);
}
int main() {
    const char *wrong = colours_start();
    puts(wrong ? wrong : "started");
}
"""


@pytest.mark.parametrize(("program", "library"), [(True, True), (False, False), (True, False), (False, True)])
def test_layouts_that_differ_are_said(program: bool, library: bool, project: Path, tmp_path: Path) -> None:
    """TF_LITE_STATIC_MEMORY changes TFLite Micro's tensors: an ecosystem that builds both otherwise is found out."""
    need("gcc", "g++")
    (tmp_path / "main.cpp").write_text(STARTS)
    define = {True: ["-DTF_LITE_STATIC_MEMORY"], False: []}
    compiler = ["g++", "-std=c++17", *WARNINGS, f"-I{STAND_IN}", f"-I{project / 'src'}", "-c"]
    interpreter = STAND_IN / "tensorflow" / "lite" / "micro" / "micro_interpreter.cc"
    run(*compiler, *define[library], interpreter, "-o", tmp_path / "library.o")
    run(*compiler, *define[program], project / "src" / "runner.cpp", "-o", tmp_path / "runner.o")
    run(*compiler, tmp_path / "main.cpp", "-o", tmp_path / "main.o")
    run("gcc", "-c", project / "src" / "model.c", "-o", tmp_path / "model.o")
    run("g++", *sorted(tmp_path.glob("*.o")), "-o", tmp_path / "program")
    said = run(tmp_path / "program").strip()
    assert said == "started" if program == library else "TF_LITE_STATIC_MEMORY is not as in the build" in said


RUNNER = """
#include <stdio.h>
#include <string.h>
#include "firmware.h"
#include "runner.h"
static colours_input_t input[COLOURS_INPUT_SIZE];
static colours_output_t output[COLOURS_OUTPUT_SIZE];
const char *colours_start(void) { return %(wrong)s; }
colours_input_t *colours_input(void) { return input; }
colours_output_t *colours_output(void) { return output; }
int colours_invoke(void) {
    static const colours_output_t answer[COLOURS_OUTPUT_SIZE] = { %(answer)s };
    memcpy(output, answer, sizeof(answer));
    return %(status)d;
}
uint32_t colours_arena_used_bytes(void) { return 4000000000u; }
static void write_out(const char *text) { fputs(text, stdout); }
int main(void) {
    const colours_port port = {write_out, NULL};
    return colours_firmware(&port);
}
"""


def spoken(project: Path, folder: Path, answer: str, wrong: str = "NULL", status: int = 0) -> tuple[int, list[str]]:
    """What the firmware says of an answer."""
    need("gcc")
    filled = RUNNER % {"answer": answer, "wrong": wrong, "status": status}
    (folder / "runner.c").write_text(filled)
    core = project / "src"
    sources = [
        folder / "firmware.c",
        folder / "runner.c",
        *(core / f"{name}.c" for name in ("model", "model_io", "selftest")),
    ]
    run("gcc", "-std=c11", *WARNINGS, f"-I{core}", "-o", folder / "program", *sources)
    done = subprocess.run([folder / "program"], capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    assert wrong != "NULL" or lines[1].startswith("arena: 4000000000 of ")
    return done.returncode, lines


KINDS = {
    "vector": ("5, 7, 7", ["  1. green", "  2. red", "  3. blue"]),  # of equal ones the first
    "classes": ("2, 0, 2", ["  1. red  2 of 3", "  2. blue  1 of 3"]),
    "numbers": ("-128, 0, 127", ["  [0] ", "  [1] ", "  [2] "]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_said_of_each_kind_of_output(kind: str, project: Path, mcu_bundle: Path, tmp_path: Path) -> None:
    answer, expected = KINDS[kind]
    bundle = open_bundle(mcu_bundle)
    output = bundle.manifest.contract.outputs[0]
    values = {"p": "colours", "P": "COLOURS", "title": "colours", "version": "1.0.0", "output": output, "kind": kind,
              "num_classes": 3, "labels": bundle.labels}  # fmt: skip
    (tmp_path / "firmware.c").write_text(environment().get_template("core/firmware.c.j2").render(values))
    status, lines = spoken(project, tmp_path, answer)
    assert status == 1  # these are no golden answers
    said = lines[lines.index(next(line for line in lines if line.startswith("picture: "))) + 1 :]
    assert len(said) == len(expected)
    assert all(line.startswith(start) for line, start in zip(said, expected, strict=True)), said
    if kind == "numbers":
        assert output.scale is not None
        reals = [(value - output.zero_point) * output.scale for value in (-128, 0, 127)]
        assert [line.split()[1] for line in said] == [f"{real:.3f}" for real in reals]


def test_what_goes_wrong_is_said(project: Path, tmp_path: Path) -> None:
    shutil.copy(project / "src" / "firmware.c", tmp_path)
    assert spoken(project, tmp_path, "0", wrong='"no room"') == (
        2,
        ["edgec firmware: colours 1.0.0", "start: FAIL: no room"],
    )
    status, lines = spoken(project, tmp_path, "0", status=7)
    assert status == 1
    assert lines[2:] == [
        "self-test: FAIL: the network did not run, vector zeros",
        "picture: FAIL: the network did not run",
    ]
