"""``model.sig``: the whole bundle signed as OpenSSF Model Signing does it, for those who verify with its own tool.

``model_signing verify key BUNDLE --signature BUNDLE/model.sig --public_key KEY.pub``. Its keys are elliptic curves
(P-256, P-384, P-521); Ed25519, which signs ``manifest.json``, is not among them.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from edgec.pipeline.bundle.manifest import MODEL_SIGNATURE, RESULT, RESULT_SUM, SIGNED
from edgec.pipeline.core.errors import EdgecError

NOT_SIGNED = (RESULT, RESULT_SUM, *sorted(SIGNED))
"""The log of one build, and signatures themselves."""
INSTALL = "pip install 'edgec[model-signing]'"


def sign_model(folder: Path, key_file: Path) -> None:
    """Write ``model.sig`` (a Sigstore bundle) over every file of ``folder`` but ``NOT_SIGNED``.

    Raises:
        EdgecError: ``missing-model-signing``, ``bad-key``.
    """
    _require()
    import model_signing

    hashing = model_signing.hashing.Config().set_ignored_paths(paths=NOT_SIGNED)
    try:
        signer = model_signing.signing.Config().use_elliptic_key_signer(private_key=key_file)
        signer.set_hashing_config(hashing).sign(folder, folder / MODEL_SIGNATURE)
    except (OSError, ValueError, TypeError) as error:
        raise _bad_key(key_file, error) from error


def check_model_signature(folder: Path, trusted: Path) -> str:
    """What the signature proves, in words.

    Raises:
        EdgecError: ``missing-model-signing``, ``not-signed``, ``bad-signature``, ``bad-key``.
    """
    if not (folder / MODEL_SIGNATURE).is_file():
        raise EdgecError("not-signed", f"'{folder}' has no {MODEL_SIGNATURE}", "ask for a bundle signed with that key")
    _require()
    import model_signing
    from cryptography.exceptions import InvalidSignature
    from google.protobuf.json_format import ParseError

    unreadable = (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, InvalidSignature, ParseError)
    try:
        verifier = model_signing.verifying.Config().use_elliptic_key_verifier(public_key=trusted)
    except (OSError, ValueError, TypeError) as error:
        raise _bad_key(trusted, error) from error
    try:
        verifier.verify(folder, folder / MODEL_SIGNATURE)
    except unreadable as error:  # what the library says of a file that anybody may have written
        raise EdgecError("bad-signature", f"{MODEL_SIGNATURE} of '{folder}': {error}", "do not use it") from error
    return "the whole bundle, by OpenSSF Model Signing, with the trusted key"


def is_elliptic(key_file: Path) -> bool:
    """A PEM file holds a key of the curves that ``model.sig`` is made with, private or public."""
    if find_spec("cryptography") is None:
        return False
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

    try:
        content = key_file.read_bytes()
    except OSError:
        return False  # whoever uses it says so
    loaders = (lambda: load_pem_private_key(content, None), lambda: load_pem_public_key(content))
    for load in loaders:
        try:
            return isinstance(load(), (EllipticCurvePrivateKey, EllipticCurvePublicKey))
        except (ValueError, TypeError, UnsupportedAlgorithm):
            continue
    return False


def _bad_key(path: Path, error: Exception) -> EdgecError:
    hint = "make one with: openssl ecparam -name prime256v1 -genkey -noout -out release-ec.pem"
    return EdgecError("bad-key", f"'{path}' is no elliptic-curve key in PEM: {error}", hint)


def _require() -> None:
    if find_spec("model_signing") is None:
        message = f"{MODEL_SIGNATURE} needs model-signing, which is not installed"
        raise EdgecError("missing-model-signing", message, INSTALL)
