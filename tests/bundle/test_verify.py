"""``edgec verify``, ``pack``, ``diff`` and ``reproduce`` as a user runs them, and what a bundle's documents say."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rfc8785

from edgec.pipeline.bundle.diff import diff
from edgec.pipeline.bundle.integrity import read_checked_manifest
from edgec.pipeline.bundle.manifest import Manifest, sums
from edgec.pipeline.bundle.manifest_json import parse_manifest, to_bytes
from edgec.pipeline.bundle.model_card import model_card
from edgec.pipeline.bundle.sbom import sbom
from edgec.pipeline.bundle.semver import Semver, parse_version
from edgec.pipeline.bundle.verify import verify
from edgec.pipeline.cli import main
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.stage import file_sha256
from edgec.pipeline.tasks.accuracy import rate_interval


def reseal(folder: Path, change: Callable[[Manifest], Manifest] = lambda manifest: manifest) -> None:
    """What somebody who understands the format would do: all digests fit again."""
    manifest = change(parse_manifest((folder / "manifest.json").read_bytes(), "x"))
    files = tuple(
        replace(entry, bytes=(folder / entry.path).stat().st_size, sha256=file_sha256(folder / entry.path))
        for entry in manifest.files
    )
    put(folder, to_bytes(replace(manifest, files=files)))


def put(folder: Path, manifest: bytes) -> None:
    """A manifest that nobody looked at, and its digest."""
    (folder / "manifest.json").write_bytes(manifest)
    digests = [(entry["path"], entry["sha256"]) for entry in json.loads(manifest)["files"]]
    (folder / "SHA256SUMS").write_text(sums((*digests, ("manifest.json", file_sha256(folder / "manifest.json")))))


def edgec(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def code(folder: Path) -> str:
    with pytest.raises(EdgecError) as caught:
        verify(folder)
    return caught.value.code


@pytest.mark.parametrize("bundle", ["mcu_bundle", "cpu_bundle"])
def test_verify_runs_the_golden_vectors(
    bundle: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = request.getfixturevalue(bundle)
    status, out, _ = edgec(capsys, "verify", folder)
    assert status == 0
    assert "10 golden vectors answered as 'target' did" in out
    status, out, _ = edgec(capsys, "verify", folder, "--no-run", "--json")
    assert status == 0
    assert "not asked for" in json.loads(out)["skipped"][0]


class TestSemantics:
    """Digests fit, and yet the bundle is not what it says."""

    def test_other_scale(self, copy: Path) -> None:
        def change(manifest: Manifest) -> Manifest:
            source = replace(manifest.contract.inputs[0], scale=0.5)
            return replace(manifest, contract=replace(manifest.contract, inputs=(source,)))

        reseal(copy, change)
        assert code(copy) == "contract-mismatch"

    @pytest.mark.parametrize(
        "field", [{"color": "rgb"}, {"crop_px": 10**9}, {"resize_px": 0}, {"std": (1.0, 0.0, 1.0)}]
    )
    def test_a_preprocessing_that_cannot_be(self, copy: Path, field: dict[str, object]) -> None:
        manifest = json.loads((copy / "manifest.json").read_bytes())
        manifest["preprocessing"] |= field
        put(copy, rfc8785.dumps(manifest))
        assert code(copy) == "corrupt-bundle"

    def test_other_operators(self, copy: Path) -> None:
        reseal(copy, lambda m: replace(m, contract=replace(m.contract, operators={"CONV_2D": 1})))
        assert code(copy) == "contract-mismatch"

    def test_other_integer_preprocessing(self, copy: Path) -> None:
        reseal(copy, lambda m: replace(m, preprocessing=replace(m.preprocessing, integer=None)))
        assert code(copy) == "contract-mismatch"

    def test_other_labels(self, copy: Path) -> None:
        (copy / "labels.txt").write_text("red\ngreen\nblue\n")
        reseal(copy)
        assert code(copy) == "contract-mismatch"

    def test_other_answers(self, copy: Path) -> None:
        path = copy / "golden" / "outputs.target.int8.npy"
        answers = np.load(path)
        answers[4] = np.roll(answers[4], 1)
        np.save(path, answers)
        reseal(copy)
        with pytest.raises(EdgecError, match="'gradient-y'") as caught:
            verify(copy)
        assert caught.value.code == "golden-mismatch"

    @pytest.mark.parametrize("name", ["golden/golden.json", "golden/outputs.target.int8.npy"])
    def test_damaged_golden_files(self, copy: Path, name: str) -> None:
        (copy / name).write_bytes(b"{}")
        reseal(copy)
        assert code(copy) == "corrupt-bundle"

    @pytest.mark.parametrize("name", ["latency.json", "predictions.csv", "quantization.json", "golden/golden.json"])
    @pytest.mark.parametrize("content", [b"[]", b"{", b'{"status": 3}', b"file,label,float\nx,\xff,2\n"])
    def test_records_that_mean_nothing(
        self, copy: Path, name: str, content: bytes, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        (copy / name).write_bytes(content)
        reseal(copy)
        status, _, err = edgec(capsys, "report", copy, "--output", tmp_path / "x.html")
        assert (status, err[:22]) == (1, "error[corrupt-bundle]:")


def test_where_the_artifact_cannot_run_its_network_does(
    jetson_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Engines are built on their device; the reference answers anywhere, and what was not run is said."""
    manifest = read_checked_manifest(jetson_bundle)
    assert manifest.target.runtime == "TensorRT"
    assert manifest.contract.inputs[0].name == "input"
    assert not any(entry.role == "c-source" for entry in manifest.files)
    status, out, _ = edgec(capsys, "verify", jetson_bundle)
    assert status == 0
    assert "answered as 'reference' did" in out
    assert "skipped  the artifact itself was not run" in out


