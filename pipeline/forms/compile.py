"""QDQ ONNX to the target's own artifact."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgec.pipeline.core.stage import Artifact
from edgec.pipeline.forms.compiler import LoadsCompiler, load_compiler


@dataclass(frozen=True)
class Compile(LoadsCompiler):
    """Compile; what the artifact answers is for ``Answer`` and ``Score`` to find out.

    Attributes:
        compiler: by name.
        settings: what it reads of the board.
    """

    compiler: str
    settings: Any

    @property
    def output(self) -> str:
        """Named by the format."""
        return load_compiler(self.compiler).FORMAT.artifact

    @property
    def toolchain(self) -> tuple[str, ...]:
        """The compiler's own."""
        return load_compiler(self.compiler).TOOLCHAIN

    def run(self, output: Path, *inputs: Artifact) -> None:
        """Compile ``inputs[0]`` (a folder with ``model.onnx``, or an ONNX file).

        Raises:
            EdgecError: what the compiler raises.
        """
        network = inputs[0].path
        network = network / "model.onnx" if network.is_dir() else network
        load_compiler(self.compiler).compile_model(network, output, self.settings)
