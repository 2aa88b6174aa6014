"""What a runtime makes of an artifact: a stage, so that it is counted once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from edgec.pipeline.core.json_file import read_record
from edgec.pipeline.core.stage import Artifact
from edgec.pipeline.forms.compiler import LoadsCompiler, Placement, load_compiler
from edgec.pipeline.forms.form import instruction_set


@dataclass(frozen=True)
class Place(LoadsCompiler):
    """``Compiler.placement`` of one artifact.

    Attributes:
        compiler: by name.
        settings: what it reads of the board.
        machine: a runtime chooses its kernels by it.
    """

    compiler: str
    settings: Any
    machine: Mapping[str, str] = field(default_factory=instruction_set)

    output: ClassVar[str] = "placement.json"

    @property
    def toolchain(self) -> tuple[str, ...]:
        """The compiler's own, with the runtime, and what it counts with where that is installed (``COUNTS_WITH``)."""
        compiler = load_compiler(self.compiler)
        return (*compiler.TOOLCHAIN, *getattr(compiler, "COUNTS_WITH", ()))

    def run(self, output: Path, *inputs: Artifact) -> None:
        """Count what becomes of ``inputs[0]``.

        Raises:
            EdgecError: what the compiler raises.
        """
        counted = load_compiler(self.compiler).placement(inputs[0].path, self.settings)
        output.write_text(json.dumps(asdict(counted)), encoding="utf-8")


def read_placement(path: Path) -> Placement:
    """What ``Place`` wrote."""
    return read_record(Placement, path, "corrupt-artifact")
