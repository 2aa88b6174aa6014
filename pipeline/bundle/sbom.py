"""``sbom.cdx.json``: CycloneDX 1.7 ML-BOM of the model, its data and the software that made it."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

from edgec.pipeline.bundle.manifest import Manifest
from edgec.pipeline.bundle.provenance import licence_of, package_url

if TYPE_CHECKING:
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component
    from cyclonedx.model.license import License

TASKS = {"classification": "image classification"}
BITWISE_ROLES = ("artifact", "float-network", "quantized-network")


def sbom(manifest: Manifest) -> str:
    """The document as text: equal manifests give equal text, so it has neither a time nor a random serial number."""
    from cyclonedx.output.json import JsonV1Dot7

    document = json.loads(JsonV1Dot7(_bom(manifest)).output_as_string())
    document["metadata"].pop("timestamp", None)
    model = next(part for part in document["components"] if part["type"] == "machine-learning-model")
    model["modelCard"] = _model_card(manifest)  # the library has no class for it
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _bom(manifest: Manifest) -> Bom:
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType

    def component(kind: ComponentType, name: str, sha256: str, version: str | None = None) -> Component:
        hashes = [HashType(alg=HashAlgorithm.SHA_256, content=sha256)]
        return Component(type=kind, name=name, version=version, hashes=hashes, bom_ref=f"{kind.value}:{name}")

    artifact = [entry for entry in manifest.files if entry.role == "artifact"]
    model = Component(
        type=ComponentType.MACHINE_LEARNING_MODEL,
        name=manifest.model.name,
        version=manifest.model.version,
        description=f"{manifest.target.precision_words} {manifest.target.runtime} artifact for {manifest.target.name}",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=artifact[0].sha256)] if len(artifact) == 1 else [],
        licenses=_licences(next(part.expression for part in manifest.licences if part.part == "weights")),
        bom_ref="model",
        components=[
            component(ComponentType.FILE, entry.path, entry.sha256)
            for entry in manifest.files
            if entry.role in BITWISE_ROLES
        ],
    )
    origin = manifest.origin
    parts = [
        component(ComponentType.DATA, "calibration set", origin.calibration_set.sha256),
        component(ComponentType.DATA, "test set", origin.test_set.sha256),
        component(ComponentType.DATA, f"checkpoint {origin.source.name}", origin.source.checkpoint_sha256),
        *(_library(name, version) for name, version in origin.toolchain.items()),
    ]
    bom = Bom(components=[model, *parts], serial_number=_serial(manifest))
    bom.register_dependency(model, parts)
    return bom


def _library(name: str, version: str) -> Component:
    from cyclonedx.model.component import Component, ComponentType

    purl = package_url(name, version)
    return Component(
        type=ComponentType.LIBRARY,
        name=name,
        version=version,
        purl=purl,
        bom_ref=str(purl),
        licenses=_licences(licence_of(name)),
    )


def _licences(text: str) -> list[License]:
    """An SPDX expression where ``text`` is one, else a name; none for a licence that nobody stated."""
    from cyclonedx.exception.factory import InvalidLicenseExpressionException
    from cyclonedx.factory.license import LicenseFactory

    if text in ("", "not stated"):
        return []
    try:
        return [LicenseFactory().make_with_expression(text)]
    except InvalidLicenseExpressionException:
        return [LicenseFactory().make_with_name(text)]


def _serial(manifest: Manifest) -> uuid.UUID:
    digests = " ".join(entry.sha256 for entry in manifest.files if entry.role in BITWISE_ROLES)
    return uuid.uuid5(uuid.NAMESPACE_OID, f"{manifest.model.name} {manifest.model.version} {digests}")


def _model_card(manifest: Manifest) -> dict[str, Any]:
    """https://cyclonedx.org/docs/1.7/json/#components_items_modelCard"""
    tensors = (manifest.contract.inputs, manifest.contract.outputs)
    inputs, outputs = (
        [{"format": f"{tensor.dtype} {tensor.layout} {'x'.join(map(str, tensor.shape))}"} for tensor in side]
        for side in tensors
    )
    parameters = {
        "task": TASKS.get(manifest.accuracy.task, manifest.accuracy.task),
        "architectureFamily": "convolutional neural network",
        "modelArchitecture": manifest.model.name,
        "datasets": [{"ref": "data:calibration set"}, {"ref": "data:test set"}],
        "inputs": inputs,
        "outputs": outputs,
    }
    limitations = [
        f"Measured on {manifest.accuracy.num_images} images; other images give other rates.",
        *manifest.notes,
    ]
    return {
        "modelParameters": parameters,
        "quantitativeAnalysis": {"performanceMetrics": _metrics(manifest)},
        "considerations": {"technicalLimitations": limitations},
    }


def _metrics(manifest: Manifest) -> list[dict[str, Any]]:
    found = manifest.accuracy
    rows = [
        (f"{found.metric} percent", "float network", found.float),
        (f"{found.metric} percent", "artifact", found.target),
        ("agreement with float percent", "artifact", found.agreement),
    ]
    return [
        {
            "type": kind,
            "slice": part,
            "value": f"{value:.2f}",
            **_interval(found.interval(value)),
        }
        for kind, part, value in rows
        if value is not None
    ]


def _interval(ends: tuple[float, float] | None) -> dict[str, dict[str, str]]:
    return {"confidenceInterval": {"lowerBound": f"{ends[0]:.2f}", "upperBound": f"{ends[1]:.2f}"}} if ends else {}
