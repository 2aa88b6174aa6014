"""Published weights over HTTP into a cache: verified by digest before the file gets its name."""

from __future__ import annotations

import errno
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.root import default_root
from edgec.pipeline.core.stage import file_sha256

CHUNK_BYTES = 1 << 18
TIMEOUT_SECONDS = 30.0
URL_VARIABLE = "EDGEC_WEIGHTS_URL"
"""Environment variable: a mirror's base URL, in place of the publisher's, for the same file names."""

Progress = Callable[[int, int], None]


def fetch(url: str, sha256: str, folder: Path | None = None, progress: Progress | None = None) -> Path:
    """Return the file behind ``url`` from ``folder``, downloading it at most once.

    A killed or failed download leaves no file under the final name, and a failed one leaves nothing at all.

    Args:
        sha256: digest of the whole file, in hex.
        folder: cache folder; ``weights`` in the store's folder where None.
        progress: told bytes done and bytes in total (0 where the server does not say).

    Raises:
        EdgecError: ``offline`` where the server cannot be reached, ``download-failed`` where it refuses or stops
            half-way, ``weights-digest`` where the bytes are not the published ones; ``disk-full`` and
            ``store-not-writable`` for the folder.
    """
    from filelock import FileLock

    folder = folder or default_root() / "weights"
    target = folder / f"{sha256[:16]}-{PurePosixPath(url).name}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"):
            if target.exists():
                check_digest(target, sha256, str(target))
            else:
                _fetch_into(target, url, sha256, progress)
    except OSError as error:
        raise EdgecError(
            "disk-full" if error.errno == errno.ENOSPC else "store-not-writable",
            f"cannot keep weights in '{folder}': {error.strerror}",
            "free some space, or point EDGEC_CACHE at another disk",
        ) from error
    return target


def _fetch_into(target: Path, url: str, sha256: str, progress: Progress | None) -> None:
    partial = target.with_name(f"{target.name}.part")
    try:
        _download(_mirrored(url), partial, progress)
        check_digest(partial, sha256, url)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def check_digest(path: Path, sha256: str, origin: str) -> None:
    """Compare a file with its published digest.

    Raises:
        EdgecError: ``weights-digest``.
    """
    got = file_sha256(path)
    if got != sha256:
        raise EdgecError(
            "weights-digest",
            f"'{origin}': expected sha256 {sha256}, got {got}",
            "the file was changed or cut short; delete it and get it again",
        )


def _mirrored(url: str) -> str:
    mirror = os.environ.get(URL_VARIABLE)
    return f"{mirror.rstrip('/')}/{PurePosixPath(url).name}" if mirror else url


def _download(url: str, partial: Path, progress: Progress | None) -> None:
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as response, partial.open("wb") as file:
            total, done = int(response.headers.get("Content-Length") or 0), 0
            while chunk := response.read(CHUNK_BYTES):
                file.write(chunk)
                done += len(chunk)
                if progress is not None:
                    progress(done, total)
    except urllib.error.HTTPError as error:
        message = f"'{url}': the server answers {error.code} {error.reason}"
        raise EdgecError("download-failed", message, "try later, or pass a file: --weights FILE.pth") from error
    except (urllib.error.URLError, TimeoutError) as error:
        hint = "connect, or pass a file: --weights FILE.pth, or --weights random for size and latency only"
        raise EdgecError("offline", f"cannot reach '{url}': {error}", hint) from error
    except (http.client.HTTPException, ConnectionError) as error:
        raise EdgecError("download-failed", f"'{url}': the connection broke off: {error}", "run it again") from error
    except ValueError as error:
        raise EdgecError("download-failed", f"'{url}' is no address: {error}", f"check {URL_VARIABLE}") from error
    if total and done != total:
        raise EdgecError("download-failed", f"'{url}': expected {total} bytes, got {done}", "run it again")
