"""Detached Ed25519 signature of the manifest, and with it of every digest in it. Key files stay with their owner.

Keys are PEM files of any tool: ``openssl genpkey -algorithm ed25519 -out release.pem``. The signature can be checked
without edgec: ``openssl pkeyutl -verify -rawin -pubin -inkey release.pub -in manifest.json -sigfile
manifest.json.sig``.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from edgec.pipeline.bundle.attestation import check_envelope, seal_envelope
from edgec.pipeline.bundle.manifest import ENVELOPE, HINT, MANIFEST, MODEL_SIGNATURE, PUBLIC_KEY, SIGNATURE
from edgec.pipeline.bundle.model_signature import check_model_signature, is_elliptic, sign_model
from edgec.pipeline.core.errors import EdgecError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

MAX_KEY_BYTES = 16 << 10
INSTALL = "pip install 'edgec[sign]'"


def sign(folder: Path, key_file: Path, password: bytes | None = None) -> None:
    """Write ``manifest.json.sig`` (64 raw bytes), ``manifest.json.pub`` and the statement's envelope.

    Raises:
        EdgecError: ``missing-cryptography``, ``bad-key``.
    """
    _require()
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = _private_key(key_file, password)
    (folder / SIGNATURE).write_bytes(key.sign((folder / MANIFEST).read_bytes()))
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / PUBLIC_KEY).write_bytes(public)
    seal_envelope(folder, key)


def check_signature(folder: Path, trusted: Path | None) -> str:
    """What the signature proves, in words.

    Without ``trusted`` the signature must fit the key that came with it, which shows that both are undamaged but not
    whose they are. A signature that is there is never ignored.

    Raises:
        EdgecError: ``not-signed`` where a trusted key is given, ``bad-signature``, ``bad-key``,
            ``missing-cryptography``.
    """
    there = [(folder / name).exists() for name in (SIGNATURE, PUBLIC_KEY)]
    if not any((*there, (folder / ENVELOPE).exists())):
        if trusted is not None:
            raise EdgecError("not-signed", f"'{folder}' is not signed", "ask for a signed bundle")
        return "not signed"
    paths = (folder / SIGNATURE, folder / PUBLIC_KEY)
    if not all(path.is_file() and path.stat().st_size <= MAX_KEY_BYTES for path in paths):  # a pipe would be waited for
        raise EdgecError("bad-signature", f"'{folder}' has half a signature", HINT)
    _require()
    from cryptography.exceptions import InvalidSignature

    enclosed = _public_key(folder / PUBLIC_KEY)
    if trusted is not None and _raw(_public_key(trusted)) != _raw(enclosed):
        raise EdgecError("bad-signature", f"'{folder}' is signed with another key than '{trusted}'", "do not use it")
    try:
        enclosed.verify((folder / SIGNATURE).read_bytes(), (folder / MANIFEST).read_bytes())
    except InvalidSignature:
        raise EdgecError("bad-signature", f"the signature of '{folder}' does not fit its manifest", HINT) from None
    check_envelope(folder, enclosed)
    return "signed with the trusted key" if trusted else "signed, by a key that nobody vouched for"


def check_signatures(folder: Path, trusted: Sequence[Path]) -> tuple[str, ...]:
    """What every signature proves, in words; keys of elliptic curves are for ``model.sig``, Ed25519 for the manifest.

    Raises:
        EdgecError: what ``check_signature`` and ``check_model_signature`` raise.
    """
    for_model = [key for key in trusted if is_elliptic(key)]
    for_manifest = [key for key in trusted if key not in for_model]
    said = [check_signature(folder, key) for key in for_manifest] or [check_signature(folder, None)]
    said += [check_model_signature(folder, key) for key in for_model]
    return tuple(said)


def unchecked_signatures(folder: Path, trusted: Sequence[Path]) -> tuple[str, ...]:
    """What ``check_signatures`` left alone, in words: OpenSSF's signature has no key of its own with it."""
    if not (folder / MODEL_SIGNATURE).exists() or any(is_elliptic(key) for key in trusted):
        return ()
    return (f"{MODEL_SIGNATURE} was not checked: give its public key with --key",)


def sign_with(folder: Path, keys: Sequence[Path]) -> None:
    """Sign the manifest with an Ed25519 key, and then the whole folder with one of an elliptic curve.

    Raises:
        EdgecError: ``bad-key`` for a second key of either kind, before anything is signed; what ``sign`` and
            ``sign_model`` raise.
    """
    for_model = [key for key in keys if is_elliptic(key)]
    for_manifest = [key for key in keys if key not in for_model]
    for several in (for_manifest, for_model):
        if len(several) > 1:
            message = f"'{several[1]}' would replace the signature of '{several[0]}': a bundle holds one of each kind"
            raise EdgecError("bad-key", message, "give one Ed25519 key, one of an elliptic curve, or one of each")
    for key in for_manifest:
        sign(folder, key)
    for key in for_model:
        sign_model(folder, key)


def _raw(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes_raw()


def _private_key(path: Path, password: bytes | None) -> Ed25519PrivateKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(path.read_bytes(), password)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:  # TypeError: about the password
        raise _bad_key(path, str(error)) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise _bad_key(path, f"it is {type(key).__name__}")
    return key


def _public_key(path: Path) -> Ed25519PublicKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

    try:
        content = path.read_bytes()
        key = load_pem_public_key(content)
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise _bad_key(path, str(error)) from error
    if not isinstance(key, Ed25519PublicKey):
        raise _bad_key(path, f"it is {type(key).__name__}")
    if path.name == PUBLIC_KEY and key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo) != content:
        raise _bad_key(path, "it is not in the form that signing writes")
    return key


def _bad_key(path: Path, why: str) -> EdgecError:
    hint = "make one with: openssl genpkey -algorithm ed25519 -out release.pem"
    return EdgecError("bad-key", f"'{path}' is no Ed25519 key in PEM: {why}", hint)


def _require() -> None:
    for package in ("cryptography", "securesystemslib"):
        if find_spec(package) is None:
            message = f"signatures need {package}, which is not installed"
            raise EdgecError("missing-cryptography", message, INSTALL)
