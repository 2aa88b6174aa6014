"""Costs without noise: counts that repeat exactly and need no device. They gate always."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from edgec.pipeline.bundle.read import Bundle
from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.forms.compiler import Placement, load_compiler
from edgec.pipeline.forms.device import open_device
from edgec.pipeline.forms.format import size_bytes
from edgec.pipeline.network.cost import NetworkCost, network_cost

PLACEMENT = (
    "num_operators",
    "num_transposes",
    "num_reformats",
    "num_float_layers",
    "delegate_pieces",
    "num_cpu_operators",
    "arena_bytes",
)

KNOWN = ("size_bytes", "macs", "params", *PLACEMENT)
"""All but the instructions: they take an emulated core."""


@dataclass(frozen=True)
class Proxies:
    """Counts of one bundle, each found when asked for."""

    bundle: Bundle

    def count(self, name: str) -> int:
        """One count by the name of its limit.

        Raises:
            EdgecError: ``no-count`` says what is missing here.
        """
        if name == "size_bytes":
            return size_bytes(self.bundle.artifact)
        if name in ("macs", "params"):
            return self._cost.macs if name == "macs" else self._cost.params
        if name == "instructions":
            return _instructions(self.bundle)
        value: int | None = getattr(self._placement, name)
        if value is None:
            target = self.bundle.target.name
            raise EdgecError(
                "no-count", f"'{target}' gives no '{name}' here", "delete the limit, or see 'edgec doctor'"
            )
        return value

    def known(self) -> dict[str, int]:
        """All counts that there are, instructions apart: they take an emulated core.

        Raises:
            EdgecError: what counting here lacks, such as ``missing-runtime``.
        """
        return self._counted(lambda error: error.code == "no-count")

    @cached_property
    def here(self) -> dict[str, int]:
        """The same, but what is missing for a count hides that count alone: where it is limited, it is told."""
        return self._counted(lambda error: True)

    def _counted(self, passes: Callable[[EdgecError], bool]) -> dict[str, int]:
        found = {}
        for name in KNOWN:
            try:
                found[name] = self.count(name)
            except EdgecError as error:
                if not passes(error):
                    raise
        return found

    @cached_property
    def _cost(self) -> NetworkCost:
        """Of the float network: as the manifest states it, counted where an older one encloses the file instead."""
        import onnx

        stated = self.bundle.manifest.float_network
        if stated is None:
            return network_cost(onnx.load(self.bundle.float_onnx))
        if stated.macs is None or stated.params is None:
            message = f"'{self.bundle.folder}' has an operator whose multiplications cannot be counted"
            raise EdgecError("no-count", message, "delete the limit")
        return NetworkCost(stated.macs, stated.params)

    @cached_property
    def _placement(self) -> Placement:
        return load_compiler(self.bundle.target.compiler).placement(self.bundle.artifact, self.bundle.settings)


def _instructions(bundle: Bundle) -> int:
    """Guest instructions of one inference on the board's emulated core.

    Raises:
        EdgecError: ``no-count``; what opening the core and counting raise.
    """
    core = bundle.target.device.emulated_as
    if core is None:
        raise EdgecError("no-count", f"'{bundle.target.name}' has no emulated core to count on", "delete the limit")
    adapter, device = load_compiler(bundle.target.compiler), open_device(f"qemu:{core}")
    counted = adapter.on_device(device, bundle.artifact, bundle.settings, 1).cost().instructions
    if counted is None:
        raise EdgecError("no-count", f"'{device.name}' counts no instructions", "delete the limit")
    return counted
