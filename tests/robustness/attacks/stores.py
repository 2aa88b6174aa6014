"""Builds that are interrupted, neighbours on one store, and damage to what the store keeps."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from pathlib import Path

from attacks.trial import Done, Trial, survived

WHOLE_S = 25.0  # a whole build, at most; later instants find it finished
HEALED = frozenset({0, 1})
RECIPES = ("mcu", "cpu", "arm", "mcu")


def kill(trial: Trial) -> str:
    """The next run ends well, with the bytes of a build that nobody killed, and sweeps what was left."""
    process = _start(trial)
    _after_a_while(process, trial)
    process.kill()
    process.communicate()
    if half := _half_made(trial.folder / "out"):
        return half
    return _to_the_end(trial)


def sigint(trial: Trial) -> str:
    """130, one line, nothing left."""
    return _interrupted(trial, signal.SIGINT, 130)


def sigterm(trial: Trial) -> str:
    """143, one line, nothing left."""
    return _interrupted(trial, signal.SIGTERM, 143)


def sighup(trial: Trial) -> str:
    """143, one line, nothing left."""
    return _interrupted(trial, signal.SIGHUP, 143)


def store_bytes(trial: Trial) -> str:
    """Damage is named or healed, never built into a bundle; the hinted remedy helps."""
    store = trial.folder / "cache"
    shutil.copytree(trial.material / "store", store)
    files = sorted(path for path in store.rglob("*") if path.is_file() and path.stat().st_size)
    victim = trial.rng.choice(files)
    content = bytearray(victim.read_bytes())
    at = trial.rng.randrange(len(content))
    content[at] = trial.rng.choice((content[at] ^ 1 << trial.rng.randrange(8), 0xFF, 0))
    victim.chmod(0o644)
    victim.write_bytes(content)
    done = trial.run("build", *_recipe(trial))
    if wrong := survived(done, HEALED):
        return wrong
    if done.status == 1 and (wrong := survived(trial.run("cache", "clear"), frozenset({0}))):
        return f"cache clear: {wrong}"
    return _to_the_end(trial)


def builders(trial: Trial) -> str:
    """Eight at once, half of them killed; then every recipe ends well and gives a bundle that verifies."""
    processes = [trial.start("build", *_recipe(trial, target, f"out{i}")) for i, target in enumerate(RECIPES * 2)]
    for process in processes[::2]:
        time.sleep(trial.rng.random() * 4)
        process.kill()
    ended = [(process, *process.communicate(timeout=300)) for process in processes]
    for process, out, err in ended[1::2]:
        if wrong := survived(Done(process.returncode, out, err, 0.0, 0), frozenset({0})):
            return f"a builder that nobody killed: {wrong}"
    for i, target in enumerate(RECIPES):
        if wrong := survived(trial.run("build", *_recipe(trial, target, f"last{i}")), frozenset({0})):
            return f"after the kills: {wrong}"
        if wrong := survived(trial.run("verify", trial.folder / f"last{i}", "--no-run"), frozenset({0})):
            return f"after the kills: {wrong}"
    return ""


def _recipe(trial: Trial, target: str = "mcu", output: str = "out") -> list[object]:
    given = ("--target", target, "--data", trial.material / "data", "--output", trial.folder / output)
    return [trial.material / "model.toml", *given, "--no-measure"]


def _start(trial: Trial) -> subprocess.Popen[str]:
    """A build whose stages are found in a store up to a random one, so that late stages are met as often as early."""
    if trial.rng.random() < 0.5:
        shutil.copytree(trial.material / "store", trial.folder / "cache")
    return trial.start("build", *_recipe(trial))


def _after_a_while(process: subprocess.Popen[str], trial: Trial) -> None:
    try:
        process.wait(trial.rng.random() * (3.0 if (trial.folder / "cache" / "results").exists() else WHOLE_S))
    except subprocess.TimeoutExpired:
        return


def _interrupted(trial: Trial, number: signal.Signals, status: int) -> str:
    process = _start(trial)
    time.sleep(0.3)  # Python itself is up
    _after_a_while(process, trial)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    if process.returncode == 0:
        return ""  # it had finished
    if process.returncode != status or "Traceback" in err:
        return f"status {process.returncode}: {err.strip()[-200:]}"
    lines = [line for line in err.splitlines() if "interrupted" in line or "terminated" in line or "ended" in line]
    left = trial.residue() or _half_made(trial.folder / "out")
    return left or ("" if lines else f"said: {err.strip()[-200:]!r} {out[-80:]!r}")


def _to_the_end(trial: Trial) -> str:
    """A build that runs to its end makes the bundle of the material, and leaves nothing beside it."""
    done = trial.run("build", *_recipe(trial))
    if wrong := survived(done, frozenset({0})):
        return f"run to the end: {wrong}"
    for path in sorted((trial.material / "mcu").rglob("*")):
        name = path.relative_to(trial.material / "mcu").as_posix()
        other = trial.folder / "out" / name
        if path.is_file() and not name.startswith("result.json") and other.read_bytes() != path.read_bytes():
            return f"other bytes in {name}"
    beside = sorted(path.name for path in trial.folder.glob(".out.*"))
    inside = sorted(path.name for path in (trial.folder / "cache" / "tmp").glob("*"))
    return f"left behind: {beside + inside}" if beside or inside else trial.residue()


def _half_made(folder: Path) -> str:
    return "half a bundle" if folder.exists() and not (folder / "SHA256SUMS").exists() else ""
