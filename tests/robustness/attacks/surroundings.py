"""Where edgec runs: disks that are full or read-only, folders of others, odd paths, locales and variables."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from attacks.trial import HANGS_S, Trial, survived


def odd_place(trial: Trial) -> str:
    """One of the places below, whichever the seed chooses."""
    return trial.rng.choice(PLACES)(trial)


def full_disk(trial: Trial) -> str:
    """A small disk under the output, the store, or the folder for temporary files."""
    name = trial.rng.choice(("out", "cache", "tmp"))
    size = trial.rng.choice((8, 64, 256, 1024))
    with _small_disk(trial.folder / name, size) as mounted:
        if not mounted:
            return ""
        output = trial.folder / "out" / "bundle" if name == "out" else trial.folder / "bundle"
        return _build(trial, output)


def read_only(trial: Trial) -> str:
    """A folder that cannot be written."""
    place = trial.rng.choice(("/proc/edgec", "/sys/edgec", "/dev/null/edgec", "/proc/self/fd"))
    if trial.rng.random() < 0.5:
        return _build(replace(trial, environment={"EDGEC_CACHE": place}), trial.folder / "out")
    return _build(trial, Path(place))


def foreign_folder(trial: Trial) -> str:
    """A folder of somebody else, as output and as store: not one file of it is touched."""
    theirs = trial.folder / "theirs"
    for name in ("manifest.json", "src/main.js", "tmp/thesis/a.txt", "results/x/y", ".out.old-mine/z", "index"):
        (theirs / name).parent.mkdir(parents=True, exist_ok=True)
        (theirs / name).write_text('{"name": "an extension", "manifest_version": 3}')
        os.utime(theirs / name, (0, 0))
    before = _listing(theirs)
    if trial.rng.random() < 0.5:
        wrong = _build(trial, theirs)
    else:
        within = replace(trial, environment={"EDGEC_CACHE": str(theirs)})
        done = within.run(*trial.rng.choice((("cache", "clear"), ("cache", "list"), ("build", *_recipe(trial)))))
        wrong = survived(done)
    gone = sorted(before.items() - _listing(theirs).items())
    return wrong or (f"touched {gone[0][0]}" if gone else "")


def odd_path(trial: Trial) -> str:
    """Names that are long, spaced, not ASCII, not UTF-8, or full of signs."""
    names = (b"a b", b"caf\xc3\xa9", b"caf\xe9", b"[x]*", b"-rf", b"a\nb", b"x" * 250, b"\x1b[31m", b"y/" * 2400 + b"y")
    return _build(trial, trial.folder / os.fsdecode(trial.rng.choice(names)))


def odd_locale(trial: Trial) -> str:
    """Another locale, time zone, home or temporary folder."""
    chosen = trial.rng.choice(
        (
            {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
            {"LC_ALL": "POSIX", "PYTHONIOENCODING": "ascii"},
            {"LC_ALL": "tr_TR.UTF-8", "TZ": "Pacific/Chatham"},
            {"HOME": "/nonexistent"},
            {"TMPDIR": "/nonexistent"},
            {"COLUMNS": "1", "TERM": "dumb"},
        )
    )
    out = trial.folder / trial.rng.choice(("out", "caf\u00e9"))
    done = replace(trial, environment=chosen, fresh=True).run("build", *_recipe(trial, out))
    wrong = survived(done, frozenset({0, 1}))
    return f"{chosen}: {wrong}" if wrong else ""


def gone_folder(trial: Trial) -> str:
    """The working directory was deleted."""
    here = trial.folder / "gone"
    here.mkdir()
    command = f'cd "{here}" && rmdir "{here}" && exec python -m edgec.pipeline.cli "$@"'
    words = ["verify", str(trial.material / "mcu"), "--no-run"] if trial.rng.random() < 0.5 else ["targets"]
    shell = ["bash", "-c", command, "-", *words]
    done = subprocess.run(shell, env=trial.variables, capture_output=True, text=True, timeout=HANGS_S, check=False)
    fine = done.returncode in (0, 1) and "Traceback" not in done.stderr
    return "" if fine else f"status {done.returncode}: {done.stderr.strip()[-200:]}"


PLACES: tuple[Callable[[Trial], str], ...] = (full_disk, read_only, foreign_folder, odd_path, odd_locale, gone_folder)


def _recipe(trial: Trial, output: Path | None = None) -> list[object]:
    given = ("--target", "mcu", "--data", trial.material / "data", "--output", output or trial.folder / "out")
    return [trial.material / "model.toml", *given, "--no-measure"]


def _build(trial: Trial, output: Path) -> str:
    return survived(trial.run("build", *_recipe(trial, output)))


def _listing(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@contextmanager
def _small_disk(folder: Path, size_kb: int) -> Iterator[bool]:
    """A file system in memory, where this user may mount one."""
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_kb}k", "tmpfs", str(folder)]
    if (
        os.geteuid() != 0
        or shutil.which("mount") is None
        or subprocess.run(mount, capture_output=True, check=False).returncode
    ):
        yield False
        return
    try:
        yield True
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
