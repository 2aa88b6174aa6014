"""The transport, against a real sshd: what is sent, what is checked, and what happens when it breaks."""

from __future__ import annotations

import gc
import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import asyncssh
import psutil
import pytest
from boards import WAITS, Board, Network, refused, script, start_board, stop_board, visit

from edgec.pipeline.bundle.read import open_bundle
from edgec.pipeline.bundle.records import read_latency
from edgec.pipeline.cli import main
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.stage import file_sha256
from edgec.pipeline.forms.device import open_device
from edgec.pipeline.forms.measure import NUM_BLOCKS, FirstAnswer
from edgec.targets.devices.ssh import CHUNK, SshDevice
from edgec.targets.tflite.device import DeviceRunner
from edgec.targets.tflite.inference import describe, first_answer, measure_latency, predict

pytest_plugins = ["device_fixtures"]

BIG = 12 * CHUNK + 5


@pytest.fixture
def big_file(tmp_path: Path) -> Path:
    path = tmp_path / "big.bin"
    path.write_bytes(os.urandom(BIG))
    return path


# ---- what is sent


def test_an_upload_is_named_by_its_digest_and_sent_once(board: Board, big_file: Path) -> None:
    sent: list[tuple[int, int]] = []
    there = board.device().push(big_file, lambda done, total: sent.append((done, total)))
    assert there == str(board.home / ".cache/edgec" / f"{file_sha256(big_file)}.bin")
    assert Path(there).read_bytes() == big_file.read_bytes()
    assert sent[-1] == (BIG, BIG)
    assert [done for done, _ in sent] == sorted(done for done, _ in sent)
    sent.clear()
    assert board.device().push(big_file, lambda done, total: sent.append((done, total))) == there
    assert sent == []
    assert (board.home / ".cache/edgec").stat().st_mode & 0o077 == 0


def test_a_script_answers_with_its_last_line(board: Board, tmp_path: Path) -> None:
    text = (
        "import json, sys\nprint('chatter')\nprint(json.dumps({'done': 1, 'total': 2}))\n"
        "print(json.dumps({'arguments': sys.argv[1:]}))\n"
    )
    seen: list[tuple[int, int]] = []
    arguments = ["a b", "$HOME", "; touch broken", "--x='y'"]
    answer = board.device().run(script(tmp_path, text), arguments, 30, lambda *progress: seen.append(progress))
    assert answer == {"arguments": arguments}
    assert seen == [(1, 2)]


def test_the_way_of_a_jetson(board: Board, tmp_path: Path) -> None:
    """Push a model, build there (a stand-in for TensorRT that doubles the file), bring the engine home."""
    build = (
        "import json, sys\ndata = open(sys.argv[1], 'rb').read()\nopen(sys.argv[1] + '.engine', 'wb').write(2 * data)\n"
    )
    text = build + "print(json.dumps({'engine': sys.argv[1] + '.engine'}))\n"
    (tmp_path / "model.onnx").write_bytes(b"model")
    device = board.device()
    answer = device.run(script(tmp_path, text), [device.push(tmp_path / "model.onnx")], 30)
    device.pull(answer["engine"], tmp_path / "model.engine")
    assert (tmp_path / "model.engine").read_bytes() == b"modelmodel"
    assert not Path(answer["engine"]).exists()
    with refused("remote-failed"):
        device.pull(answer["engine"], tmp_path / "again.engine")
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "cache") == [
        "model.engine",
        "model.onnx",
        "script.py",
    ]


# ---- who may be talked to


def test_an_unknown_host_is_refused(board: Board, big_file: Path) -> None:
    known = board.client / ".ssh/known_hosts"
    kept = known.read_text()
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    try:
        for content in ("", f"[127.0.0.1]:{board.port} {other}"):
            known.write_text(content)
            with refused("unknown-host-key"):
                board.device().push(big_file)
        known.unlink()
        with refused("unknown-host-key"):
            board.device().push(big_file)
    finally:
        known.write_text(kept)


