"""The float network of a bundle that leaves it out: stated by digest and counts, found in the store, or made again."""

from __future__ import annotations

from pathlib import Path

from edgec.pipeline.build import Build
from edgec.pipeline.bundle.manifest import FloatNetwork
from edgec.pipeline.bundle.read import Bundle
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.root import default_root
from edgec.pipeline.core.stage import Artifact, file_sha256
from edgec.pipeline.core.store import Store
from edgec.pipeline.forms.compile import Compile
from edgec.pipeline.forms.spec import float_settings
from edgec.pipeline.network.cost import network_cost
from edgec.pipeline.network.simplify import Simplify
from edgec.pipeline.recipe import Choices, network_recipe


def stated(fp32: Artifact) -> FloatNetwork:
    """What a manifest says of it; counts are None where an operator cannot be counted."""
    import onnx

    try:
        cost = network_cost(onnx.load(fp32.path))
    except EdgecError as error:
        if error.code != "no-count":
            raise
        return FloatNetwork(fp32.sha256)
    return FloatNetwork(fp32.sha256, cost.macs, cost.params)


def choices_of(bundle: Bundle, weights: str | None = None) -> Choices:
    """The network that the manifest records, with the same weights or with ``weights``."""
    source = bundle.manifest.origin.source
    network = source.network or {}
    return Choices(
        weights=weights or source.name,
        width_multiplier=network.get("width_multiplier"),
        input_px=network.get("input_px"),
        num_classes=network.get("num_classes"),
        padding=network.get("padding"),
        output_stride=network.get("output_stride"),
        argmax=network.get("argmax"),
    )


def float_network(bundle: Bundle) -> Path:
    """In the bundle, in this machine's store, or made again of weights that edgec knows by name.

    Raises:
        EdgecError: ``float-left-out`` where it is none of these.
    """
    wanted = bundle.manifest.float_network
    if wanted is None or bundle.float_onnx.is_file():
        return bundle.float_onnx
    store = Store(default_root())
    kept = _kept(store, wanted.sha256)
    return kept or _made_again(bundle, store, wanted.sha256)


def float_artifact(bundle: Bundle) -> Path:
    """What the target's compiler makes of the float network: what an integer artifact has to outrun.

    Raises:
        EdgecError: ``float-left-out``; ``unsupported-precision`` where the artifact itself is in float; what compiling
            raises.
    """
    target = bundle.target
    if target.precision == "fp16":
        message = f"the artifact of '{bundle.folder}' is in float itself"
        raise EdgecError("unsupported-precision", message, "delete the limit")
    path = float_network(bundle)
    compiled = Compile(target.compiler, float_settings(target))
    return Store(default_root()).run(compiled, Artifact(path, file_sha256(path))).path


def _kept(store: Store, sha256: str) -> Path | None:
    for record, folder in store.entries():
        path = folder / Simplify.output
        if record["sha256"] == sha256 and path.is_file() and file_sha256(path) == sha256:
            return path
    return None


def _made_again(bundle: Bundle, store: Store, sha256: str) -> Path:
    source = bundle.manifest.origin.source
    what = f"'{bundle.folder}' leaves its float network out, and this machine has none"
    hint = (
        f"make it again with 'edgec export' of '{source.name}', which the bundle was built from; or build --with float"
    )
    if source.kind == "onnx" or source.network is None:
        raise EdgecError("float-left-out", what, hint)
    try:
        recipe = network_recipe(source.network["model"], choices_of(bundle))
    except EdgecError as error:
        raise EdgecError("float-left-out", f"{what}: {error.message}", hint) from error
    made = Build(recipe, store).fp32
    if made.sha256 != sha256:
        message = f"{what}: made again it has sha256 {made.sha256}, expected {sha256}"
        raise EdgecError("float-left-out", message, "use the versions that the manifest's toolchain names, or " + hint)
    return made.path
