"""``provenance.intoto.json``: who built this bundle from what, as an in-toto statement with SLSA's provenance.

https://in-toto.io/Statement/v1 and https://slsa.dev/spec/v1.0/provenance. The statement is a listed file like any
other; signing a bundle also puts it into a DSSE envelope (``provenance.dsse.json``), which their tools take alone.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgec.pipeline.bundle.manifest import ENVELOPE, HINT, PROVENANCE, DataSet, Manifest
from edgec.pipeline.bundle.provenance import package_url
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.stage import plain

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

STATEMENT, PREDICATE = "https://in-toto.io/Statement/v1", "https://slsa.dev/provenance/v1"
BUILD_TYPE, BUILDER = "urn:edgec:build:v1", "urn:edgec:command-line"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
MAX_ENVELOPE_BYTES = 4 << 20


def statement(manifest: Manifest) -> str:
    """The document as text: equal manifests give equal text, so it names neither a time nor a machine."""
    origin = manifest.origin
    subjects = [entry for entry in manifest.files if entry.role == "artifact"]
    asked = {
        "model": plain(origin.source),
        "version": manifest.model.version,
        "target": origin.target,
        "precision": manifest.target.precision,
        "quantizer": origin.quantizer,
        "task": origin.task,
        "maxDropPp": origin.max_drop_pp,
        "learnMinutes": origin.learn_minutes,
    }
    content = {
        "_type": STATEMENT,
        "subject": [{"name": entry.path, "digest": {"sha256": entry.sha256}} for entry in subjects],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": asked,
                "resolvedDependencies": _dependencies(manifest),
            },
            "runDetails": {"builder": {"id": BUILDER, "version": {"edgec": origin.toolchain["edgec"]}}},
        },
    }
    return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _dependencies(manifest: Manifest) -> list[dict[str, Any]]:
    """Everything that went in: checkpoint, images, edgec's own commit, and the tools with their versions."""
    origin = manifest.origin
    sets: dict[str, DataSet | None] = {
        "calibration set": origin.calibration_set,
        "test set": origin.test_set,
        "deciding set": origin.deciding_set,
    }
    found: list[dict[str, Any]] = [
        {"name": f"checkpoint {origin.source.name}", "digest": {"sha256": origin.source.checkpoint_sha256}}
    ]
    found += [{"name": name, "digest": {"sha256": data.sha256}} for name, data in sets.items() if data is not None]
    commit = origin.git_commit.removesuffix("+dirty")
    if commit != "unknown":
        changed = {"annotations": {"uncommittedChanges": True}} if commit != origin.git_commit else {}
        found.append({"name": "edgec", "digest": {"gitCommit": commit}, **changed})
    tools = {name: version for name, version in origin.toolchain.items() if version != "not installed"}
    return found + [{"name": name, "uri": str(package_url(name, version))} for name, version in sorted(tools.items())]


def seal_envelope(folder: Path, key: Ed25519PrivateKey) -> None:
    """Write the statement of a bundle, signed, as ``provenance.dsse.json``; nothing where the bundle has none."""
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import CryptoSigner

    if not (folder / PROVENANCE).is_file():  # a bundle of an earlier edgec
        return
    envelope = Envelope((folder / PROVENANCE).read_bytes(), PAYLOAD_TYPE, {})
    envelope.sign(CryptoSigner(key))
    text = json.dumps(envelope.to_dict(), indent=2, sort_keys=True)
    (folder / ENVELOPE).write_text(f"{text}\n", encoding="utf-8", newline="\n")


def check_envelope(folder: Path, key: Ed25519PublicKey) -> None:
    """Refuse an envelope that is not the bundle's own statement, signed with ``key``; that there is none is no fault.

    Raises:
        EdgecError: ``bad-signature``.
    """
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import VerificationError
    from securesystemslib.signer import SSlibKey

    path = folder / ENVELOPE
    if not path.exists():
        return
    try:
        if not path.is_file() or path.stat().st_size > MAX_ENVELOPE_BYTES:
            raise ValueError("it is no small file")
        envelope = Envelope.from_dict(json.loads(path.read_bytes()))
        envelope.verify([SSlibKey.from_crypto(key)], 1)
        if envelope.payload != (folder / PROVENANCE).read_bytes() or envelope.payload_type != PAYLOAD_TYPE:
            raise ValueError(f"it holds another statement than {PROVENANCE}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, VerificationError) as error:
        raise EdgecError("bad-signature", f"'{path}' does not fit the bundle: {error}", HINT) from error