def test_a_key_that_the_board_does_not_know_is_refused(
    board: Board, tmp_path: Path, big_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home/.ssh").mkdir(parents=True)
    shutil.copy(board.client / ".ssh/known_hosts", tmp_path / "home/.ssh/known_hosts")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with refused("auth-failed"):
        board.device().push(big_file)
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(tmp_path / "home/.ssh/id_ed25519")
    with refused("auth-failed"):
        board.device().push(big_file)


@pytest.mark.parametrize("name", ["known_hosts", "id_ed25519"])
@pytest.mark.parametrize("content", ["garbage \xff\n@@@\n", "Port x\n", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n"])
def test_files_of_ssh_that_are_none(
    board: Board, tmp_path: Path, big_file: Path, name: str, content: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user's own, damaged: named, and never believed."""
    shutil.copytree(board.client / ".ssh", tmp_path / "home/.ssh")
    (tmp_path / "home/.ssh" / name).write_text(content, encoding="latin-1")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with pytest.raises(EdgecError) as caught:
        board.device().push(big_file)
    assert caught.value.code in ("bad-ssh-files", "unknown-host-key", "auth-failed")


def test_a_configuration_that_is_none_is_named(
    board: Board, tmp_path: Path, big_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(board.client / ".ssh", tmp_path / "home/.ssh")
    (tmp_path / "home/.ssh/config").write_bytes(b"Port x\n")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with refused("bad-ssh-files"):
        board.device().push(big_file)


def test_nobody_there(board: Board, big_file: Path) -> None:
    with refused("host-unreachable"):
        replace(board.device(), port=1).push(big_file)
    with refused("host-unreachable"):
        replace(board.device(), host="no-such-board.invalid").push(big_file)


def test_the_extra_is_not_installed(big_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgec.targets.devices.ssh.find_spec", lambda name: None)
    with refused("missing-ssh"):
        SshDevice("board").push(big_file)


# ---- when it breaks


def test_a_lost_upload_resumes_where_it_broke_off(board: Board, big_file: Path) -> None:
    sent: list[int] = []

    def cut_once(done: int, total: int) -> None:
        if len(sent) == 5:
            board.cut()
        sent.append(done)

    there = board.device().push(big_file, cut_once)
    assert Path(there).read_bytes() == big_file.read_bytes()
    assert sent[-1] == BIG
    assert len(sent) < len(set(sent)) + 3  # a chunk or two went twice, not the whole file


def test_a_line_that_keeps_breaking_is_an_error_and_the_next_try_resumes(
    board: Board, big_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sent: list[int] = []

    def cut_always(done: int, total: int) -> None:
        sent.append(done)
        board.cut()

    with refused("connection-lost"):
        board.device().push(big_file, cut_always)
    gc.collect()
    assert "never retrieved" not in caplog.text  # one error for the user, and no traceback of a write under way
    assert f"{file_sha256(big_file)}.bin" not in board.uploads()
    assert f"{file_sha256(big_file)}.bin.part" in board.uploads()
    later: list[int] = []
    there = board.device().push(big_file, lambda done, total: later.append(done))
    assert Path(there).read_bytes() == big_file.read_bytes()
    assert min(later) > CHUNK


def test_a_lost_run_is_an_error_and_leaves_nothing_running(board: Board, tmp_path: Path) -> None:
    orphans: list[psutil.Process] = []

    def cut(done: int, total: int) -> None:
        orphans.extend(board.commands())
        board.cut()

    with refused("connection-lost"):
        board.device().run(script(tmp_path, WAITS), [], 30, cut)
    assert orphans
    assert not psutil.wait_procs(orphans, timeout=10)[1]


def test_a_run_that_takes_too_long_is_stopped(board: Board, tmp_path: Path) -> None:
    started: list[psutil.Process] = []
    for limit_s in (2.0, 30.0):  # on a busy machine the script may not even start within two seconds
        with refused("remote-timeout"):
            board.device().run(script(tmp_path, WAITS), [], limit_s, lambda *_: started.extend(board.commands()))
        if started:
            break
    assert started
    assert not psutil.wait_procs(started, timeout=10)[1]


def test_a_disk_that_hangs_is_not_waited_for(board: Board, big_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgec.targets.devices.ssh.CHUNK_TIMEOUT_S", 1.0)

    def hang(done: int, total: int) -> None:
        for process in board.sessions():
            if "internal-sftp" in " ".join(process.cmdline()):
                process.suspend()

    with refused("remote-timeout"):
        board.device().push(big_file, hang)
    for process in board.sessions():
        process.resume()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("raise SystemExit('no driver')", "no driver"),
        ("print('no json')", "no answer"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "status"),
        ('print(\'{"error": "something-new", "message": "odd"}\'); raise SystemExit(1)', "odd"),
    ],
)
def test_a_script_that_fails(board: Board, tmp_path: Path, text: str, said: str) -> None:
    with refused("remote-failed") as caught:
        board.device().run(script(tmp_path, text), [], 30)
    assert said in caught.value.message


def test_no_such_python(board: Board, tmp_path: Path) -> None:
    with refused("missing-remote-runtime"):
        board.device("no-such-python3").run(script(tmp_path, "print('{}')"), [], 30)


def test_a_damaged_upload_is_noticed_deleted_and_sent_again(board: Board, network: Network) -> None:
    device = board.device()
    there = Path(device.push(network.path))
    content = bytearray(there.read_bytes())
    content[len(content) // 2] ^= 1
    there.write_bytes(content)
    with refused("corrupt-upload"):
        predict(device, network.path, network.inputs)
    assert (predict(device, network.path, network.inputs)[0] == network.outputs).all()


def test_no_room_before_an_upload(board: Board, big_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nearly_full(*_: object) -> SimpleNamespace:
        return SimpleNamespace(bavail=2, frsize=4096)

    monkeypatch.setattr(asyncssh.SFTPClient, "statvfs", nearly_full)
    with refused("remote-disk-full"):
        board.device().push(big_file)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk takes root")
def test_a_disk_that_fills_up(board: Board, big_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real full disk under the upload folder; the server's forecast is taken away so that writing itself fails."""
    folder = board.home / ".cache"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        with refused("remote-disk-full"):
            board.device().push(big_file)
        real, calls = asyncssh.SFTPClient.statvfs, []

        async def blind_at_first(self: asyncssh.SFTPClient, path: str) -> object:
            calls.append(path)
            return SimpleNamespace(bavail=1 << 40, frsize=1) if len(calls) == 1 else await real(self, path)

        monkeypatch.setattr(asyncssh.SFTPClient, "statvfs", blind_at_first)
        with refused("remote-disk-full"):
            board.device().push(big_file)
        assert len(calls) == 2
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_folder_that_cannot_be_made(board: Board, big_file: Path) -> None:
    shutil.rmtree(board.home / ".cache", ignore_errors=True)
    (board.home / ".cache").write_text("a file")
    try:
        with refused("remote-refused"):
            board.device().push(big_file)
    finally:
        (board.home / ".cache").unlink()


def test_a_server_without_sftp(tmp_path: Path, big_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = start_board(tmp_path / "bare", subsystem=False)
    try:
        visit(bare, monkeypatch)
        with refused("remote-refused"):
            bare.device().push(big_file)
    finally:
        stop_board(bare)


# ---- what a board can tell

BENCHMARK_MODEL = """
echo 'INFO: count=50 first=1300 curr=1240 min=1200 max=1900 avg=1.31e+03 std=25 p5=1210 median=1239 p95=1470'
echo 'INFO: Inference timings in us: Init: 5579, First inference: 1300, Warmup (avg): 1300, Inference (avg): 1310'
"""


def test_a_board_without_a_python_runtime(board: Board, network: Network) -> None:
    """Outputs take a Python runtime; latency is content with ``benchmark_model`` (here a stand-in with its lines)."""
    board.install("bare-python3", f'PATH={board.bin} exec {sys.executable} -I -S "$@"')
    device = board.device("bare-python3")
    with refused("missing-remote-runtime"):
        measure_latency(device, network.path)
    board.install("benchmark_model", BENCHMARK_MODEL)
    measured = measure_latency(device, network.path, threads=2)
    assert (measured.latency.p50_ms, measured.latency.num_samples, measured.latency.threads) == (1.239, 50, 2)
    assert measured.latency.p99_ms is None
    assert "mean 1.310 ms" in measured.latency.note
    assert measure_latency(device, network.path, network.path).no_float == "benchmark_model times one file at a time"
    assert first_answer(device, network.path) == FirstAnswer()
    assert measured.board.runtime == "benchmark_model"
    with refused("missing-remote-runtime"):
        predict(device, network.path, network.inputs)
    board.install("benchmark_model", "echo cannot open model; exit 1")
    with refused("unusable-artifact"):
        measure_latency(device, network.path)


def test_throttling_is_named(board: Board) -> None:
    assert describe(board.device())[1].throttled is None
    board.install("vcgencmd", "echo throttled=0x50005")
    throttled = describe(board.device())[1].throttled
    assert throttled == ("under-voltage", "throttled", "under-voltage since boot", "throttled since boot")


def test_the_clock_decides_how_many_samples(board: Board, network: Network) -> None:
    measured = measure_latency(board.device(), network.path, budget_s=0.5)
    latency = measured.latency
    assert latency.num_samples == 1000  # a tiny network is done in microseconds
    assert 0 < latency.p50_ms <= latency.p90_ms <= latency.p99_ms
    assert latency.num_warmup > 0
    assert measured.board.num_cores == len(os.sched_getaffinity(0))


def test_a_float_file_that_the_board_refuses_is_no_reason_to_time_nothing(
    board: Board, network: Network, tmp_path: Path
) -> None:
    broken = tmp_path / "float.tflite"
    broken.write_bytes(network.path.read_bytes()[:1000])
    measured = measure_latency(board.device(), network.path, broken, budget_s=0.1)
    assert measured.latency.p50_ms is not None
    assert measured.in_float is None
    assert measured.no_float.startswith("the board's runtime refuses the file: ")


def test_a_board_that_float_is_too_much_for_is_timed_without(board: Board, network: Network) -> None:
    """Killed as by a system without memory, where the second file is there; and the reason is told."""
    kill = 'case "$*" in *--beside*) kill -9 $$;; esac'
    board.install("small-python3", f'{kill}; PATH={board.bin}:$PATH exec {sys.executable} "$@"')
    runner = DeviceRunner(board.device("small-python3"), network.path)
    latency = runner.cost(network.path).latency
    assert (latency.status, latency.beside_float) == ("measured", None)
    assert latency.no_float.startswith("with the float network beside it: ")
    board.install("broken-python3", "kill -9 $$")
    with refused("remote-failed"):
        DeviceRunner(board.device("broken-python3"), network.path).cost(network.path)


def test_a_build_for_a_board_compares_with_float_there(
    board: Board,
    shared_store: None,
    colours_toml: Path,
    tiny_images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Two files, in turns, in one process there; time and memory of each one's first answer in a process of its own."""
    bundle, on = tmp_path / "out", f"{board.device().name}{board.bin}/python3"
    given = ["build", str(colours_toml), "--target", "arm", "--data", str(tiny_images), "--output", str(bundle)]
    assert main([*given, "--on", on]) == 0
    said = capsys.readouterr().out
    latency = open_bundle(bundle).manifest.latency
    assert len(read_latency(bundle).medians_ms) == latency.num_blocks == NUM_BLOCKS
    beside = latency.beside_float
    assert beside is not None
    assert beside.low <= beside.speedup <= beside.high
    assert beside.float_p50_ms > 0
    for load_ms, peak in (
        (latency.load_ms, latency.peak_rss_bytes),
        (beside.float_load_ms, beside.float_peak_rss_bytes),
    ):
        assert load_ms is not None
        assert load_ms > 0
        assert peak is not None
        assert 100_000 < peak < 1e9
    for text in (said, (bundle / "README.md").read_text(), (bundle / "report.html").read_text()):
        assert beside.words() in text
    assert {path.suffix for path in board.uploads().values()} >= {".tflite"}
    assert len([path for path in board.uploads().values() if path.suffix == ".tflite"]) >= 2


def test_a_board_from_the_command_line(board: Board, capsys: pytest.CaptureFixture[str]) -> None:
    """The address names the interpreter, and what is shown is the board's."""
    spec = f"{board.device().name}{board.bin}/python3"
    assert open_device(spec) == board.device()
    assert main(["device", "show", spec, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["machine"] == platform.machine()
    (board.client / ".ssh/known_hosts").rename(board.client / "kept")
    try:
        assert main(["device", "show", spec]) == 1
        assert "error[unknown-host-key]" in capsys.readouterr().err
    finally:
        (board.client / "kept").rename(board.client / ".ssh/known_hosts")


# ---- addresses


@pytest.mark.parametrize(
    ("spec", "device"),
    [
        ("ssh://pi@rpi5", SshDevice("rpi5", "pi")),
        (
            "ssh://pi@192.168.1.7:2222/home/pi/venv/bin/python",
            SshDevice("192.168.1.7", "pi", 2222, "/home/pi/venv/bin/python"),
        ),
        ("ssh://MyAlias", SshDevice("MyAlias")),
        ("ssh://root@[fe80::1]:22", SshDevice("fe80::1", "root", 22)),
    ],
)
def test_addresses(spec: str, device: SshDevice) -> None:
    assert open_device(spec) == device
    assert spec.startswith(device.name)


@pytest.mark.parametrize(
    "spec",
    [
        "",
        "rpi5",
        "usb:1",
        "ssh:rpi5",
        "ssh://",
        "ssh://rpi5:ssh",
        "ssh://a@b?x=1",
        "ssh://pi:secret@rpi5",
        "qemu:m4",
        "qemu:",
    ],
)
def test_addresses_that_are_none(spec: str) -> None:
    with refused("bad-device") as caught:
        open_device(spec)
    assert "secret" not in str(caught.value)
