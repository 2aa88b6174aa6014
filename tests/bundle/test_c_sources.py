"""The C sources compile everywhere without a warning, and the self-test passes on right answers and on no others."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from tiny import LOPSIDED_MCU, lopsided_network

from edgec.pipeline.bundle.c_sources import c_float, c_prefix, word_array
from edgec.pipeline.bundle.templates import c_string, comment, markdown
from edgec.pipeline.cli import main
from edgec.pipeline.quantize import prefix
from edgec.targets.tflite.format import TfliteFormat

WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-Wconversion", "-Wshadow", "-O1"]
CORTEX_M = ["-mcpu=cortex-m3", "-mthumb", "-ffreestanding"]  # no C library, not even its headers
COMPILERS = {
    "x86-64 or this machine, C11": ["gcc", "-std=c11"],
    "x86-64 or this machine, C++17": ["g++", "-std=c++17", "-x", "c++"],
    "aarch64, C11": ["aarch64-linux-gnu-gcc", "-std=c11"],
    "aarch64, C++17": ["aarch64-linux-gnu-g++", "-std=c++17", "-x", "c++"],
    "Cortex-M, C11": ["arm-none-eabi-gcc", "-std=c11", *CORTEX_M],
    "Cortex-M, C++17": ["arm-none-eabi-g++", "-std=c++17", *CORTEX_M, "-nostdinc++", "-x", "c++"],
}
SOURCES = ("model.c", "model_io.c", "selftest.c")


def need(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run([str(word) for word in command], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(params=["mcu_bundle", "cpu_bundle"])
def sources(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """``c/`` of an integer and of a float model, beside the artifact."""
    return c_of(request.getfixturevalue(request.param), tmp_path)


def c_of(bundle: Path, folder: Path) -> Path:
    """A bundle's own copy in ``folder``; its ``c/``."""
    return Path(shutil.copytree(bundle, folder / "bundle")) / "c"


@pytest.mark.parametrize("compiler", COMPILERS)
def test_compiles_without_a_warning(sources: Path, compiler: str) -> None:
    command = COMPILERS[compiler]
    need(command[0])
    for source in SOURCES:
        run(*command, *WARNINGS, "-c", source, "-o", f"{source}.o", cwd=sources)


@pytest.mark.parametrize("compiler", ["gcc", "aarch64-linux-gnu-gcc", "arm-none-eabi-gcc"])
def test_assembly_gives_the_same_symbols_as_the_array(sources: Path, compiler: str) -> None:
    need(compiler)
    run(compiler, "-c", "model.c", "-o", "array.o", cwd=sources)
    run(compiler, "-c", "-I..", "model.S", "-o", "incbin.o", cwd=sources)
    nm = compiler.replace("gcc", "nm")
    array, incbin = (run(nm, "-P", name, cwd=sources).splitlines() for name in ("array.o", "incbin.o"))
    assert {line.split()[0] for line in array} == {line.split()[0] for line in incbin}


HOST_MAIN = """
#include <stdio.h>
#include <string.h>
#include "selftest.h"

/* Answers come from a file: what a runtime gave for each vector, in order. */
static FILE *answers;
static int run(const PREFIX_input_t *input, PREFIX_output_t *output, void *context) {
    (void)input; (void)context;
    return fread(output, sizeof(*output), UPPER_OUTPUT_SIZE, answers) == UPPER_OUTPUT_SIZE ? 0 : 7;
}
int main(int argc, char **argv) {
    static PREFIX_input_t input[UPPER_INPUT_SIZE];
    static PREFIX_output_t output[UPPER_OUTPUT_SIZE];
    PREFIX_selftest_report report;
    int i;
    if (argc > 2) { /* write the inputs that the device would feed itself */
        FILE *file = fopen(argv[2], "wb");
        for (i = 0; i < UPPER_SELFTEST_NUM_VECTORS; i++) {
            PREFIX_selftest_input(i, input);
            fwrite(input, sizeof(*input), UPPER_INPUT_SIZE, file);
        }
        fclose(file);
    }
    answers = argc > 1 ? fopen(argv[1], "rb") : NULL;
    PREFIX_selftest(answers ? run : NULL, NULL, input, output, &report);
    printf("%d %d %d %u\\n", (int)report.status, report.vector, report.run_status, (unsigned)report.worst_steps);
    return 0;
}
"""
PASSED, MISALIGNED, MODEL_CHANGED, INPUT_CHANGED, RUN_FAILED, OUT_OF_TOLERANCE = range(6)


