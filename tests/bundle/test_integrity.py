"""Whatever is done to a bundle, it is refused with a code, never with a traceback, and nothing is written elsewhere."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import pytest
import rfc8785
import zstandard
from users import somebody_else

from edgec.pipeline.bundle.archive import pack, unpack
from edgec.pipeline.bundle.integrity import read_checked_manifest
from edgec.pipeline.bundle.manifest import SCHEMA_VERSION
from edgec.pipeline.bundle.manifest_json import SCHEMA_FILE, json_schema, parse_manifest, to_bytes
from edgec.pipeline.bundle.paths import check_path
from edgec.pipeline.bundle.signature import check_signature, sign
from edgec.pipeline.bundle.verify_standalone import SCHEMA_VERSION as STANDALONE_VERSION
from edgec.pipeline.core.errors import EdgecError

REFUSALS = {"corrupt-bundle", "unsafe-path", "no-bundle", "corrupt-archive"}
NUM_CORRUPTIONS = 200
NUM_MUTATIONS = 400  # of manifests and as many of archives; benchmarks/handoff.py runs 10,000


def refusal(folder: Path) -> str:
    with pytest.raises(EdgecError) as caught:
        read_checked_manifest(folder)
    return caught.value.code


def standalone(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-S", str(folder / "verify.py"), str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_a_fresh_bundle_passes_everything(mcu_bundle: Path) -> None:
    manifest = read_checked_manifest(mcu_bundle)
    assert manifest.schema_version == SCHEMA_VERSION == STANDALONE_VERSION
    done = standalone(mcu_bundle)
    assert done.returncode == 0, done.stdout
    assert done.stdout.startswith("OK: colours 1.0.0 for mcu")
    if shutil.which("sha256sum"):
        command = ["sha256sum", "-c", "SHA256SUMS"]
        sums = subprocess.run(command, cwd=mcu_bundle, capture_output=True, text=True, check=False)
        assert sums.returncode == 0, sums.stdout
        assert len(sums.stdout.splitlines()) == len(manifest.files) + 1


def test_any_single_byte_is_noticed(copy: Path) -> None:
    """Random bytes of random files, the manifest and the sums among them."""
    stream, files = np.random.default_rng(8), files_of(copy)
    for i in range(NUM_CORRUPTIONS):
        path = files[i % len(files)]
        content = bytearray(path.read_bytes())
        if not content:
            continue
        content[stream.integers(len(content))] ^= 1 << stream.integers(8)
        whole = path.read_bytes()
        path.write_bytes(content)
        assert refusal(copy) in REFUSALS, path.name
        path.write_bytes(whole)
    read_checked_manifest(copy)


@pytest.mark.parametrize("name", ["manifest.json", "SHA256SUMS", "model.tflite", "c/model.h", "result.json"])
def test_the_standalone_verifier_notices_too(copy: Path, name: str) -> None:
    content = (copy / name).read_bytes()
    (copy / name).write_bytes(content[:-2] + b"  ")
    done = standalone(copy)
    assert (done.returncode, done.stdout[:8]) == (1, "REFUSED:")
    assert "Traceback" not in done.stderr


class TestTampering:
    """Each on its own, for edgec and for verify.py."""

    def check(self, folder: Path, code: str = "corrupt-bundle") -> None:
        assert refusal(folder) == code
        done = standalone(folder)
        assert (done.returncode, done.stdout[:8]) == (1, "REFUSED:"), done.stdout + done.stderr

    def test_truncated(self, copy: Path) -> None:
        os.truncate(copy / "model.tflite", 100)
        self.check(copy)

    def test_removed(self, copy: Path) -> None:
        (copy / "labels.txt").unlink()
        self.check(copy)

    def test_renamed(self, copy: Path) -> None:
        (copy / "labels.txt").rename(copy / "names.txt")
        self.check(copy)

    def test_added(self, copy: Path) -> None:
        (copy / "c" / "extra.h").write_text("")
        self.check(copy)

    def test_added_folder(self, copy: Path) -> None:
        (copy / "empty").mkdir()
        self.check(copy)

    def test_linked(self, copy: Path) -> None:
        (copy / "labels.txt").rename(copy.parent / "labels.txt")
        (copy / "labels.txt").symlink_to(copy.parent / "labels.txt")
        self.check(copy)

    def test_linked_folder(self, copy: Path) -> None:
        (copy / "c").rename(copy.parent / "c")
        (copy / "c").symlink_to(copy.parent / "c")
        self.check(copy)

    def test_result_without_its_digest(self, copy: Path) -> None:
        (copy / "result.json.sha256").unlink()
        self.check(copy)

    def test_no_manifest(self, copy: Path) -> None:
        (copy / "manifest.json").unlink()
        assert refusal(copy) == "no-bundle"
        assert standalone(copy).returncode == 1

    def test_no_folder(self, tmp_path: Path) -> None:
        assert refusal(tmp_path / "gone") == "no-such-file"

    def test_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "bundle.tar.zst").write_bytes(b"an archive")
        assert refusal(tmp_path / "bundle.tar.zst") == "no-bundle"


class TestManifest:
    def changed(self, folder: Path, change: dict[str, object]) -> str:
        data = json.loads((folder / "manifest.json").read_bytes()) | change
        with pytest.raises(EdgecError) as caught:
            parse_manifest(rfc8785.dumps(data), "x")
        assert caught.value.code in REFUSALS
        return str(caught.value)

    def test_bytes_are_canonical(self, mcu_bundle: Path) -> None:
        content = (mcu_bundle / "manifest.json").read_bytes()
        assert to_bytes(parse_manifest(content, "x")) == content
        pretty = json.dumps(json.loads(content), indent=1).encode()
        with pytest.raises(EdgecError, match="canonical"):
            parse_manifest(pretty, "x")

    def test_unknown_and_missing_fields(self, mcu_bundle: Path) -> None:
        assert "extra" in self.changed(mcu_bundle, {"extra": 1})
        assert "schema_version" in self.changed(mcu_bundle, {"schema_version": SCHEMA_VERSION + 1})
        assert "size_bytes" in self.changed(mcu_bundle, {"size_bytes": "12"})

    @pytest.mark.parametrize(
        "path", ["../x", "/etc/passwd", "a/../../x", "a//b", "a\\b", "c:x", ".ssh/x", "a\n", "con", "x" * 120, "", "é"]
    )
    def test_unsafe_paths(self, mcu_bundle: Path, path: str) -> None:
        with pytest.raises(EdgecError) as caught:
            check_path(path, "x")
        assert caught.value.code == "unsafe-path"
        files = [{"bytes": 1, "path": path, "reproducible": True, "role": "other", "sha256": "0"}]
        assert "unsafe-path" in self.changed(mcu_bundle, {"files": files})

    def test_a_file_that_is_also_a_folder(self, mcu_bundle: Path) -> None:
        entry = {"bytes": 1, "reproducible": True, "role": "other", "sha256": "0"}
        assert "folder" in self.changed(mcu_bundle, {"files": [entry | {"path": "a"}, entry | {"path": "a/b"}]})
        assert "twice" in self.changed(mcu_bundle, {"files": [entry | {"path": "a"}, entry | {"path": "A"}]})

    def test_the_schema_is_the_one_that_is_shipped(self, mcu_bundle: Path) -> None:
        """After a change of ``manifest.py``: write ``json_schema()`` to ``manifest.schema.json``."""
        jsonschema = pytest.importorskip("jsonschema")
        schema = json.loads(SCHEMA_FILE.read_text())
        assert schema == json.loads(json.dumps(json_schema()))
        jsonschema.Draft202012Validator.check_schema(schema)
        data = json.loads((mcu_bundle / "manifest.json").read_bytes())
        jsonschema.Draft202012Validator(schema).validate(data)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.Draft202012Validator(schema).validate(data | {"extra": 1})

    def test_mutations_are_refused_without_a_traceback(self, copy: Path) -> None:
        """Most are no manifest any more; the rest (a letter less in a note) do not fit ``SHA256SUMS``."""
        content = (copy / "manifest.json").read_bytes()
        stream = np.random.default_rng(5)
        for _ in range(NUM_MUTATIONS):
            mutated = mutate(content, stream)
            if mutated == content:
                continue
            try:
                parse_manifest(mutated, "x")
            except EdgecError as error:
                refused = error.code
            else:
                (copy / "manifest.json").write_bytes(mutated)
                refused = refusal(copy)
            assert refused in REFUSALS


class TestArchive:
    def test_round_trip_and_same_bytes(self, mcu_bundle: Path, copy: Path, tmp_path: Path) -> None:
        for path in files_of(copy):
            os.utime(path, (1, 1))
            path.chmod(0o600)
        assert pack(mcu_bundle, tmp_path / "a.tar.zst") == pack(copy, tmp_path / "b.tar.zst")
        unpack(tmp_path / "a.tar.zst", tmp_path / "out")
        manifest = read_checked_manifest(tmp_path / "out")
        assert manifest == read_checked_manifest(mcu_bundle)
        left_behind = {path.name for path in files_of(mcu_bundle)} - {path.name for path in files_of(tmp_path / "out")}
        assert left_behind == {"result.json", "result.json.sha256"}
        with tarfile.open(fileobj=io.BytesIO(_tar(tmp_path / "a.tar.zst"))) as tar:
            assert {(m.mtime, m.uid, m.uname, m.mode) for m in tar} == {(0, 0, "", 0o644)}

    def test_hostile_entries(self, mcu_bundle: Path, tmp_path: Path) -> None:
        """Each of these is what a well-meaning tar would unpack."""
        manifest = (mcu_bundle / "manifest.json").read_bytes()
        outside = tarfile.TarInfo("../outside.txt")
        absolute = tarfile.TarInfo("/tmp/outside.txt")
        link, hard, device = (tarfile.TarInfo("labels.txt") for _ in range(3))
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        hard.type, hard.linkname = tarfile.LNKTYPE, "manifest.json"
        device.type = tarfile.CHRTYPE
        folder, unlisted, wrong_size = tarfile.TarInfo("c"), tarfile.TarInfo("more.txt"), tarfile.TarInfo("labels.txt")
        folder.type, wrong_size.size = tarfile.DIRTYPE, 10_000
        long_name = tarfile.TarInfo("x" * 200)
        for entry in (outside, absolute, link, hard, device, folder, unlisted, wrong_size, long_name):
            archive = write_archive(tmp_path / "h.tar.zst", manifest, entry)
            with pytest.raises(EdgecError) as caught:
                unpack(archive, tmp_path / "deep" / "out")
            assert caught.value.code in {"corrupt-archive", "unsafe-path"}, entry.name
        assert not list((tmp_path / "deep").iterdir())
        assert not (tmp_path / "outside.txt").exists()

    def test_bomb(self, mcu_bundle: Path, tmp_path: Path) -> None:
        """A gigabyte of zeros under a listed name, in 32 kB: nothing of it is written."""
        entry = tarfile.TarInfo("labels.txt")
        entry.size = 1 << 30
        header = tarfile.TarInfo("manifest.json")
        manifest = (mcu_bundle / "manifest.json").read_bytes()
        header.size = len(manifest)
        with (tmp_path / "bomb.tar.zst").open("wb") as raw, zstandard.ZstdCompressor().stream_writer(raw) as out:
            out.write(header.tobuf(tarfile.USTAR_FORMAT) + manifest + bytes(-len(manifest) % 512))
            out.write(entry.tobuf(tarfile.USTAR_FORMAT))
            for _ in range(64):
                out.write(bytes(1 << 24))
        with pytest.raises(EdgecError) as caught:
            unpack(tmp_path / "bomb.tar.zst", tmp_path / "out")
        assert caught.value.code == "corrupt-archive"
        assert not (tmp_path / "out").exists()

    def test_mutations_never_end_in_a_traceback(self, mcu_bundle: Path, tmp_path: Path) -> None:
        """Both the compressed bytes and the tar inside are changed; what is still accepted has the right content."""
        pack(mcu_bundle, tmp_path / "a.tar.zst")
        whole, tar = (tmp_path / "a.tar.zst").read_bytes(), _tar(tmp_path / "a.tar.zst")
        manifest, stream = read_checked_manifest(mcu_bundle), np.random.default_rng(6)
        for i in range(NUM_MUTATIONS // 4):
            inside = zstandard.ZstdCompressor(level=1).compress(mutate(tar, stream, headers=True))
            (tmp_path / "m.tar.zst").write_bytes(mutate(whole, stream) if i % 2 else inside)
            refused = ""
            try:
                unpack(tmp_path / "m.tar.zst", tmp_path / "deep" / "out")
                unpacked = read_checked_manifest(tmp_path / "deep" / "out")
            except EdgecError as error:
                refused = error.code
            assert refused in REFUSALS or unpacked == manifest
            assert {path.name for path in (tmp_path / "deep").iterdir()} <= {"out"}

    def test_missing_archive(self, tmp_path: Path) -> None:
        with pytest.raises(EdgecError) as caught:
            unpack(tmp_path / "gone.tar.zst", tmp_path / "out")
        assert caught.value.code == "no-such-file"


class TestSignature:
    @pytest.fixture
    def keys(self, tmp_path: Path) -> dict[str, Path]:
        """Two key pairs in PEM, as ``openssl genpkey`` writes them."""
        pytest.importorskip("cryptography")
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        pem, found = serialization.Encoding.PEM, {}
        for name in ("ours", "theirs"):
            key = Ed25519PrivateKey.generate()
            private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
            public = key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
            for suffix, content in ((".pem", private), (".pub", public)):
                found[name + suffix] = tmp_path / (name + suffix)
                found[name + suffix].write_bytes(content)
        return found

    def code(self, folder: Path, key: Path | None) -> str:
        with pytest.raises(EdgecError) as caught:
            check_signature(folder, key)
        return caught.value.code

    def test_signed_bundle(self, copy: Path, keys: dict[str, Path], tmp_path: Path) -> None:
        assert self.code(copy, keys["ours.pub"]) == "not-signed"
        sign(copy, keys["ours.pem"])
        read_checked_manifest(copy)
        assert check_signature(copy, keys["ours.pub"]) == "signed with the trusted key"
        assert "nobody vouched" in check_signature(copy, None)
        assert self.code(copy, keys["theirs.pub"]) == "bad-signature"
        pack(copy, tmp_path / "s.tar.zst")
        unpack(tmp_path / "s.tar.zst", tmp_path / "out")
        assert check_signature(tmp_path / "out", keys["ours.pub"]) == "signed with the trusted key"

    @pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
    def test_standalone_verifier_asks_openssl(self, copy: Path, keys: dict[str, Path]) -> None:
        assert standalone(copy, "--key", str(keys["ours.pub"])).returncode == 1
        sign(copy, keys["ours.pem"])
        assert "trusted key" in standalone(copy, "--key", str(keys["ours.pub"])).stdout
        assert standalone(copy, "--key", str(keys["theirs.pub"])).returncode == 1
        assert standalone(copy).returncode == 0

    def test_every_byte_of_signature_and_key_counts(self, copy: Path, keys: dict[str, Path]) -> None:
        sign(copy, keys["ours.pem"])
        for name in ("manifest.json.sig", "manifest.json.pub", "manifest.json"):
            whole = (copy / name).read_bytes()
            for position in range(0, len(whole), max(1, len(whole) // 40)):
                content = bytearray(whole)
                content[position] ^= 4
                (copy / name).write_bytes(content)
                assert self.code(copy, None) in {"bad-signature", "bad-key"}
            (copy / name).write_bytes(whole)
        (copy / "manifest.json.sig").unlink()
        assert self.code(copy, None) == "bad-signature"

    def test_wrong_keys(self, copy: Path, keys: dict[str, Path], tmp_path: Path) -> None:
        (tmp_path / "no.pem").write_text("no key")
        for key in (tmp_path / "no.pem", tmp_path / "gone.pem", keys["ours.pub"]):
            with pytest.raises(EdgecError) as caught:
                sign(copy, key)
            assert caught.value.code == "bad-key"

    def test_without_the_library(self, copy: Path, keys: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
        sign(copy, keys["ours.pem"])
        monkeypatch.setattr("edgec.pipeline.bundle.signature.find_spec", lambda name: None)
        assert self.code(copy, None) == "missing-cryptography"


def mutate(content: bytes, stream: np.random.Generator, headers: bool = False) -> bytes:
    """Flip, insert, delete, repeat or cut; ``headers`` aims at the first kilobytes of a tar's entries."""
    end = min(len(content), 1 << 15) if headers else len(content)
    at, length = int(stream.integers(end)), int(stream.integers(1, 40))
    noise = stream.integers(0, 256, length, np.uint8).tobytes()
    match int(stream.integers(5)):
        case 0:
            return content[:at] + noise + content[at + length :]
        case 1:
            return content[:at] + noise + content[at:]
        case 2:
            return content[:at] + content[at + length :]
        case 3:
            return content[:at] + content[at : at + length] * 3 + content[at + length :]
        case _:
            return content[:at]


