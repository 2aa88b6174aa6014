"""Whatever ends a build, in whichever stage, leaves nothing behind; the next run goes on and makes the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

STAGES = [
    "build",
    "importonnx",
    "simplify",
    "check",
    "calibrate",
    "quantize",
    "compile",
    "answer",
    "score",
    "golden",
    "output",
]
"""Scratch folders in their order: of the whole build, of its stages, and of the writing of the bundle."""

BUILDS = """
    import json, os, signal, sys, threading
    from pathlib import Path
    import edgec.pipeline.quantize.quantizer, edgec.pipeline.report.page, edgec.targets.onnxruntime
    import onnx, onnxruntime, scipy.stats
    from edgec.pipeline.cli import main
    from edgec.pipeline.core import scratch

    arguments, (numbers, moments, whole) = sys.argv[1:-1], json.loads(sys.argv[-1])
    tmp, ends, make = Path(os.environ["EDGEC_CACHE"], "tmp"), [], scratch._make

    def making(root, folder):
        made = make(root, folder)
        if folder.name.startswith(f"edgec-{moment}-"):
            threading.Timer(0 if moment == moments[-1] else 0.005, os.kill, (os.getpid(), number)).start()
        return made

    def build(folder, **settings):
        child = os.fork()
        if child == 0:
            os.environ.update(settings)
            sys.argv[1:] = [*arguments, folder]
            sys.exit(main())  # as a process of its own, with its signals
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert main(["explain", *arguments[1:-2]]) == 0  # whatever is imported and read once is there for all forks
    scratch._make = making
    for index, moment in enumerate(moments):
        number = numbers[index % len(numbers)]
        ends.append([moment, number, build("out")])
        left = sorted(map(str, (*tmp.iterdir(), *Path().glob(".edgec-*"), *Path(os.environ["TMPDIR"]).iterdir())))
        if number != signal.SIGKILL and left:
            raise SystemExit(f"{moment}: {left}")
    assert not Path("out").exists()
    moment = None
    for folder, store in whole.items():
        assert build(folder, EDGEC_CACHE=store) == 0
    print(json.dumps(ends))
"""
"""Each build sends itself a signal a little after a folder was made; the last ones are left alone."""


def program(text: str, *arguments: object, **options: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(text), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)  # type: ignore[call-overload, no-any-return]


@pytest.mark.parametrize("numbers", [[signal.SIGINT, signal.SIGTERM, signal.SIGHUP], [signal.SIGKILL]], ids=str)
def test_a_build_ended_in_every_stage(
    numbers: list[signal.Signals],
    tmp_path: Path,
    colours_toml: Path,
    tiny_images: Path,
    own_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One store: each run ends in the next stage. After them one that is left alone makes what a fresh store makes."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    arguments = [
        "build",
        colours_toml,
        "--target",
        "onnxruntime",
        "--data",
        tiny_images,
        "-q",
        "--no-measure",
        "--output",
    ]
    whole = {"out": str(own_cache), "again": str(tmp_path / "fresh")}
    process = program(BUILDS, *arguments, json.dumps([numbers, STAGES, whole]), cwd=tmp_path)
    out, err = process.communicate(timeout=500)
    assert process.returncode == 0, err
    for moment, number, end in json.loads(out.splitlines()[-1]):
        assert end == (-number if number == signal.SIGKILL else 130 if number == signal.SIGINT else 143), moment
    said = [line for line in err.splitlines() if line]
    assert len(said) == (0 if numbers == [signal.SIGKILL] else len(STAGES)), err
    assert all(line.endswith("finished stages are kept, the next run continues there") for line in said)
    assert not list((own_cache / "tmp").iterdir())
    assert not list((tmp_path / "temporary").iterdir())
    assert not list(tmp_path.glob(".edgec-*"))
    for file in ("manifest.json", "SHA256SUMS"):
        assert (tmp_path / "out" / file).read_bytes() == (tmp_path / "again" / file).read_bytes()


BUSY = {
    "native code": "import hashlib; hashlib.pbkdf2_hmac('sha512', b'x', b'x', 2_000_000_000)",
    "a child": "import subprocess; subprocess.run([sys.executable, '-c', CHILD])",
    "a callback of native code": "\n".join(  # a C library that calls Python: an exception there cannot pass
        [
            "import ctypes",
            "kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)",
            "data = (ctypes.c_int * 100_000)(*range(100_000))",
            "while True: ctypes.CDLL(None).qsort(data, 100_000, 4, kind(lambda one, other: 0))",
        ]
    ),
    "a lock": "import threading; threading.Lock().acquire(); event = threading.Event(); event.wait()",
    "Python": "while True: pass",
    "what a library says": "import os; os.dup2(os.open(os.devnull, os.O_WRONLY), 2); time.sleep(600)",  # kept from view
    "an except clause": "\n".join(
        ["while True:", "    try:", "        time.sleep(1)", "    except BaseException:", "        pass"]
    ),
}
CHILD = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("busy", BUSY)
def test_it_ends_whatever_it_is_doing(busy: str, number: signal.Signals, own_cache: Path) -> None:
    text = "\n".join(
        [
            "import sys, time",
            "from edgec.pipeline.cli._ending import end_cleanly",
            "from edgec.pipeline.core.scratch import scratch",
            f"CHILD = {CHILD!r}",
            "end_cleanly()",
            "with scratch('busy') as folder:",
            "    (folder / 'file').write_text('x')",
            "    print('ready', flush=True)",
            textwrap.indent(BUSY[busy], "    "),
        ]
    )
    process = program(text)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    child = int(process.stdout.readline()) if busy == "a child" else None
    time.sleep(0.2)
    process.send_signal(number)
    process.send_signal(number)  # an impatient user
    _, err = process.communicate(timeout=60)
    assert process.returncode == (130 if number == signal.SIGINT else 143)
    words = "interrupted" if number == signal.SIGINT else f"ended by {number.name}"
    assert err == f"{words}; finished stages are kept, the next run continues there\n"
    assert not list((own_cache / "tmp").iterdir())
    if child is not None:
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)


def test_a_signal_that_the_shell_ignores_stays_ignored(own_cache: Path) -> None:
    """As ``nohup`` wants it."""
    text = """
        import os, signal
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        from edgec.pipeline.cli._ending import end_cleanly
        end_cleanly()
        os.kill(os.getpid(), signal.SIGHUP)
        print("alive")
    """
    out, err = program(text).communicate(timeout=60)
    assert (out, err) == ("alive\n", "")


def test_a_signal_while_modules_are_imported(own_cache: Path) -> None:
    """Nothing that ends the process is imported then: what it needs may be half there."""
    text = """
        import os, signal, sys
        from edgec.pipeline.cli._ending import end_cleanly

        class Finder:
            def find_spec(self, name, path=None, target=None):
                sys.meta_path.remove(self)
                os.kill(os.getpid(), signal.SIGTERM)

        end_cleanly()
        for name in [name for name in sys.modules if name.startswith("edgec.") and not name.endswith("_ending")]:
            sys.modules[name] = None  # whoever imports it now fails
        sys.meta_path.insert(0, Finder())
        import wave
    """
    process = program(text)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err.count("\n")) == (143, 1), err