def test_pack_and_verify_an_archive(mcu_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive = tmp_path / "colours.tar.zst"
    status, out, _ = edgec(capsys, "pack", mcu_bundle, "--output", archive)
    assert status == 0
    assert out.split()[0] == file_sha256(archive)
    assert edgec(capsys, "verify", archive, "--no-run")[0] == 0
    assert edgec(capsys, "pack", archive)[0] == 0
    assert (tmp_path / "colours" / "manifest.json").is_file()
    status, _, err = edgec(capsys, "pack", mcu_bundle, "--output", tmp_path / "gone" / "x.tar.zst")
    assert (status, err[:26]) == (1, "error[output-not-writable]")


def test_refusals_name_the_archive(mcu_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not the folder that it was unpacked to for a moment; and who takes folders alone says what to do."""
    archive, key = tmp_path / "b.tar.zst", tmp_path / "key.pub"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", tmp_path / "key.pem"], check=True)
    subprocess.run(["openssl", "pkey", "-in", tmp_path / "key.pem", "-pubout", "-out", key], check=True)
    assert edgec(capsys, "pack", mcu_bundle, "--output", archive)[0] == 0
    for words in (("verify", archive), ("pack", archive, "--output", tmp_path / "out")):
        err = edgec(capsys, *words, "--key", key)[2]
        assert err.startswith(f"error[not-signed]: '{archive}' is not signed"), words
    for words in (("measure", archive), ("project", archive, "--for", "cmake"), ("run", archive, archive)):
        err = edgec(capsys, *words)[2]
        assert err.startswith(f"error[no-bundle]: '{archive}' is a file"), words
        assert f"edgec pack '{archive}' --output FOLDER" in err
    assert "edgec pack" in edgec(capsys, "inspect", archive)[2]


class TestDiff:
    @pytest.fixture
    def manifest(self, mcu_bundle: Path) -> Manifest:
        return read_checked_manifest(mcu_bundle)

    def step(self, old: Manifest, new: Manifest) -> tuple[str, str]:
        found = diff(old, new)
        heaviest = next((change.words for change in found.changes if change.step == found.step), "")
        return found.step, heaviest

    def test_figures_that_other_packages_bring_are_compared(self, manifest: Manifest) -> None:
        def with_figure(value: float | None) -> Manifest:
            return replace(manifest, accuracy=replace(manifest.accuracy, metrics={"top-2": {"target": value}}))

        (change,) = diff(with_figure(80.0), with_figure(75.5)).changes
        assert (change.area, change.step) == ("accuracy", "minor")
        assert change.words == "top-2 of target: 80 became 75.5, -4.5"

    def test_nothing_changed(self, manifest: Manifest) -> None:
        found = diff(manifest, manifest)
        assert (found.changes, found.step, found.is_version_right) == ((), "none", True)

    def test_steps(self, manifest: Manifest) -> None:
        contract, source = manifest.contract, manifest.contract.inputs[0]
        scaled = replace(contract, inputs=(replace(source, scale=0.25),))
        assert self.step(manifest, replace(manifest, contract=scaled))[0] == "major"
        more = replace(contract, operators=contract.operators | {"SOFTMAX": 1})
        assert self.step(manifest, replace(manifest, contract=more)) == ("major", "operator SOFTMAX: 0 became 1")
        fewer = replace(contract, operators=contract.operators | {"CONV_2D": 9})
        assert self.step(manifest, replace(manifest, contract=fewer))[0] == "patch"
        labels = replace(manifest, labels=("blue", "red", "green"))
        assert self.step(manifest, labels) == ("major", "2 of 3 labels are others or elsewhere")
        worse = replace(manifest, accuracy=replace(manifest.accuracy, target=91.5))
        assert self.step(manifest, worse)[0] == "minor"
        smaller = replace(manifest, size_bytes=manifest.size_bytes // 2)
        assert self.step(manifest, smaller)[0] == "patch"
        assert "-50.0 %" in self.step(manifest, smaller)[1]
        arena = replace(manifest, memory=replace(manifest.memory, arena_with_margin_bytes=99))
        assert self.step(manifest, arena)[0] == "major"
        tools = replace(manifest, origin=replace(manifest.origin, toolchain=manifest.origin.toolchain | {"onnx": "9"}))
        assert self.step(manifest, tools)[0] == "patch"
        other = replace(manifest.origin, calibration_set=replace(manifest.origin.calibration_set, sha256="f" * 64))
        assert "calibration data" in self.step(manifest, replace(manifest, origin=other))[1]

    def test_latency_is_compared_only_where_it_can_be(self, manifest: Manifest) -> None:
        def measured(p50: float, half: float, machine: str, digest: str) -> Manifest:
            interval = (p50 - half, p50 + half)
            latency = replace(manifest.latency, p50_ms=p50, p50_interval_ms=interval, fingerprint={"cpu": machine})
            files = tuple(replace(e, sha256=digest) if e.role == "artifact" else e for e in manifest.files)
            return replace(manifest, latency=latency, files=files)

        def words(old: Manifest, new: Manifest) -> list[str]:
            return [change.words for change in diff(old, new).changes if change.area == "latency"]

        def without(manifest: Manifest) -> Manifest:
            return replace(manifest, latency=replace(manifest.latency, p50_interval_ms=None))

        old = measured(1.0, 0.1, "a", "0")
        assert words(old, measured(1.5, 0.1, "a", "1")) == ["median latency: 1 ms became 1.5 ms, +0.5 (+50.0 %)"]
        assert words(old, measured(1.1, 0.1, "a", "1")) == []  # the intervals overlap
        assert words(old, measured(1.5, 0.1, "a", "0")) == []  # the same artifact
        assert words(old, measured(1.5, 0.1, "b", "1")) == [
            "latency was measured under other conditions: cpu a became b"
        ]
        unsure = diff(without(old), without(measured(1.5, 0.1, "a", "1")))
        (change,) = (change for change in unsure.changes if change.area == "latency")
        assert (change.step, "may be noise" in change.words) == ("none", True)

    def test_exit_status(self, mcu_bundle: Path, copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert edgec(capsys, "diff", mcu_bundle, copy)[0] == 0
        reseal(copy, lambda m: replace(m, labels=("a", "b", "c")))
        status, out, _ = edgec(capsys, "diff", mcu_bundle, copy)
        assert status == 3
        assert "1.0.0 -> 2.0.0 at least (a major step), but it is 1.0.0" in out
        reseal(copy, lambda m: replace(m, model=replace(m.model, version="2.0.0")))
        status, out, _ = edgec(capsys, "diff", mcu_bundle, copy, "--json")
        assert status == 0
        assert json.loads(out)["step"] == "major"

    def test_versions(self) -> None:
        assert parse_version("1.10.0") > parse_version("1.9.9")
        assert [str(Semver(1, 2, 3).stepped(step)) for step in ("none", "patch", "minor", "major")] == [
            "1.2.3", "1.2.4", "1.3.0", "2.0.0",
        ]  # fmt: skip
        for text in ("1.2", "v1.2.3", "1.2.3-rc1", "01.2.3", "1.2.3\n", "١.2.3"):
            with pytest.raises(EdgecError) as caught:
                parse_version(text)
            assert caught.value.code == "bad-version"


class TestReproduce:
    """Another folder, time zone, home, hash seed, umask and number of threads; an empty store; the same bytes."""

    def run(self, bundle: Path, tmp_path: Path, *arguments: object) -> tuple[int, dict[str, object]]:
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir(exist_ok=True)
        environment = os.environ | {
            "TZ": "Pacific/Chatham",
            "HOME": str(elsewhere),
            "PYTHONHASHSEED": "77",
            "OMP_NUM_THREADS": "3",
        }
        words = [sys.executable, "-m", "edgec.pipeline.cli", "reproduce", bundle, "--json", *arguments]
        done = subprocess.run(
            [str(word) for word in words],
            cwd=elsewhere,
            env=environment,
            umask=0o077,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    def test_same_bytes(
        self,
        mcu_bundle: Path,
        colours_toml: Path,
        tiny_images: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        moved = shutil.copytree(colours_toml.parent, tmp_path / "moved model")
        photos = shutil.copytree(tiny_images, tmp_path / "moved photos")
        status, found = self.run(mcu_bundle, tmp_path, "--model", Path(moved) / "colours.toml", "--data", photos)
        assert (status, found["differences"]) == (0, [])
        assert found["num_equal"] == len(read_checked_manifest(mcu_bundle).files)
        edgec(capsys, "pack", mcu_bundle, "--output", tmp_path / "a.tar.zst")
        assert found["archive_sha256"] == file_sha256(tmp_path / "a.tar.zst")

    def test_names_the_first_difference(
        self, copy: Path, colours_toml: Path, tiny_images: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The artifact of the bundle is another one: not the C sources made from it, but the artifact is named."""
        content = bytearray((copy / "model.tflite").read_bytes())
        content[-1] ^= 1
        (copy / "model.tflite").write_bytes(content)
        (copy / "c" / "model.h").write_text("changed")
        reseal(copy)
        status, out, _ = edgec(capsys, "reproduce", copy, "--model", colours_toml, "--data", tiny_images, "--json")
        found = json.loads(out)
        assert status == 3
        assert found["differences"] == ["model.tflite", "c/model.h"]
        assert "the artifact has other bytes" in str(found["reasons"])

    def test_wrong_material(
        self,
        mcu_bundle: Path,
        colours_toml: Path,
        tiny_images: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        other = Path(shutil.copytree(tiny_images, tmp_path / "other"))
        (other / "red" / "0.png").write_bytes((other / "red" / "1.png").read_bytes())
        model = Path(shutil.copytree(colours_toml.parent, tmp_path / "model"))
        toml = model / "colours.toml"
        toml.write_text(toml.read_text().replace("127.5, 120.0", "127.0, 120.0"))
        for arguments in (
            ("--data", tiny_images),
            ("--model", colours_toml, "--data", other),
            ("--model", toml, "--data", tiny_images),
        ):
            status, _, err = edgec(capsys, "reproduce", mcu_bundle, *arguments)
            assert status == 1
            assert err.partition("error[")[2].partition("]")[0] == "wrong-material"


class TestDocuments:
    def test_sbom_follows_the_schema(self, mcu_bundle: Path) -> None:
        pytest.importorskip("jsonschema")
        from cyclonedx.schema import SchemaVersion
        from cyclonedx.validation.json import JsonStrictValidator

        manifest = read_checked_manifest(mcu_bundle)
        text = (mcu_bundle / "sbom.cdx.json").read_text()
        assert JsonStrictValidator(SchemaVersion.V1_7).validate_str(text) is None
        document = json.loads(text)
        assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.7")
        (model,) = (part for part in document["components"] if part["type"] == "machine-learning-model")
        (artifact,) = (entry for entry in manifest.files if entry.role == "artifact")
        assert model["hashes"] == [{"alg": "SHA-256", "content": artifact.sha256}]
        assert model["modelCard"]["modelParameters"]["inputs"] == [{"format": "int8 NHWC 1x32x32x3"}]
        assert model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
        names = {part["name"] for part in document["components"]}
        assert {"torch", "onnxruntime", "calibration set", "test set"} <= names
        click = next(part for part in document["components"] if part["name"] == "click")
        assert click["licenses"]
        assert click["purl"].startswith("pkg:pypi/click@")
        assert sbom(manifest) == sbom(manifest)

    def test_a_broken_sbom_is_noticed(self, mcu_bundle: Path) -> None:
        pytest.importorskip("jsonschema")
        from cyclonedx.schema import SchemaVersion
        from cyclonedx.validation.json import JsonStrictValidator

        text = (mcu_bundle / "sbom.cdx.json").read_text().replace('"modelParameters"', '"parameters"')
        assert JsonStrictValidator(SchemaVersion.V1_7).validate_str(text) is not None

    def test_model_card(self, mcu_bundle: Path) -> None:
        manifest = read_checked_manifest(mcu_bundle)
        card = model_card(manifest)
        assert card == (mcu_bundle / "README.md").read_text()
        assert "100.00 % (61.0 to 100.0)" in card
        assert "not measured" in card
        assert manifest.origin.calibration_set.sha256 in card
        assert card.splitlines()[2].startswith("INT8 network")
        for precision, words in (("fp16", "FP16 network"), ("mixed", "INT8 and float network")):
            other = replace(manifest, target=replace(manifest.target, precision=precision))
            assert model_card(other).splitlines()[2].startswith(words)
            assert f'"{words.removesuffix(" network")} {manifest.target.runtime}' in sbom(other)
        hostile = replace(manifest, notes=("<script>alert(1)</script> | x",))
        assert "<script>" not in model_card(hostile)

    def test_rate_interval(self) -> None:
        """Against the figures of Wilson's formula worked by hand for 81 of 263 (Newcombe, Stat. Med. 17, 1998)."""
        low, high = rate_interval(100 * 81 / 263, 263)
        assert (round(low, 2), round(high, 2)) == (25.53, 36.62)
        assert rate_interval(0.0, 10)[0] == 0.0
        assert rate_interval(100.0, 10)[1] == 100.0
        low, high = rate_interval(30.0, 50)
        mirrored = rate_interval(70.0, 50)
        assert (low, high) == pytest.approx((100 - mirrored[1], 100 - mirrored[0]))
