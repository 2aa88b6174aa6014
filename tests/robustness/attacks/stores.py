"""Builds that are interrupted, neighbours on one store, and damage to what the store keeps."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

from attacks.trial import Done, Trial, survived

WHOLE_S, REST_S = (1.3, 9.0), (0.8, 4.0)
"""Of a processor: a build of the material in a fork and in a new interpreter, whole and of what is not in a store."""

HEALED = frozenset({0, 1})
RECIPES = ("mcu", "cpu", "arm", "mcu")


def kill(trial: Trial) -> str:
    """The next run ends well, with the bytes of a build that nobody killed, and sweeps what was left."""
    _stopped(trial, signal.SIGKILL)
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
    running = [trial.start("build", *_recipe(trial, target, f"out{i}")) for i, target in enumerate(RECIPES * 2)]
    for one in running[::2]:
        one.send(signal.SIGKILL, trial.rng.random() * WHOLE_S[trial.fresh])
    for one in running[::2]:
        one.wait()
    for one in running[1::2]:
        if wrong := survived(one.wait(), frozenset({0})):
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


def _stopped(trial: Trial, number: signal.Signals) -> Done:
    """A build that gets the signal after a random time; half of them find all stages: the bundle is met as often."""
    found = trial.rng.random() < 0.5
    if found:
        shutil.copytree(trial.material / "store", trial.folder / "cache")
    running = trial.start("build", *_recipe(trial))
    running.send(number, trial.rng.random() * (REST_S if found else WHOLE_S)[trial.fresh])
    return running.wait()


def _interrupted(trial: Trial, number: signal.Signals, status: int) -> str:
    done = _stopped(trial, number)
    if done.status == 0:
        return ""  # it had finished
    if done.status != status or "Traceback" in done.err:
        return f"status {done.status}: {done.err.strip()[-200:]}"
    lines = [line for line in done.err.splitlines() if "interrupted" in line or "ended" in line]
    return _half_made(trial.folder / "out") or ("" if lines else f"said: {done.err.strip()[-200:]!r}")


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
    return f"left behind: {beside + inside}" if beside or inside else ""


def _half_made(folder: Path) -> str:
    return "half a bundle" if folder.exists() and not (folder / "SHA256SUMS").exists() else ""