def host_main(sources: Path) -> Path:
    (sources / "main.c").write_text(HOST_MAIN.replace("PREFIX", "colours").replace("UPPER", "COLOURS"))
    return sources


class TestSelfTest:
    @pytest.fixture
    def program(self, sources: Path) -> Path:
        need("gcc")
        run("gcc", "-std=c11", *WARNINGS[:4], "-o", "program", "main.c", *SOURCES, cwd=host_main(sources))
        return sources

    def report(self, folder: Path, *arguments: str | Path) -> tuple[int, ...]:
        return tuple(int(word) for word in run(folder / "program", *arguments, cwd=folder).split())

    def expected(self, request: pytest.FixtureRequest) -> tuple[Path, np.ndarray, dict[str, object]]:
        bundle = request.getfixturevalue(request.node.callspec.params["sources"])
        golden = json.loads((bundle / "golden" / "golden.json").read_text())
        (found,) = (bundle / "golden").glob("outputs.target.*.npy")
        return bundle, np.load(found), golden

    def test_recorded_answers_pass(self, program: Path, request: pytest.FixtureRequest) -> None:
        """The device's own inputs are those of the golden files, bit by bit; the recorded answers pass."""
        bundle, answers, golden = self.expected(request)
        answers.tofile(program / "answers.bin")
        assert self.report(program, "answers.bin", "inputs.bin") == (PASSED, 10, 0, 0)
        (inputs,) = (bundle / "golden").glob("inputs.*.bin")
        assert (program / "inputs.bin").read_bytes() == inputs.read_bytes()
        assert self.report(program) == (PASSED, 10, 0, 0)  # without a runtime
        assert len(golden["vectors"]) >= 8

    def test_tolerance_is_kept_to_the_step(self, program: Path, request: pytest.FixtureRequest) -> None:
        _, answers, golden = self.expected(request)
        allowed, step = golden["tolerance_steps"], 1 if answers.dtype.kind == "i" else golden["steps"][0]
        for steps, status in ((allowed, PASSED), (allowed + 1, OUT_OF_TOLERANCE)):
            changed = answers.astype(np.float64)
            away = -1 if changed[6, 1] > 0 else 1  # an integer must not wrap
            changed[6, 1] += away * step * (steps - 0.01 * (answers.dtype.kind == "f"))
            changed.astype(answers.dtype).tofile(program / "answers.bin")
            found = self.report(program, "answers.bin")
            assert found[:2] == (status, 10 if status == PASSED else 6)
            assert found[3] == steps

    @pytest.mark.parametrize("sources", ["cpu_bundle"], indirect=True)  # integers are always numbers
    def test_not_a_number(self, program: Path, request: pytest.FixtureRequest) -> None:
        _, answers, _ = self.expected(request)
        answers[2, 0] = np.nan
        answers.tofile(program / "answers.bin")
        assert self.report(program, "answers.bin")[:2] == (OUT_OF_TOLERANCE, 2)

    def test_failing_runtime(self, program: Path) -> None:
        (program / "answers.bin").write_bytes(b"")
        assert self.report(program, "answers.bin") == (RUN_FAILED, 0, 7, 0)

    def test_changed_model_and_preprocessing(self, program: Path) -> None:
        model = program / "model.c"
        text = model.read_text()
        model.write_text(re.sub("0x(.)", lambda found: f"0x{int(found[1], 16) ^ 1:x}", text, count=1))
        run("gcc", "-o", "program", "main.c", *SOURCES, cwd=program)
        assert self.report(program)[0] == MODEL_CHANGED
        model.write_text(text)
        constants = (program / "model_io.c").read_text().splitlines()
        (program / "model_io.c").write_text("\n".join(line.replace("{ ", "{ 1000000 + ") for line in constants))
        run("gcc", "-o", "program", "main.c", *SOURCES, cwd=program)
        assert self.report(program)[0] == INPUT_CHANGED

    def test_without_stored_images(self, program: Path) -> None:
        options = [*WARNINGS[:4], "-DCOLOURS_SELFTEST_STORED=0"]
        run("gcc", "-std=c11", *options, "-o", "program", "main.c", *SOURCES, cwd=program)
        assert self.report(program) == (PASSED, 6, 0, 0)

    def test_misaligned_model(self, program: Path) -> None:
        assembly = (program / "model.S").read_text()
        (program / "odd.S").write_text(assembly.replace("    .balign 16\n", "    .balign 16\n    .byte 0\n"))
        run("gcc", "-I..", "-o", "program", "main.c", "odd.S", "model_io.c", "selftest.c", cwd=program)
        assert self.report(program)[0] == MISALIGNED


