"""What this machine has, for ``edgec doctor``."""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict
from typing import Any

from edgec.pipeline.bundle.provenance import toolchain
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.root import default_root
from edgec.pipeline.core.shared import default_shared
from edgec.pipeline.forms.compiler import load_compiler
from edgec.pipeline.forms.measure import cpu_model
from edgec.pipeline.forms.spec import load_target, names


def diagnose() -> dict[str, Any]:
    """Facts of the machine, and for each target whether it can be built and run here."""
    targets = [load_target(name) for name in names()]
    return {
        "machine": {"cpu": cpu_model(), **_disk(), **_shared(), **toolchain()},
        "targets": [
            {"target": target.name, **asdict(load_compiler(target.compiler).probe(target))} for target in targets
        ],
    }


def _disk() -> dict[str, str]:
    root = default_root()
    existing = next(path for path in (root, *root.parents) if path.exists())
    free = shutil.disk_usage(existing).free / 1e9
    writable = "writable" if os.access(existing, os.W_OK) else "NOT writable: set EDGEC_CACHE"
    return {"store": f"{root} ({free:.0f} GB free, {writable})"}


def _shared() -> dict[str, str]:
    """Where machines share results, and whether it answers."""
    shared = default_shared()
    if shared is None:
        return {}
    try:
        shared.has("0" * 64)
    except EdgecError as error:
        return {"shared cache": f"{error.message} ({error.hint})"}
    return {"shared cache": f"{shared.url} (answers)"}
