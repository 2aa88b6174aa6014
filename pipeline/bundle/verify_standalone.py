#!/usr/bin/env python3
"""Checks the bundle that this file lies in: python3 verify.py [FOLDER] [--key TRUSTED.pub]

Needs Python 3.8 and nothing else; a signature is checked with the openssl command, version 3. Exit status 0: every
file is the one that the manifest lists and nothing was added. Exit status 1: it is not, and the reason is printed.
A copy of this file from elsewhere proves more than the copy inside: who changes a bundle can change both.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

UNLISTED = ("manifest.json", "SHA256SUMS", "manifest.json.sig", "manifest.json.pub")
FOR_OTHERS = ("provenance.dsse.json", "model.sig")  # signatures that other tools check
RESULT, RESULT_SUM = "result.json", "result.json.sha256"  # log of the build, not part of the release
SCHEMA_VERSION = 2
MAX_BYTES = 16 << 20  # of the files that are read at once
ED25519 = bytes.fromhex("302a300506032b6570032100")  # what stands before the 32 bytes of a key (RFC 8410)
PEM = re.compile(rb"-----BEGIN PUBLIC KEY-----\s+([A-Za-z0-9+/=\s]+?)\s*-----END PUBLIC KEY-----")
SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")


class Refused(Exception):
    """The bundle is not what it says."""


def main() -> int:
    """Check and say so."""
    parser = argparse.ArgumentParser(description="Check a bundle's files, manifest and signature.")
    parser.add_argument("folder", nargs="?", default=os.path.dirname(os.path.abspath(__file__)))
    parser.add_argument("--key", help="PEM file of the public key that the bundle must be signed with")
    arguments = parser.parse_args()
    try:
        manifest = checked_manifest(arguments.folder)
        signature = check_signature(arguments.folder, arguments.key)
    except (Refused, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        print(f"REFUSED: {error or type(error).__name__}")
        return 1
    model, target = manifest["model"], manifest["target"]
    print("OK: {} {} for {}".format(model["name"], model["version"], target["name"]))
    unchecked = os.path.lexists(os.path.join(arguments.folder, FOR_OTHERS[1]))
    others = f"; {FOR_OTHERS[1]} was not checked: that takes its own tool" if unchecked else ""
    print("{} files checked; {}{}".format(len(manifest["files"]), signature, others))
    return 0


def checked_manifest(folder: str) -> dict[str, Any]:
    """The manifest, after every file was compared with it."""
    content = read(folder, "manifest.json")
    manifest: dict[str, Any] = json.loads(content.decode("utf-8"))
    if manifest["schema_version"] != SCHEMA_VERSION:
        found = manifest["schema_version"]
        raise Refused(f"manifest.json: schema_version {found!r}, expected {SCHEMA_VERSION}")
    listed = {entry["path"]: entry for entry in manifest["files"]}
    if len(listed) != len(manifest["files"]):
        raise Refused("manifest.json lists a file twice")
    for name in present(folder):
        if name not in listed and name not in (*UNLISTED, *FOR_OTHERS, RESULT, RESULT_SUM):
            raise Refused(f"{name!r} was added: the manifest does not list it")
    for name, entry in listed.items():
        check_file(folder, name, entry)
    sums = {name: entry["sha256"] for name, entry in listed.items()}
    sums["manifest.json"] = hashlib.sha256(content).hexdigest()
    expected = "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items()))
    if read(folder, "SHA256SUMS") != expected.encode("utf-8"):
        raise Refused("SHA256SUMS does not fit the manifest")
    check_result(folder)
    return manifest


def read(folder: str, name: str) -> bytes:
    """A small file; a pipe or a device of that name would never end."""
    path = os.path.join(folder, name)
    if not os.path.isfile(path):
        raise Refused(f"{name!r} is missing, or no plain file")
    if os.path.getsize(path) > MAX_BYTES:
        raise Refused(f"{name!r} is too large")
    with open(path, "rb") as file:
        return file.read()


def check_result(folder: str) -> None:
    """The build's log is there with its digest, or neither is."""
    there = [os.path.lexists(os.path.join(folder, name)) for name in (RESULT, RESULT_SUM)]
    if any(there):
        if not all(there):
            raise Refused(f"it has only one of {RESULT} and {RESULT_SUM}")
        contents = [read(folder, name) for name in (RESULT, RESULT_SUM)]
        if contents[1].decode("ascii") != f"{hashlib.sha256(contents[0]).hexdigest()}  {RESULT}\n":
            raise Refused(f"{RESULT!r} is not the file that was written")


def present(folder: str) -> Iterator[str]:
    """Every file, and every empty folder; a link is refused."""
    for root, folders, files in os.walk(folder):
        for name in folders + files:
            path = os.path.join(root, name)
            relative = os.path.relpath(path, folder).replace(os.sep, "/")
            if os.path.islink(path):
                raise Refused(f"{relative!r} is a link, expected a file of its own")
            if name in files or not os.listdir(path):
                yield relative


def check_file(folder: str, name: str, entry: dict[str, Any]) -> None:
    """Name, size and digest of one listed file."""
    if not all(SEGMENT.fullmatch(part) for part in name.split("/")):
        raise Refused(f"manifest.json lists {name!r}, which is not a plain relative path")
    path = os.path.join(folder, *name.split("/"))
    if not os.path.isfile(path):
        raise Refused(f"{name!r} is missing")
    if os.path.getsize(path) != entry["bytes"]:
        raise Refused("{!r} has {} bytes, expected {}".format(name, os.path.getsize(path), entry["bytes"]))
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for piece in iter(lambda: file.read(1 << 20), b""):
            digest.update(piece)
    if digest.hexdigest() != entry["sha256"]:
        raise Refused(f"{name!r} is not the file that the manifest lists")


def check_signature(folder: str, trusted: str | None) -> str:
    """What the signature proves, in words."""
    signature, enclosed = (os.path.join(folder, name) for name in UNLISTED[2:4])
    there = [os.path.lexists(signature), os.path.lexists(enclosed)]
    if not any(there):
        if trusted:
            raise Refused("it is not signed with an Ed25519 key")
        return "not signed"
    if not all(there):
        raise Refused("it has half a signature")
    key, content = public_key(folder, UNLISTED[3]), read(folder, UNLISTED[3])
    if content != b"-----BEGIN PUBLIC KEY-----\n" + base64.b64encode(key) + b"\n-----END PUBLIC KEY-----\n":
        raise Refused(f"{UNLISTED[3]!r} is not in the form that signing writes")
    if trusted and public_key("", trusted) != key:
        raise Refused("it is signed with another key than the trusted one")
    read(folder, UNLISTED[2])
    command = ["openssl", "pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", enclosed]
    command += ["-in", os.path.join(folder, "manifest.json"), "-sigfile", signature]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    except FileNotFoundError:
        raise Refused("it is signed, and checking that needs the openssl command") from None
    if done.returncode != 0:
        raise Refused("the signature does not fit: {}".format(done.stdout.decode("utf-8", "replace").strip()))
    return "signed with the trusted key" if trusted else "signed, by a key that nobody vouched for"


def public_key(folder: str, name: str) -> bytes:
    """DER of an Ed25519 key in PEM."""
    found = PEM.search(read(folder, name))
    key = base64.b64decode(b"".join(found.group(1).split()), validate=True) if found else b""
    if len(key) != len(ED25519) + 32 or not key.startswith(ED25519):
        raise Refused(f"{name!r} is no Ed25519 key in PEM")
    return key


if __name__ == "__main__":
    sys.exit(main())