def test_self_test_under_emulated_aarch64(mcu_bundle: Path, tmp_path: Path) -> None:
    """The parts that need no runtime, and the recorded answers, on the instructions of another processor."""
    need("aarch64-linux-gnu-gcc")
    need("qemu-aarch64")
    folder = host_main(c_of(mcu_bundle, tmp_path))
    run("aarch64-linux-gnu-gcc", "-static", "-O2", "-o", "program", "main.c", *SOURCES, cwd=folder)
    answers = mcu_bundle / "golden" / "outputs.target.int8.bin"
    assert run("qemu-aarch64", "-cpu", "cortex-a53", "./program", answers, cwd=folder).split() == ["0", "10", "0", "0"]


CORTEX_M_MAIN = """
#include "selftest.h"

/* Semihosting: the debugger's console and exit, here those of the emulator. */
static int semihosting(int operation, const void *argument) {
    register int r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}
static colours_input_t input[COLOURS_INPUT_SIZE];
static colours_output_t output[COLOURS_OUTPUT_SIZE];
static int next;
/* Stands for a runtime: the recorded answer of each vector, one step off. */
static int run(const colours_input_t *in, colours_output_t *out, void *context) {
    extern const colours_output_t recorded[COLOURS_SELFTEST_NUM_VECTORS][COLOURS_OUTPUT_SIZE];
    int i;
    (void)in;
    for (i = 0; i < COLOURS_OUTPUT_SIZE; i++)
        out[i] = (colours_output_t)(recorded[next][i] + *(const int *)context);
    next++;
    return 0;
}
static void check(int off, colours_selftest_status expected) {
    colours_selftest_report report;
    next = 0;
    if (colours_selftest(run, &off, input, output, &report) != expected)
        semihosting(0x04, "wrong status\\n");
}
void reset(void) {
    colours_selftest_report report;
    semihosting(0x04, colours_selftest(NULL, NULL, input, output, &report) == 0 ? "passed\\n" : "failed\\n");
    check(0, COLOURS_SELFTEST_PASSED);
    check(COLOURS_TOLERANCE_STEPS + 1, COLOURS_SELFTEST_OUT_OF_TOLERANCE);
    semihosting(0x04, "done\\n");
    semihosting(0x18, (const void *)0x20026); /* ADP_Stopped_ApplicationExit */
    for (;;) { }
}
__attribute__((section(".vectors"), used)) static const void *const vector_table[2] = {
    (const void *)0x20040000, (const void *)reset};
"""
CORTEX_M_LINK = """
MEMORY { FLASH (rx) : ORIGIN = 0x00000000, LENGTH = 4M RAM (rwx) : ORIGIN = 0x20000000, LENGTH = 4M }
SECTIONS {
  .text : { KEEP(*(.vectors)) *(.text*) *(.rodata*) } > FLASH
  .bss (NOLOAD) : { *(.bss*) *(COMMON) } > RAM
  /DISCARD/ : { *(.ARM.exidx*) }
}
"""


