"""What is seen of an artifact on one machine beside its latency: a stage, since nothing of it is compared or judged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import ClassVar

from edgec.pipeline.core.json_file import read_record
from edgec.pipeline.core.stage import Artifact
from edgec.pipeline.forms.compiler import compiler_modules, load_compiler, settings_of
from edgec.pipeline.forms.first_answer import first_answer
from edgec.pipeline.forms.measure import UNKNOWN, FirstAnswer
from edgec.pipeline.forms.ort import noise_for
from edgec.pipeline.forms.spec import TargetSpec


@dataclass(frozen=True)
class Observed:
    """One artifact on one machine.

    Attributes:
        first: time and memory of its first answer.
        layer_us: mean microseconds in each layer, by its name.
    """

    first: FirstAnswer = UNKNOWN
    layer_us: Mapping[str, float] = field(default_factory=dict)


class Unseen(Exception):
    """The artifact's first answer did not come: nothing to keep.

    Attributes:
        observed: what was seen all the same.
    """

    def __init__(self, observed: Observed) -> None:
        super().__init__("no first answer")
        self.observed = observed


@dataclass(frozen=True)
class Observe:
    """First answer and layer times of an artifact.

    Attributes:
        target: the board whose runtime runs it.
        threads: of the runtime.
        machine: all that times depend on: what was seen elsewhere is not taken.
        layers: whether the times of layers are wanted.
    """

    target: TargetSpec
    threads: int
    machine: Mapping[str, str]
    layers: bool

    output: ClassVar[str] = "observed.json"

    @property
    def loads(self) -> tuple[str, ...]:
        """The compiler's modules."""
        return compiler_modules(self.target.compiler)

    @property
    def toolchain(self) -> tuple[str, ...]:
        """The compiler's own, with the runtime."""
        return load_compiler(self.target.compiler).TOOLCHAIN

    def run(self, output: Path, *inputs: Artifact) -> None:
        """Look at ``inputs`` = (artifact, float network, whose input's shape is needed).

        Raises:
            Unseen: the first answer is unknown.
            EdgecError: what the compiler's runner raises.
        """
        observed = self.look(inputs[0].path, inputs[1].path)
        if observed.first == UNKNOWN:
            raise Unseen(observed)
        output.write_text(json.dumps(asdict(observed)), encoding="utf-8")

    def look(self, artifact: Path, float_network: Path) -> Observed:
        """The same without keeping it."""
        image = noise_for(float_network)
        first, layer_us = first_answer(self.target, artifact, image, self.threads), dict[str, float]()
        if self.layers:
            compiler = load_compiler(self.target.compiler)
            layer_us = dict(compiler.layer_times(artifact, settings_of(self.target), self.threads))
        return Observed(first, layer_us)


def read_observed(path: Path) -> Observed:
    """What ``Observe`` wrote."""
    return read_record(Observed, path, "corrupt-artifact")
