"""``--weights NAME | FILE | FILE#ENTRY | CARD.toml | random``: what was asked for, and into the network."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edgec.pipeline.core.errors import EdgecError, nearest_hint
from edgec.pipeline.core.stage import file_sha256
from edgec.pipeline.data.preprocess import Preprocess
from edgec.pipeline.network import models
from edgec.pipeline.network.models.curve import Curve
from edgec.pipeline.network.models.download import check_digest, fetch
from edgec.pipeline.network.models.spec import ModelSpec, NetworkConfig, Padding

if TYPE_CHECKING:
    from torch import Tensor, nn

Progress = Callable[[int, int], None]
Kind = Literal["random", "bundled", "imagenet", "card", "file"]

RANDOM, IMAGENET = "random", "imagenet"
_FILE_SUFFIXES = frozenset({".safetensors", ".pth", ".pt", ".ckpt", ".tar", ".bin", ".toml"})


@dataclass(frozen=True)
class Weights:
    """One set of weights, not yet read: everything that the build has to know about them.

    Attributes:
        kind: ``random`` weights know nothing: accuracy with them is agreement only, and the output has to say so.
        name: as the user asked for it.
        model: name of the model that they belong to.
        path: the state dict, None for random weights; no part of the identity, which is ``sha256``.
        sha256: of the state dict's bytes; of seed and method for random weights.
        names: parameter names that the file follows; None means recognise them.
        entry: the state dict to take of a file that holds several; empty where there is one.
        num_classes: None where the source does not say (a bare file).
        width_multiplier: None where the source does not say.
        labels: class names in the order of the logits, where the source has them.
        accuracy: top-1, or mIoU, in percent, as the source states it for its own test data.
        source: whose statement ``accuracy`` is.
        license: SPDX expression, where the source states one.
        curve: of their training, where the source has it.
    """

    kind: Kind
    name: str
    model: str
    sha256: str
    preprocess: Preprocess
    padding: Padding = "torch"
    path: Path | None = field(default=None, compare=False)
    names: str | None = None
    entry: str = ""
    num_classes: int | None = None
    width_multiplier: float | None = None
    labels: tuple[str, ...] | None = None
    accuracy: float | None = None
    source: str | None = None
    seed: int = 0
    license: str | None = field(default=None, compare=False)
    curve: Curve | None = field(default=None, compare=False)

    @property
    def is_trained(self) -> bool:
        """False for random weights, whose accuracy says nothing."""
        return self.kind != "random"

    def network_config(
        self,
        *,
        width_multiplier: float | None = None,
        input_px: int | None = None,
        num_classes: int | None = None,
        padding: Padding | None = None,
        output_stride: int | None = None,
        argmax: bool = False,
    ) -> NetworkConfig:
        """The network that these weights fit; a value that the user gave wins, and a wrong one fails on loading."""
        default = NetworkConfig(self.model)
        return NetworkConfig(
            self.model,
            width_multiplier=width_multiplier or self.width_multiplier or default.width_multiplier,
            input_px=input_px or self.preprocess.shape[1],
            num_classes=num_classes or self.num_classes or models.get(self.model).num_classes,
            padding=padding or self.padding,
            output_stride=output_stride,
            argmax=argmax,
        )


MOST_SETTLED_PX = 320  # statistics of noise need no more


def bundled(model: str) -> dict[str, Path]:
    """Cards that ship with edgec for one model, by weights name; the first is its default."""
    from edgec import calib_data

    cards = sorted((Path(calib_data.__path__[0]) / "weights").glob(f"{model}_*.toml"))
    return {card.stem.removeprefix(f"{model}_"): card for card in cards}


def available(spec: ModelSpec) -> tuple[str, ...]:
    """Names that ``--weights`` takes for one model beside files: bundled ones first, the default first of all."""
    downloadable = (IMAGENET,) if spec.imagenet is not None and spec.imagenet.sha256 is not None else ()
    return (*bundled(spec.name), *downloadable, RANDOM)


def resolve_weights(
    argument: str | None,
    spec: ModelSpec,
    *,
    seed: int = 0,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Weights:
    """Turn the value of ``--weights`` into a description; downloads ``imagenet`` weights, reads no tensor.

    Args:
        argument: a name, a file, a card, or None for the model's bundled default.
        seed: of ``random`` weights.
        cache: folder for downloads; the user's cache folder where None.
        progress: told bytes done and in total while downloading.

    Raises:
        EdgecError: ``weights-needed`` where None was given and nothing is bundled, ``unknown-weights``,
            ``no-such-file``, ``invalid-card``, ``weights-mismatch`` for a card of another model, and the codes
            of ``download.fetch``; ``no-published-digest`` where a download could not be verified.
    """
    cards = bundled(spec.name)
    if argument is None:
        if not cards:
            hint = f"pass --weights {', '.join(available(spec))}, FILE.safetensors, FILE.pth or CARD.toml"
            raise EdgecError("weights-needed", f"no weights are bundled for '{spec.name}'", hint)
        argument = next(iter(cards))
    if argument == RANDOM:
        return _random(spec, seed)
    if argument == IMAGENET:
        return _imagenet(spec, cache, progress)
    if argument in cards:
        return _from_card(cards[argument], argument, spec, "bundled")
    file, _, entry = (argument, "", "") if os.path.isfile(argument) else argument.partition("#")
    path = Path(file)
    if path.suffix not in _FILE_SUFFIXES:
        hint = nearest_hint(argument, available(spec))
        raise EdgecError("unknown-weights", f"no weights named '{argument}' for '{spec.name}'", hint)
    if not os.path.isfile(path):
        raise EdgecError("no-such-file", f"no weights file '{file}'", "check the path")
    if path.suffix == ".toml":
        return _from_card(path, argument, spec, "card")
    return Weights("file", argument, spec.name, file_sha256(path), spec.preprocess, path=path, entry=entry)


def _random(spec: ModelSpec, seed: int) -> Weights:
    method = f"edgec random weights 1: {spec.name}, seed {seed}"
    digest = hashlib.sha256(method.encode()).hexdigest()
    return Weights("random", RANDOM, spec.name, digest, spec.preprocess, seed=seed)


def _imagenet(spec: ModelSpec, cache: Path | None, progress: Progress | None) -> Weights:
    published = spec.imagenet
    if published is None:
        raise EdgecError("no-published-digest", f"'{spec.name}' names no published ImageNet weights", "--weights FILE")
    if published.sha256 is None:
        where = f"get {published.url} yourself, check it, and pass --weights FILE"
        message = f"the publisher of the ImageNet weights of '{spec.name}' states no sha256; edgec does not load them"
        raise EdgecError("no-published-digest", message, where)
    path = fetch(published.url, published.sha256, cache, progress)
    return Weights(
        "imagenet",
        IMAGENET,
        spec.name,
        published.sha256,
        published.preprocess,
        path=path,
        names=published.names,
        num_classes=1000,
        width_multiplier=1.0,
        accuracy=published.top1,
        source=published.source,
    )


def _from_card(path: Path, name: str, spec: ModelSpec, kind: Kind) -> Weights:
    from edgec.pipeline.network.models.cards import read_card

    card = read_card(path)
    if card.model != spec.name:
        message = f"weights card '{path}' is for model '{card.model}', not '{spec.name}'"
        raise EdgecError("weights-mismatch", message, f"edgec build {card.model} --weights {path}")
    file = path.parent / card.state_dict
    if not os.path.isfile(file):
        message = f"weights card '{path}' names '{card.state_dict}', which is not beside it"
        raise EdgecError("no-such-file", message, "copy that file beside the card")
    if card.sha256 is not None:
        check_digest(file, card.sha256, str(file))
    return Weights(
        kind,
        name,
        spec.name,
        card.sha256 or file_sha256(file),
        card.preprocessing(),
        padding=card.padding,
        path=file,
        names=card.names,
        entry=card.entry,
        num_classes=card.num_classes,
        width_multiplier=card.width_multiplier,
        labels=card.labels,
        accuracy=card.accuracy,
        source=card.source,
        license=card.license,
        curve=card.curve,
    )


def load_weights(network: nn.Module, weights: Weights) -> tuple[str, ...]:
    """Fill ``network``, built from ``weights.network_config(...)``, and set it to evaluation mode.

    Returns:
        Names in the file that are no part of the network and were left: counters, observers, what lies beside it.

    Raises:
        EdgecError: what ``read_checkpoint`` raises; ``weights-mismatch``, ``weights-not-finite``, ``invalid-card`` for
            a naming convention that the model does not know.
    """
    if weights.path is None:
        _randomise(network, weights)
        left: tuple[str, ...] = ()
    else:
        state, left = _renamed(network, weights, weights.path)
        _fill(network, state, weights)
    network.eval()
    return left


def load_fitting(network: nn.Module, weights: Weights, *, with_classifier: bool = True) -> bool:
    """As ``load_weights``, but a classifier that does not fit stays as it was made: other classes, or none in the file.

    Args:
        with_classifier: False leaves it in any case, since the file's means other classes.

    Returns:
        Whether the classifier is a new one.

    Raises:
        EdgecError: as ``load_weights``.
    """
    from edgec.pipeline.network.models.state_dict import LAST

    if weights.path is None:
        load_weights(network, weights)
        return False
    state, _ = _renamed(network, weights, weights.path)
    own = {name: tensor for name, tensor in network.state_dict().items() if name.startswith(LAST)}
    is_new = not with_classifier or any(name not in state or state[name].shape != own[name].shape for name in own)
    _fill(
        network, {name: t for name, t in state.items() if not name.startswith(LAST)} | own if is_new else state, weights
    )
    network.eval()
    return is_new


def load_backbone(network: nn.Module, weights: Weights) -> None:
    """Fill ``network.backbone`` with the layers of a trained classifying network; everything else stays as it was made.

    Raises:
        EdgecError: as ``load_weights``; ``weights-mismatch`` where the backbone has another width or padding.
    """
    from edgec.pipeline.network.models.spec import build_network

    classifier = build_network(weights.network_config())
    load_weights(classifier, weights)
    state, backbone = classifier.state_dict(), network.get_submodule("backbone")
    wanted = backbone.state_dict()
    odd = [name for name, tensor in wanted.items() if name not in state or state[name].shape != tensor.shape]
    if odd:
        message = f"'{weights.name}' does not fit the backbone: '{odd[0]}' has another shape there, or is missing"
        raise EdgecError("weights-mismatch", message, "give both the same --width-multiplier")
    backbone.load_state_dict({name: state[name] for name in wanted})


def _renamed(network: nn.Module, weights: Weights, path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """(the file's tensors under our names, names that were left)."""
    from edgec.pipeline.network.models import state_dict
    from edgec.pipeline.network.models.checkpoint import read_checkpoint

    state = read_checkpoint(path, weights.entry)
    known = [{name.rpartition(".")[0] for name in network.state_dict()}]
    known += [set(table) for table in models.get(weights.model).conventions.values()]
    state, left = state_dict.free_of_prefix(state, known, path)
    return state_dict.rename(state, _naming_table(weights, state)), left


def _fill(network: nn.Module, state: dict[str, Tensor], weights: Weights) -> None:
    from edgec.pipeline.network.models import state_dict

    state_dict.check(state, network, str(weights.path), weights.model)
    network.load_state_dict(state, strict=False)  # strict would miss batch norm's step counters only


def _naming_table(weights: Weights, state: dict[str, Tensor]) -> Mapping[str, str]:
    from edgec.pipeline.network.models.state_dict import OWN_NAMES, recognise

    names, conventions = weights.names, models.get(weights.model).conventions
    if names is None:
        found = recognise(state)
        names = found.names if found is not None and found.model == weights.model else OWN_NAMES
    if names == OWN_NAMES:
        return {}
    if names not in conventions:
        message = f"names = '{names}': '{weights.model}' knows no such parameter names"
        raise EdgecError("invalid-card", message, nearest_hint(names, [*conventions, OWN_NAMES]))
    return conventions[names]


def _randomise(network: nn.Module, weights: Weights) -> None:
    import torch

    from edgec.pipeline.network.models.initialise import initialise, settle_batch_norm

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(weights.seed)
        initialise(network)
        settle_batch_norm(network, min(weights.preprocess.shape[1], MOST_SETTLED_PX))