def test_self_test_on_an_emulated_cortex_m(mcu_bundle: Path, tmp_path: Path) -> None:
    """Alignment, CRC, preprocessing and tolerance logic on qemu's MPS2 board with a Cortex-M3; no C library at all."""
    need("arm-none-eabi-gcc")
    need("qemu-system-arm")
    folder = c_of(mcu_bundle, tmp_path)
    answers = np.load(mcu_bundle / "golden" / "outputs.target.int8.npy")
    rows = ", ".join("{" + ", ".join(map(str, row)) + "}" for row in answers.tolist())
    (folder / "recorded.c").write_text(
        '#include "selftest.h"\n'
        "extern const colours_output_t recorded[COLOURS_SELFTEST_NUM_VECTORS][COLOURS_OUTPUT_SIZE];\n"
        f"const colours_output_t recorded[COLOURS_SELFTEST_NUM_VECTORS][COLOURS_OUTPUT_SIZE] = {{{rows}}};\n"
    )
    (folder / "main.c").write_text(CORTEX_M_MAIN)
    (folder / "link.ld").write_text(CORTEX_M_LINK)
    machine = [*CORTEX_M, "-nostdlib", "-Os"]
    files = ["main.c", "recorded.c", "model.S", "model_io.c", "selftest.c"]
    run("arm-none-eabi-gcc", *machine, "-I..", "-T", "link.ld", "-o", "firmware.elf", *files, "-lgcc", cwd=folder)
    said = subprocess.run(
        ["qemu-system-arm", "-M", "mps2-an385", "-kernel", "firmware.elf", "-nographic", "-monitor", "none",
         "-semihosting-config", "enable=on,target=native"],
        cwd=folder, capture_output=True, text=True, timeout=120, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert (said.stdout + said.stderr).split() == ["passed", "done"]


def test_an_input_of_16_bits_is_made_of_pixels(
    tiny_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the first layers have 16 bits, everything that describes the network says so, and the self-test passes."""
    need("gcc")
    monkeypatch.setattr(prefix, "MOST_MACS", 0.9)
    onnx.save(lopsided_network(), tmp_path / "colours.onnx")
    (tmp_path / "board.toml").write_text(LOPSIDED_MCU)
    bundle = tmp_path / "out"
    options = ["--target", str(tmp_path / "board.toml"), "--precision", "mixed", "--with", "vectors"]
    assert (
        main(["build", str(tmp_path / "colours.onnx"), "--data", str(tiny_images), "--output", str(bundle), *options])
        == 0
    )
    assert main(["verify", str(bundle)]) == 0
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert [tensor["dtype"] for tensor in manifest["contract"]["inputs"]] == ["int16"]
    assert [tensor["dtype"] for tensor in manifest["contract"]["outputs"]] == ["int8"]
    assert manifest["target"]["beside_int8"] == "INT16"
    assert any("compute in 16 bits" in note for note in manifest["notes"])
    assert "INT8 and INT16 network" in (bundle / "README.md").read_text()
    sources = host_main(bundle / "c")
    header = (sources / "model_io.h").read_text()
    assert "typedef int16_t colours_input_t;" in header
    assert "X(Quantize)" in header
    assert f"COLOURS_ARENA_BYTES {manifest['memory']['arena_with_margin_bytes']}u" in header
    run("gcc", "-std=c11", *WARNINGS, "-o", tmp_path / "program", "main.c", *SOURCES, cwd=sources)
    (answers,) = (bundle / "golden").glob("outputs.target.*.npy")
    np.load(answers).tofile(tmp_path / "answers.bin")
    said = run(tmp_path / "program", "answers.bin", "inputs.bin", cwd=tmp_path)
    assert tuple(map(int, said.split()))[::2] == (PASSED, 0)
    (inputs,) = (bundle / "golden").glob("inputs.*.bin")
    assert (tmp_path / "inputs.bin").read_bytes() == inputs.read_bytes()


def test_names_and_literals() -> None:
    assert c_prefix("MobileNet V3-small") == "mobilenet_v3_small"
    assert c_prefix("3net") == "model_3net"
    assert c_prefix("日本") == "model"
    assert TfliteFormat().resolver_name("DEPTHWISE_CONV_2D") == "DepthwiseConv2D"
    assert TfliteFormat().resolver_name("PADV2") == "PadV2"
    assert float.fromhex(c_float(0.1).removesuffix("f")) == float(np.float32(0.1))
    assert c_float(0.0) == "0x0.0p+0f"
    assert c_string('a"b\\é*/') == '"a\\042b\\134\\303\\251\\052\\057"'
    assert "*/" not in comment("evil */ int main")
    assert markdown("a|b <i>") == "a\\|b \\<i\\>"
    words = word_array(np.arange(1, 18, dtype=np.uint8))
    assert words == "0x0807060504030201,0x100f0e0d0c0b0a09,0x0000000000000011,"
    assert word_array(np.zeros(48, np.uint8)).splitlines()[1] == "0x0000000000000000,"
    assert word_array(np.zeros(0, np.uint8)) == ""