def write_archive(path: Path, manifest: bytes, entry: tarfile.TarInfo) -> Path:
    """Manifest, then one entry full of zeros."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        first = tarfile.TarInfo("manifest.json")
        first.size = len(manifest)
        tar.addfile(first, io.BytesIO(manifest))
        tar.addfile(entry, io.BytesIO(bytes(entry.size)))
    path.write_bytes(zstandard.ZstdCompressor().compress(buffer.getvalue()))
    return path


def _tar(path: Path) -> bytes:
    return zstandard.ZstdDecompressor().stream_reader(path.open("rb")).read()


def test_requirements_are_those_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgec.pipeline.bundle import provenance

    lines = (
        "Plain_Name>=1",
        "old-form (>=1.0)",
        "here; python_version >= '3.10'",
        "not-here; python_version < '3'",
        "not-asked-for; extra == 'more'",
        "neither ; (extra == 'more' and python_version >= '3')",
        "has[extras]~=2.0; sys_platform != 'nowhere'",
        "!! not a requirement",
    )
    metadata = tmp_path / "needy-1.0.dist-info"
    metadata.mkdir()
    required = "".join(f"Requires-Dist: {line}\n" for line in lines)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: needy\nVersion: 1.0\n{required}")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert provenance._requirements("needy") == ["Plain_Name", "old-form", "here", "has"]
    provenance._metadata.cache_clear()


@pytest.mark.parametrize("name", [".", "manifest.json", "SHA256SUMS", "golden", "golden/golden.json", "result.json"])
def test_what_another_user_may_not_read_is_named(name: str, mcu_bundle: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:  # pytest's own is closed to others
        Path(folder).chmod(0o755)
        bundle = Path(shutil.copytree(mcu_bundle, Path(folder) / "bundle"))
        (bundle / name).chmod(0)
        with somebody_else(), pytest.raises(EdgecError) as caught:
            read_checked_manifest(bundle)
        (bundle / name).chmod(0o755)
    assert caught.value.code == "no-permission"
    assert str(bundle / name) in caught.value.message
