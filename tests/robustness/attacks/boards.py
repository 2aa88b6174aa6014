"""A hostile board: a real sshd on loopback whose Python answers what it likes, and broken files in ``~/.ssh``."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import replace
from pathlib import Path

from attacks.mutate import spoilt
from attacks.trial import Trial, survived

DEVICES = Path(__file__).resolve().parents[2] / "targets" / "devices"
FACTS = {
    "board": {
        "model": "x",
        "machine": "m",
        "num_cores": 1,
        "kernel": "k",
        "governor": None,
        "python": "3",
        "runtime": None,
    },
    "state": {"clock_mhz": None, "temperature_c": None, "throttled": None},
}
STATE = FACTS["state"]
TIMES = {"board": FACTS["board"], "before": STATE, "after": STATE, "samples_ms": [1.0, 2.0], "num_warmup": 1}
FLOODS = (
    "import sys\nfor _ in range(2000): sys.stderr.write('x' * 1000000)",
    "import sys\nfor _ in range(2000): sys.stdout.write('x' * 1000000)",
    "for _ in range(3000): print('x' * 100000)",
    "print('[' * 200000)",
    "print('9' * 6000)",
    "import os; os.write(1, os.urandom(100000))",
    "import os; os.write(2, os.urandom(100000)); os._exit(1)",
    "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    'print(\'{"error": "missing-driver", "message": "\\\\u001b]0;x\\\\u0007[/red]"}\'); raise SystemExit(1)',
    'print(\'{"error": ["x"], "message": {}}\'); raise SystemExit(1)',
)
BROKEN = (
    "garbage \xff\n@@@",
    "Port x\n",
    "Match\n",
    "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END",
    "\0" * 100,
    "",
)


def hostile_board(trial: Trial) -> str:
    """An answer that is no answer, outputs that are none, or a login that cannot be."""
    sys.path.insert(0, str(DEVICES))
    from boards import start_board, stop_board

    board = start_board(trial.folder / "board")
    try:
        here = {"HOME": str(board.client), "SSH_AUTH_SOCK": ""}
        hostile = replace(trial, environment=here)
        address = f"{board.device().name}{board.bin}/hostile"
        return _attack(hostile, board.bin / "hostile", board.client / ".ssh", address)
    finally:
        stop_board(board)


def _attack(trial: Trial, program: Path, ssh: Path, address: str) -> str:
    rng, statuses = trial.rng, frozenset({0, 1})
    bundle = trial.material / "mcu"
    match rng.randrange(4):
        case 0:
            _install(program, rng.choice(FLOODS))
            done = trial.run(*rng.choice((("device", "show", address), ("verify", bundle, "--on", address))))
        case 1:
            _install(program, f"print({json.dumps(json.dumps(spoilt(FACTS, rng)))})")
            done = trial.run("device", "show", address)
        case 2:
            answers = (
                spoilt(TIMES, rng),
                {"outputs": rng.choice(("/etc/passwd", "../x", 5, ["a"], None, "a\0b", "/etc"))},
            )
            _install(program, f"print({json.dumps(json.dumps(rng.choice(answers)))})")
            done = trial.run(*rng.choice((("measure", bundle, "--on", address), ("verify", bundle, "--on", address))))
        case _:
            _install(program, f"print({json.dumps(json.dumps(FACTS))})")
            path = ssh / rng.choice(("known_hosts", "id_ed25519", "config"))
            path.write_text(rng.choice(BROKEN), encoding="latin-1")
            done = trial.run("device", "show", address)
    wrong = survived(done, statuses)
    raw = any(byte in done.out + done.err for byte in "\x1b\x07")
    return wrong or ("what the board says reaches the terminal raw" if raw else "")


def _install(program: Path, text: str) -> None:
    """Whatever the script's name and arguments are, this runs."""
    program.write_text(f"#!/bin/sh\nexec {shlex.quote(sys.executable)} -c {shlex.quote(text)}\n")
    program.chmod(0o755)
