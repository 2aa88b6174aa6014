"""What somebody hands over: bundles, archives, signatures. The hostile ones have digests that fit."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import rfc8785

from attacks.mutate import damaged, spoilt
from attacks.trial import LIMIT_S, Trial, refused, survived

RECORDS = ("golden/golden.json", "manifest.json")
ARRAYS = ("inputs.int8.npy", "outputs.target.int8.npy", "inputs.float32.npy", "outputs.target.float32.npy")


def archive(trial: Trial) -> str:
    """Damaged bytes never harm the good bundle in their place."""
    path, there = trial.folder / "x.tar.zst", trial.folder / "there"
    path.write_bytes(damaged((trial.material / "mcu.tar.zst").read_bytes(), trial.rng))
    shutil.copytree(trial.material / "mcu", there)
    done = trial.run("pack", path, "--output", there)
    if wrong := survived(done):
        return wrong
    return "" if _same(there, trial.material / "mcu") else "the good bundle is another now"


def bundle_bytes(trial: Trial) -> str:
    """Each changed, missing or added file is named, by edgec and by the verifier in the bundle."""
    folder = _copy(trial)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    victim = trial.rng.choice(files)
    if trial.rng.random() < 0.7:
        content = victim.read_bytes()
        while victim.read_bytes() == content:
            victim.write_bytes(damaged(content, trial.rng))
    else:
        _replace(victim, trial)
    codes = ("corrupt-bundle", "unsafe-path", "no-bundle", "bad-signature")
    return refused(trial.run("verify", folder, "--no-run"), *codes) or _standalone(trial, folder)


def hostile_bundle(trial: Trial) -> str:
    """Everything fits, and means nothing: a self-consistent bundle of somebody who knows the format."""
    folder, rng = _copy(trial), trial.rng
    manifest = json.loads((folder / "manifest.json").read_bytes())
    what = rng.choice(("manifest", "manifest", "golden.json", "array", "artifact", "artifact", "labels", "network"))
    if what == "manifest":
        manifest = spoilt(manifest, rng)
    elif what == "golden.json":
        path = folder / "golden" / "golden.json"
        bombs = ("[" * 100_000, "{", "\xff", '{"steps": 1e999}')
        path.write_text(rng.choice((*bombs, *[json.dumps(spoilt(json.loads(path.read_text()), rng))] * 4)), "latin-1")
    elif what == "array":
        path = rng.choice([path for name in ARRAYS if (path := folder / "golden" / name).exists()])
        header = path.read_bytes()[:128].replace(
            b"(10, ", rng.choice((b"(1000000000000, ", b"(-1, ", b"(0, ", b"(((("))
        )
        path.write_bytes(rng.choice((b"", header, damaged(path.read_bytes(), rng), b"PK\x03\x04" + bytes(40))))
    elif what == "artifact":
        path = rng.choice(sorted(folder.glob("model.tflite")) + sorted(folder.glob("openvino/*")))
        path.write_bytes(damaged(path.read_bytes(), rng))
    elif what == "labels":
        (folder / "labels.txt").write_bytes(rng.choice((b"\xff\xfe", b"", b"blue\rgreen\rred\r", b"x\n" * 100_000)))
    else:
        path = folder / "reference" / rng.choice(("qdq.onnx", "float.onnx"))
        path.write_bytes(damaged(path.read_bytes(), rng))
    _reseal(folder, manifest)
    outside = trial.folder / "outside"
    outside.write_text("kept")
    arguments = ["--no-run"] if rng.random() < 0.6 else []
    wrong = survived(trial.run("verify", folder, *arguments), frozenset({0, 1}))
    return wrong or ("" if outside.read_text() == "kept" else "a file outside was changed")


def signature(trial: Trial) -> str:
    """A changed signature or key never passes, with a trusted key or without."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    from edgec.pipeline.bundle.signature import sign

    folder, keys = _copy(trial), []
    for name in ("ours", "theirs"):
        key = Ed25519PrivateKey.generate()
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        keys.append((trial.folder / f"{name}.pem", trial.folder / f"{name}.pub"))
        keys[-1][0].write_bytes(private)
        keys[-1][1].write_bytes(public)
    sign(folder, keys[0][0])
    trusted, enclosed = keys[0][1], folder / "manifest.json.pub"
    match trial.rng.randrange(5):
        case 0:
            enclosed.write_bytes(keys[1][1].read_bytes())
        case 1:
            enclosed.write_bytes(enclosed.read_bytes() + b"\n")
        case 2:
            sign(folder, keys[1][0])
        case 3:
            _replace(trial.rng.choice((enclosed, folder / "manifest.json.sig")), trial)
        case _:
            path = trial.rng.choice((enclosed, folder / "manifest.json.sig"))
            content = path.read_bytes()
            while path.read_bytes() == content:
                path.write_bytes(damaged(content, trial.rng))
    codes = ("bad-signature", "bad-key", "corrupt-bundle", "not-signed", "no-bundle")
    done = trial.run("verify", folder, "--no-run", "--key", trusted)
    return refused(done, *codes) or _standalone(trial, folder, "--key", str(trusted))


def _copy(trial: Trial) -> Path:
    name = trial.rng.choice(("mcu", "cpu"))
    return Path(shutil.copytree(trial.material / name, trial.folder / name))


def _replace(path: Path, trial: Trial) -> None:
    """By nothing, a folder, a link, a pipe, or a longer file."""
    path.unlink()
    match trial.rng.randrange(5):
        case 0:
            path.mkdir()
        case 1:
            path.symlink_to(trial.rng.choice(("/dev/zero", "/etc/passwd", "nowhere", ".")))
        case 2:
            os.mkfifo(path)
        case 3:
            path.write_bytes(bytes(1 << 20))


def _standalone(trial: Trial, folder: Path, *arguments: str) -> str:
    """The verifier, from a copy that nobody touched."""
    command = [sys.executable, "-I", "-S", str(trial.material / "mcu" / "verify.py"), str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        return "verify.py hangs"
    fits = done.returncode == 1 and done.stdout.startswith("REFUSED:") and not done.stderr
    return "" if fits else f"verify.py: {done.returncode} {(done.stdout + done.stderr)[-200:]}"


def _reseal(folder: Path, manifest: Any) -> None:
    """Make every digest fit, where the manifest still has a list of files."""
    listed = manifest.get("files") if isinstance(manifest, dict) else None
    sums = {}
    for entry in listed if isinstance(listed, list) else []:
        path = folder / str(entry.get("path")) if isinstance(entry, dict) else folder
        if path.is_file() and folder in path.resolve().parents:
            entry["bytes"], entry["sha256"] = path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest()
            sums[entry["path"]] = entry["sha256"]
    try:
        content = rfc8785.dumps(manifest)
    except (ValueError, RecursionError):
        content = json.dumps(manifest).encode()
    (folder / "manifest.json").write_bytes(content)
    sums["manifest.json"] = hashlib.sha256(content).hexdigest()
    (folder / "SHA256SUMS").write_text("".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items())))


def _same(one: Path, other: Path) -> bool:
    files = [{p.relative_to(f): p.read_bytes() for p in f.rglob("*") if p.is_file()} for f in (one, other)]
    return files[0] == files[1]
