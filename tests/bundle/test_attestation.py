"""Signatures and statements of the ecosystem, each checked by its own tool."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from packageurl import PackageURL

from edgec.pipeline.bundle.archive import pack, unpack
from edgec.pipeline.bundle.attestation import PAYLOAD_TYPE, statement
from edgec.pipeline.bundle.integrity import read_checked_manifest
from edgec.pipeline.bundle.manifest import ENVELOPE, MODEL_SIGNATURE, PROVENANCE, PUBLIC_KEY, SIGNATURE
from edgec.pipeline.bundle.model_signature import is_elliptic
from edgec.pipeline.bundle.sbom import sbom
from edgec.pipeline.bundle.signature import check_signatures, sign_with
from edgec.pipeline.cli import main
from edgec.pipeline.core.errors import EdgecError

pytest.importorskip("cryptography")
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

Keys = dict[str, Path]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    """Private (.pem) and public (.pub) keys: Ed25519, two of P-256, and a curve that model-signing does not take."""
    folder = tmp_path_factory.mktemp("keys")
    made = {
        "ed": Ed25519PrivateKey.generate(),
        "ec": ec.generate_private_key(ec.SECP256R1()),
        "other": ec.generate_private_key(ec.SECP256R1()),
        "odd": ec.generate_private_key(ec.SECP256K1()),
    }
    pem, found = serialization.Encoding.PEM, {}
    for name, key in made.items():
        private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        public = key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
        for suffix, content in ((".pem", private), (".pub", public)):
            found[name + suffix] = folder / (name + suffix)
            found[name + suffix].write_bytes(content)
    return found


@pytest.fixture
def copy(mcu_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(mcu_bundle, tmp_path / "bundle"))


def refusal(folder: Path, *trusted: Path) -> str:
    with pytest.raises(EdgecError) as caught:
        check_signatures(folder, trusted)
    return caught.value.code


def model_signing(folder: Path, key: Path) -> int:
    """OpenSSF's own command line."""
    command = [sys.executable, "-m", "model_signing", "verify", "key", folder, "--signature", folder / MODEL_SIGNATURE]
    done = subprocess.run([*command, "--public_key", key], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    return done.returncode


class TestStatement:
    def test_in_toto_takes_it(self, mcu_bundle: Path) -> None:
        from google.protobuf import json_format
        from in_toto_attestation.v1.statement import Statement
        from in_toto_attestation.v1.statement_pb2 import Statement as Message

        content = json.loads((mcu_bundle / PROVENANCE).read_text())
        found = Statement.copy_from_pb(json_format.ParseDict(content, Message()))
        found.validate()
        manifest = read_checked_manifest(mcu_bundle)
        (artifact,) = (entry for entry in manifest.files if entry.role == "artifact")
        (subject,) = content["subject"]
        assert subject == {"name": artifact.path, "digest": {"sha256": artifact.sha256}}

    def test_slsa_provenance_takes_its_predicate(self, mcu_bundle: Path) -> None:
        from google.protobuf import json_format
        from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance

        predicate = json.loads((mcu_bundle / PROVENANCE).read_text())["predicate"]
        message = json_format.ParseDict(predicate, Provenance())  # refuses fields that SLSA has not
        assert message.build_definition.build_type
        assert message.run_details.builder.id
        dependencies = {entry["name"]: entry for entry in predicate["buildDefinition"]["resolvedDependencies"]}
        manifest = read_checked_manifest(mcu_bundle)
        assert dependencies["test set"]["digest"]["sha256"] == manifest.origin.test_set.sha256
        torch = PackageURL.from_string(dependencies["torch"]["uri"])
        assert (torch.type, torch.name, torch.version) == ("pypi", "torch", manifest.origin.toolchain["torch"])

    def test_packages_are_named_as_in_the_sbom(self, mcu_bundle: Path) -> None:
        """A version's ``+`` is no letter of a purl: ``torch@2.0%2Bcpu``."""
        manifest = read_checked_manifest(mcu_bundle)
        tools = {**manifest.origin.toolchain, "torch": "2.0+cpu"}
        manifest = replace(manifest, origin=replace(manifest.origin, toolchain=tools))
        told = json.loads(statement(manifest))["predicate"]["buildDefinition"]["resolvedDependencies"]
        uris = {entry["uri"] for entry in told if "uri" in entry}
        assert {"pkg:pypi/torch@2.0%2Bcpu", f"pkg:generic/python@{tools['python']}"} <= uris
        assert uris == {part["purl"] for part in json.loads(sbom(manifest))["components"] if "purl" in part}

    def test_it_depends_on_the_manifest_alone(self, mcu_bundle: Path) -> None:
        manifest = read_checked_manifest(mcu_bundle)
        assert json.loads(statement(manifest)) == json.loads((mcu_bundle / PROVENANCE).read_text())
        assert statement(manifest) == statement(read_checked_manifest(mcu_bundle))


class TestEnvelope:
    def test_securesystemslib_takes_it(self, copy: Path, keys: Keys) -> None:
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
        from securesystemslib.dsse import Envelope
        from securesystemslib.signer import SSlibKey

        sign_with(copy, [keys["ed.pem"]])
        envelope = Envelope.from_dict(json.loads((copy / ENVELOPE).read_text()))
        envelope.verify([SSlibKey.from_crypto(load_pem_public_key(keys["ed.pub"].read_bytes()))], 1)  # type: ignore[arg-type]
        assert (envelope.payload, envelope.payload_type) == ((copy / PROVENANCE).read_bytes(), PAYLOAD_TYPE)
        assert check_signatures(copy, [keys["ed.pub"]]) == ("signed with the trusted key",)

    def test_no_other_statement_and_no_other_key(self, copy: Path, keys: Keys, mcu_bundle: Path) -> None:
        sign_with(copy, [keys["ed.pem"]])
        whole = json.loads((copy / ENVELOPE).read_text())
        changed = [
            {**whole, "payload": "e30="},
            {**whole, "payloadType": "text/plain"},
            {**whole, "signatures": []},
            {**whole, "signatures": [{**whole["signatures"][0], "sig": "AAAA"}]},
            {},
            [],
        ]
        for content in changed:
            (copy / ENVELOPE).write_text(json.dumps(content))
            assert refusal(copy, keys["ed.pub"]) == "bad-signature", content
        (copy / ENVELOPE).write_text("no JSON")
        assert refusal(copy, keys["ed.pub"]) == "bad-signature"

    def test_an_envelope_alone_is_half_a_signature(self, copy: Path, keys: Keys) -> None:
        sign_with(copy, [keys["ed.pem"]])
        for name in (SIGNATURE, PUBLIC_KEY):
            (copy / name).unlink()
        assert refusal(copy) == refusal(copy, keys["ed.pub"]) == "bad-signature"


class TestModelSignature:
    def test_its_own_tool_takes_it(self, copy: Path, keys: Keys) -> None:
        pytest.importorskip("model_signing")
        sign_with(copy, [keys["ec.pem"]])
        assert model_signing(copy, keys["ec.pub"]) == 0
        assert model_signing(copy, keys["other.pub"]) != 0
        (copy / "README.md").write_text("changed")
        assert model_signing(copy, keys["ec.pub"]) != 0

    def test_both_signatures_through_an_archive(
        self, copy: Path, keys: Keys, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """By the command line, whatever the order of the keys; the build's log is part of neither."""
        pytest.importorskip("model_signing")
        archive = tmp_path / "b.tar.zst"
        signing = ["--sign", str(keys["ec.pem"]), "--sign", str(keys["ed.pem"])]
        assert main(["pack", str(copy), "--output", str(archive), *signing]) == 0
        trusted = ["--key", str(keys["ed.pub"]), "--key", str(keys["ec.pub"])]
        assert main(["pack", str(archive), "--output", str(tmp_path / "out"), *trusted]) == 0
        assert model_signing(tmp_path / "out", keys["ec.pub"]) == 0
        capsys.readouterr()
        assert main(["verify", str(tmp_path / "out"), "--no-run", *trusted]) == 0
        told = capsys.readouterr().out
        assert "signature: signed with the trusted key" in told
        assert "OpenSSF Model Signing" in told
        assert main(["verify", str(tmp_path / "out"), "--no-run"]) == 0
        assert "skipped  signature: model.sig was not checked" in capsys.readouterr().out
        assert main(["pack", str(archive), "--output", str(tmp_path / "again")]) == 0
        assert "model.sig was not checked" in capsys.readouterr().out
        command = [sys.executable, str(tmp_path / "out" / "verify.py")]
        assert "model.sig was not checked" in subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def test_what_it_refuses(self, copy: Path, keys: Keys) -> None:
        pytest.importorskip("model_signing")
        assert refusal(copy, keys["ec.pub"]) == "not-signed"
        sign_with(copy, [keys["ec.pem"]])
        assert refusal(copy, keys["other.pub"]) == "bad-signature"
        whole = (copy / MODEL_SIGNATURE).read_bytes()
        for content in (b"", b"{}", b"[]", b"\xff", whole[:-40], whole.replace(b"a", b"b"), b'{"mediaType": 1}'):
            (copy / MODEL_SIGNATURE).write_bytes(content)
            assert refusal(copy, keys["ec.pub"]) == "bad-signature", content[:20]
        for position in range(0, len(whole), max(1, len(whole) // 40)):
            content = bytearray(whole)
            content[position] ^= 4
            (copy / MODEL_SIGNATURE).write_bytes(content)
            assert refusal(copy, keys["ec.pub"]) == "bad-signature"
        (copy / MODEL_SIGNATURE).write_bytes(whole)
        (copy / "labels.txt").unlink()
        assert refusal(copy, keys["ec.pub"]) == "bad-signature"

    @pytest.mark.parametrize("kind", [("ed.pem", "ed.pem"), ("ed.pem", "ec.pem", "other.pem")])
    def test_a_second_key_of_a_kind_replaces_no_signature(self, kind: tuple[str, ...], copy: Path, keys: Keys) -> None:
        with pytest.raises(EdgecError) as caught:
            sign_with(copy, [keys[name] for name in kind])
        assert (caught.value.code, "would replace" in caught.value.message) == ("bad-key", True)
        assert not any((copy / name).exists() for name in (SIGNATURE, MODEL_SIGNATURE)), "nothing is half signed"

    def test_keys_that_it_does_not_take(self, copy: Path, keys: Keys) -> None:
        pytest.importorskip("model_signing")
        with pytest.raises(EdgecError) as caught:
            sign_with(copy, [keys["odd.pem"]])
        assert caught.value.code == "bad-key"
        sign_with(copy, [keys["ec.pem"]])
        assert refusal(copy, keys["odd.pub"]) == "bad-key"

    def test_kinds_of_keys(self, keys: Keys, tmp_path: Path) -> None:
        assert [is_elliptic(keys[name]) for name in ("ed.pem", "ed.pub", "ec.pem", "ec.pub")] == [
            False,
            False,
            True,
            True,
        ]
        assert not is_elliptic(tmp_path / "none")

    def test_without_the_library(self, copy: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
        find_spec = sys.modules["edgec.pipeline.bundle.model_signature"].find_spec
        monkeypatch.setattr(
            "edgec.pipeline.bundle.model_signature.find_spec",
            lambda name: None if name == "model_signing" else find_spec(name),
        )
        with pytest.raises(EdgecError) as caught:
            sign_with(copy, [keys["ec.pem"]])
        assert caught.value.code == "missing-model-signing"


def test_a_bundle_signed_either_way_takes_no_verdicts(copy: Path, keys: Keys) -> None:
    from edgec.pipeline.gate.keep import check_unsigned

    check_unsigned([copy])
    (copy / MODEL_SIGNATURE).write_text("{}")
    with pytest.raises(EdgecError) as caught:
        check_unsigned([copy])
    assert caught.value.code == "signed-bundle"


def test_both_files_are_small_and_unpack(copy: Path, keys: Keys, tmp_path: Path) -> None:
    pytest.importorskip("model_signing")
    sign_with(copy, [keys["ed.pem"], keys["ec.pem"]])
    pack(copy, tmp_path / "s.tar.zst")
    unpack(tmp_path / "s.tar.zst", tmp_path / "out")
    for name in (ENVELOPE, MODEL_SIGNATURE):
        assert (tmp_path / "out" / name).read_bytes() == (copy / name).read_bytes()
