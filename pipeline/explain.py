"""What a build would run now, and why."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgec.pipeline.build import build
from edgec.pipeline.core.stage import Artifact, Stage, stage_name
from edgec.pipeline.core.store import Plan, Store
from edgec.pipeline.recipe import Recipe


def explain(recipe: Recipe, store: Store) -> list[Plan]:
    """Every stage of ``edgec build`` in order; nothing runs that is not kept already."""
    pretended = _Pretended(store, [])
    build(recipe, pretended)
    return pretended.plans


@dataclass
class _Pretended:
    """Answers with kept results, and with a placeholder where there is none."""

    store: Store
    plans: list[Plan]

    def run(self, stage: Stage, *inputs: Artifact) -> Artifact:
        pending = [artifact.sha256 for artifact in inputs if artifact.path == Path()]
        name = stage_name(stage)
        if pending:
            self.plans.append(Plan(name, "", False, f"needs the result of {pending[0]}"))
        else:
            self.plans.append(self.store.explain(stage, *inputs))
        return self.store.run(stage, *inputs) if self.plans[-1].cached else Artifact(Path(), name)
