"""The downloader against a server on loopback, well-behaved and not."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.network import models
from edgec.pipeline.network.models.download import URL_VARIABLE, fetch
from edgec.pipeline.network.models.weights import resolve_weights

CONTENT = bytes(range(256)) * 4096  # 1 MiB: several chunks
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class _Server(BaseHTTPRequestHandler):
    """``/good.pth``, ``/changed.pth``, ``/short.pth`` (breaks off half-way), and 404 for the rest."""

    requests: list[str]

    def do_GET(self) -> None:
        type(self).requests.append(self.path)
        if self.path not in ("/good.pth", "/changed.pth", "/short.pth", "/mobilenet_v3_small-047dcff4.pth"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        body = CONTENT[::-1] if self.path == "/changed.pth" else CONTENT
        self.wfile.write(body[: len(body) // 2] if self.path == "/short.pth" else body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    _Server.requests = []
    with ThreadingHTTPServer(("127.0.0.1", 0), _Server) as httpd:
        Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


@pytest.fixture
def no_server() -> str:
    """An address on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def _weights_in(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir() if not file.name.endswith(".lock"))


def test_download_happens_once_and_reports_progress(server: str, tmp_path: Path) -> None:
    reports: list[tuple[int, int]] = []
    first = fetch(f"{server}/good.pth", DIGEST, tmp_path, lambda done, total: reports.append((done, total)))
    second = fetch(f"{server}/good.pth", DIGEST, tmp_path)
    assert first == second
    assert first.read_bytes() == CONTENT
    assert _Server.requests == ["/good.pth"]
    assert reports[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in reports] == sorted({done for done, _ in reports})
    assert _weights_in(tmp_path) == [first.name]


def test_cache_is_beside_the_store(server: str, own_cache: Path) -> None:
    assert fetch(f"{server}/good.pth", DIGEST).parent == own_cache / "weights"


@pytest.mark.parametrize(
    ("name", "code"),
    [("changed.pth", "weights-digest"), ("short.pth", "download-failed"), ("absent.pth", "download-failed")],
)
def test_failure_leaves_nothing(name: str, code: str, server: str, tmp_path: Path) -> None:
    with pytest.raises(EdgecError) as caught:
        fetch(f"{server}/{name}", DIGEST, tmp_path)
    assert caught.value.code == code
    assert name in caught.value.message
    assert _weights_in(tmp_path) == []


def test_offline_says_so(no_server: str, tmp_path: Path) -> None:
    with pytest.raises(EdgecError) as caught:
        fetch(f"{no_server}/good.pth", DIGEST, tmp_path)
    assert caught.value.code == "offline"
    assert "--weights" in caught.value.hint
    assert _weights_in(tmp_path) == []


def test_name_that_does_not_resolve_is_offline_too(tmp_path: Path) -> None:
    with pytest.raises(EdgecError) as caught:
        fetch("http://weights.invalid/good.pth", DIGEST, tmp_path)
    assert caught.value.code == "offline"


def test_leftover_of_a_killed_run_is_written_over(server: str, tmp_path: Path) -> None:
    (tmp_path / f"{DIGEST[:16]}-good.pth.part").write_bytes(b"half of an older download")
    assert fetch(f"{server}/good.pth", DIGEST, tmp_path).read_bytes() == CONTENT
    assert _weights_in(tmp_path) == [f"{DIGEST[:16]}-good.pth"]


def test_kept_file_that_changed_is_refused(server: str, tmp_path: Path) -> None:
    fetch(f"{server}/good.pth", DIGEST, tmp_path).write_bytes(b"something else")
    with pytest.raises(EdgecError) as caught:
        fetch(f"{server}/good.pth", DIGEST, tmp_path)
    assert caught.value.code == "weights-digest"
    assert "delete it" in caught.value.hint


def test_full_disk_is_named_and_leaves_nothing(server: str, tmp_path: Path) -> None:
    (tmp_path / f"{DIGEST[:16]}-good.pth.part").symlink_to("/dev/full")
    with pytest.raises(EdgecError) as caught:
        fetch(f"{server}/good.pth", DIGEST, tmp_path)
    assert caught.value.code == "disk-full"
    assert _weights_in(tmp_path) == []


def test_cache_that_is_no_folder(server: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EdgecError) as caught:
        fetch(f"{server}/good.pth", DIGEST, tmp_path / "file")
    assert caught.value.code == "store-not-writable"


def test_mirror_that_is_no_address(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv(URL_VARIABLE, "mirror")
    with pytest.raises(EdgecError) as caught:
        fetch("https://download.pytorch.org/good.pth", DIGEST, tmp_path)
    assert (caught.value.code, caught.value.hint) == ("download-failed", f"check {URL_VARIABLE}")


def test_imagenet_weights_come_through_the_mirror(server: str, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv(URL_VARIABLE, f"{server}/")
    spec = models.get("mobilenetv3-small")
    with pytest.raises(EdgecError) as caught:
        resolve_weights("imagenet", spec, cache=tmp_path)  # the mirror serves other bytes than torchvision
    assert caught.value.code == "weights-digest"
    pinned = replace(spec, imagenet=replace(spec.imagenet, sha256=DIGEST))
    resolved = resolve_weights("imagenet", pinned, cache=tmp_path)
    assert (resolved.kind, resolved.sha256, resolved.names) == ("imagenet", DIGEST, "torchvision:mobilenet_v3_small")
    assert resolved.path.read_bytes() == CONTENT
    assert resolved.accuracy == 67.668


@pytest.mark.parametrize("model", [name for name in models.names() if models.get(name).imagenet])
def test_pinned_digest_agrees_with_the_publishers_file_name(model: str) -> None:
    """torchvision names a file after the first 8 hex digits of its sha256."""
    published = models.get(model).imagenet
    if published.sha256 is not None:
        assert published.url.endswith(f"-{published.sha256[:8]}.pth")
