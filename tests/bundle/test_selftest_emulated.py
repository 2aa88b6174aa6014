"""The C self-test on an emulated Arm core, against the real LiteRT that runs on that core."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from test_c_sources import SOURCES, need, run

from edgec.targets.devices.qemu import open_emulated

pytest_plugins = ["device_fixtures"]

# Inputs go out on standard output, answers come in on standard input, the verdict goes to standard error.
MAIN = """
#include <stdio.h>
#include "selftest.h"
static int run(const colours_input_t *input, colours_output_t *output, void *context) {
    (void)context;
    fwrite(input, sizeof(*input), COLOURS_INPUT_SIZE, stdout);
    fflush(stdout);
    return fread(output, sizeof(*output), COLOURS_OUTPUT_SIZE, stdin) == COLOURS_OUTPUT_SIZE ? 0 : 7;
}
int main(void) {
    static colours_input_t input[COLOURS_INPUT_SIZE];
    static colours_output_t output[COLOURS_OUTPUT_SIZE];
    colours_selftest_report report;
    colours_selftest(run, NULL, input, output, &report);
    fprintf(stderr, "%d %d %u", (int)report.status, report.vector, (unsigned)report.worst_steps);
    return 0;
}
"""
RUNTIME = """
import sys
import numpy as np
from ai_edge_litert.interpreter import Interpreter

interpreter = Interpreter(sys.argv[1], num_threads=1)
interpreter.allocate_tensors()
source, answer = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
while data := sys.stdin.buffer.read(int(np.prod(source["shape"]))):
    interpreter.set_tensor(source["index"], np.frombuffer(data, np.int8).reshape(source["shape"]))
    interpreter.invoke()
    sys.stdout.buffer.write(interpreter.get_tensor(answer["index"]).tobytes())
    sys.stdout.buffer.flush()
"""


def test_self_test_passes_with_the_runtime_of_the_core(mcu_bundle: Path, tmp_path: Path, aarch64: None) -> None:
    need("aarch64-linux-gnu-gcc")
    need("qemu-aarch64")
    folder = Path(shutil.copytree(mcu_bundle / "c", tmp_path / "c"))
    (folder / "main.c").write_text(MAIN)
    (folder / "runtime.py").write_text(RUNTIME)
    run("aarch64-linux-gnu-gcc", "-static", "-O2", "-o", "program", "main.c", *SOURCES, cwd=folder)
    device = open_emulated("cortex-a72")
    command = [*device.userland.command(device.core), str(folder / "runtime.py"), str(mcu_bundle / "model.tflite")]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=device.userland.environment, stdin=pipe, stdout=pipe) as runtime:
        assert runtime.stdin is not None
        done = subprocess.run(
            ["qemu-aarch64", "-cpu", "cortex-a72", str(folder / "program")],
            stdin=runtime.stdout,
            stdout=runtime.stdin,
            stderr=pipe,
            text=True,
            timeout=300,
            check=True,
        )
        runtime.stdin.close()
    status, vectors, worst = (int(word) for word in done.stderr.split())
    assert (status, vectors) == (0, 10), done.stderr
    assert worst <= 1
