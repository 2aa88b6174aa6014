"""Runs build_engine.py where ``import tensorrt`` and ``libcuda.so.1`` find stand-ins. Nothing here is a GPU's."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

FOLDER = Path(__file__).parent / "stand_in"


@dataclass
class StandIn:
    """Where ``import tensorrt`` and ``libcuda.so.1`` find stand-ins, and what the former wrote down."""

    libraries: Path
    log: Path
    settings: dict[str, str] = field(default_factory=dict)

    def environment(self, **settings: str) -> dict[str, str]:
        path = os.pathsep.join(filter(None, (str(FOLDER), os.environ.get("PYTHONPATH"))))
        own = {"PYTHONPATH": path, "LD_LIBRARY_PATH": str(self.libraries), "STAND_IN_LOG": str(self.log)}
        names = {f"STAND_IN_{name.upper()}": value for name, value in (self.settings | settings).items()}
        return {"PATH": os.defpath, "HOME": str(self.log.parent), **own, **names}

    def command(self, artifact: Path, *arguments: str) -> list[str]:
        return [sys.executable, str(artifact / "build_engine.py"), "--budget-s", "0.01", *arguments]

    def run(self, artifact: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(artifact, *arguments),
            env=self.environment(**settings),
            capture_output=True,
            text=True,
            check=False,
        )

    def calls(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []
