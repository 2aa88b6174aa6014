"""edgec's stages up to each target's artifact and no further. Arguments: MODEL SAMPLES DATA or '' TARGET..."""

from __future__ import annotations

import sys
from pathlib import Path

from edgec.pipeline.build import Build
from edgec.pipeline.core.root import default_root
from edgec.pipeline.core.store import Store
from edgec.pipeline.recipe import Choices, DataFolders, make_recipe


def main(model: str, samples: str, data: str, *targets: str) -> None:
    """Print each artifact; what targets share is made once."""
    store, folders = Store(default_root()), DataFolders(Path(data) if data else None)
    for target in targets:
        print(Build(make_recipe(model, target, folders, Choices(), int(samples)), store).binary.path)


main(*sys.argv[1:])
