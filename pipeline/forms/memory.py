"""What a network takes of a board's RAM and flash, and what would fit where it takes too much."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edgec.pipeline.forms.spec import Device

# Kernels with SIMD (CMSIS-NN) take scratch buffers from the arena that the reference kernels do not need; pointers have
# half the size of this machine's: a tenth more is a choice, not a measurement.
ARENA_MARGIN = 0.10
MEASURED = "measured in TFLite Micro's reference kernels"
INPUT_PX = (224, 192, 160, 128, 96, 64, 48, 32)
WIDTHS = (1.0, 0.75, 0.5, 0.35, 0.25)


@dataclass(frozen=True)
class MemoryFit:
    """A network against a board.

    Attributes:
        arena_bytes: None where nobody says, and then RAM is not judged.
        arena_with_margin_bytes: what firmware should reserve.
        flash_bytes: the model's size.
        ram_limit_bytes: what the board has for the arena; None where it states none.
        flash_limit_bytes: what it has for the model.
        over: each limit that is passed, in words; empty where the network fits.
        would_fit: options that would fit, estimated from how memory scales; empty where none is needed.
        arena_source: who says so; None where it was measured in TFLite Micro.
    """

    arena_bytes: int | None
    arena_with_margin_bytes: int | None
    flash_bytes: int
    ram_limit_bytes: int | None
    flash_limit_bytes: int | None
    over: tuple[str, ...]
    would_fit: tuple[str, ...]
    arena_source: str | None = None

    @property
    def sentences(self) -> tuple[str, ...]:
        """Arena, RAM and flash for people; empty for boards without such limits. ``warning`` is not repeated."""
        return tuple(_sentences(self))

    @property
    def warning(self) -> str:
        """That the network does not fit the board, and what should; empty where it fits."""
        if not self.over:
            return ""
        options = " or ".join(self.would_fit) or "no width or input size of this network"
        return f"over the board's limit: {'; '.join(self.over)}; what should fit: {options}"


def arena_with_margin(arena_bytes: int) -> int:
    """The measured arena and its margin, a multiple of 16."""
    return -(-round(arena_bytes * (1 + ARENA_MARGIN)) // 16) * 16


def memory_fit(
    flash_bytes: int,
    arena_bytes: int | None,
    device: Device,
    width_multiplier: float,
    input_px: int,
    arena_source: str | None = None,
) -> MemoryFit:
    """Hold the arena and its margin against the board's RAM, the model's size against its flash.

    Args:
        width_multiplier: of the network as built; what would fit is estimated from it.
        input_px: of the network as built; the side of a square with as many pixels.
    """
    arena = None if arena_bytes is None else arena_with_margin(arena_bytes)
    over = []
    if device.ram_bytes is not None and arena is not None and arena > device.ram_bytes:
        over.append(f"the arena takes {arena:,} bytes of {device.ram_bytes:,} bytes RAM")
    if device.flash_bytes is not None and flash_bytes > device.flash_bytes:
        over.append(f"the model takes {flash_bytes:,} bytes of {device.flash_bytes:,} bytes flash")
    options = _would_fit(arena or 0, flash_bytes, device, width_multiplier, input_px) if over else ()
    limits = (device.ram_bytes, device.flash_bytes)
    return MemoryFit(arena_bytes, arena, flash_bytes, *limits, tuple(over), options, arena_source)


def _sentences(fit: MemoryFit) -> Iterator[str]:
    if fit.arena_bytes is not None:
        of_board = f" of the board's {fit.ram_limit_bytes:,}" if fit.ram_limit_bytes is not None else ""
        said = f"{fit.arena_bytes:,} bytes {fit.arena_source or MEASURED}"
        yield f"RAM: reserve {fit.arena_with_margin_bytes:,} bytes{of_board} for the arena ({said}, plus a margin)"
    elif fit.ram_limit_bytes is not None:
        yield f"RAM: the board has {fit.ram_limit_bytes:,} bytes; what the arena takes was not measured"
    if fit.flash_limit_bytes is not None:
        yield f"flash: the model takes {fit.flash_bytes:,} bytes of the board's {fit.flash_limit_bytes:,}"
    elif fit.arena_bytes is not None:
        yield f"flash: the model takes {fit.flash_bytes:,} bytes"


def _would_fit(arena: int, flash: int, device: Device, width: float, px: int) -> tuple[str, ...]:
    """The largest smaller input, the largest smaller width, and the largest pair that should fit.

    Feature maps scale with width * px**2 and weights with width**2 (Howard et al., 1704.04861, equations 5 and 6).
    """
    ram_limit = device.ram_bytes if device.ram_bytes is not None else arena
    flash_limit = device.flash_bytes if device.flash_bytes is not None else flash

    def fits(new_width: float, new_px: int) -> bool:
        ratio = new_width / width
        return arena * ratio * (new_px / px) ** 2 <= ram_limit and flash * ratio**2 <= flash_limit

    sizes = [p for p in INPUT_PX if p < px]
    widths = [w for w in WIDTHS if w < width]
    by_px = next((f"--input-px {p}" for p in sizes if fits(width, p)), None)
    by_width = next((f"--width-multiplier {w}" for w in widths if fits(w, px)), None)
    both = next((f"--width-multiplier {w} --input-px {p}" for w in widths for p in sizes if fits(w, p)), None)
    found = [option for option in (by_px, by_width) if option]
    return tuple(found or ([both] if both else []))
