"""The cores that QEMU's user-mode emulation stands in for, and what Linux says about itself on each Arm one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Machine:
    """One instruction set: the userland is set up once for all its cores.

    Attributes:
        name: as ``uname -m`` prints it.
        debian: the distribution's name of the architecture.
        qemu: the emulator's program.
        num_getppid: its number in the system call table (Linux ``include/uapi/asm-generic/unistd.h``,
            ``arch/arm/tools/syscall.tbl``).
        runtime: the distribution of the TFLite runtime; on 32-bit Arm the last one with wheels.
        platforms: wheel tags to accept.
        packages: distribution packages beside Python itself; numpy has no 32-bit wheels that the runtime takes.
        compiler: whose artifacts its runtime takes.
        target: the board that is built for it.
        is_own: the guest is the Python that runs edgec, with the runtime that it has.
    """

    name: str
    debian: str
    qemu: str
    num_getppid: int
    runtime: str
    platforms: tuple[str, ...]
    packages: tuple[str, ...] = ()
    compiler: str = "tflite"
    target: str = "arm"
    is_own: bool = False


@dataclass(frozen=True)
class Core:
    """One processor.

    Attributes:
        name: edgec's, after ``qemu:``.
        qemu_cpu: QEMU's. Never ``max``: QEMU 7.2's SME gives wrong results in XNNPACK.
        part, variant: of Arm: fields of its MIDR register (Arm's Technical Reference Manual of each core).
        features: of Arm: the ``Features`` line of /proc/cpuinfo, which is what runtimes choose their kernels by.
    """

    name: str
    machine: Machine
    qemu_cpu: str
    part: int = 0
    variant: int = 0
    features: str = ""


AARCH64 = Machine(
    name="aarch64",
    debian="arm64",
    qemu="qemu-aarch64",
    num_getppid=173,
    runtime="ai-edge-litert",
    platforms=("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64"),
)
ARMV7 = Machine(
    name="armv7l",
    debian="armhf",
    qemu="qemu-arm",
    num_getppid=64,
    runtime="tflite-runtime",
    platforms=("manylinux_2_34_armv7l", "manylinux_2_31_armv7l", "manylinux2014_armv7l"),
    packages=("python3-numpy",),
)
X86_64 = Machine(
    name="x86_64",
    debian="amd64",
    qemu="qemu-x86_64",
    num_getppid=110,
    runtime="openvino",
    platforms=(),
    compiler="openvino",
    target="cpu",
    is_own=True,
)

_V8 = "fp asimd evtstrm crc32 cpuid"
_V8_2 = "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"
_V7 = "half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae evtstrm"

CORES = {
    core.name: core
    for core in (
        Core("cortex-a76", AARCH64, "cortex-a76", part=0xD0B, variant=4, features=_V8_2),
        Core("cortex-a72", AARCH64, "cortex-a72", part=0xD08, variant=0, features=_V8),
        Core("cortex-a53", AARCH64, "cortex-a53", part=0xD03, variant=0, features=_V8),
        Core("armv7", ARMV7, "cortex-a7", part=0xC07, variant=0, features=_V7),
        Core("haswell", X86_64, "Haswell-noTSX"),  # AVX2, no AVX-512 and no VNNI: QEMU 7.2 emulates nothing newer
    )
}


def write_system_files(core: Core, root: Path) -> None:
    """What a program finds under ``/proc`` and ``/sys`` on this core.

    QEMU's ``-L`` lays these files over the host's. Without them the CPU detection inside LiteRT reads the x86 host's
    files, finds no Arm core, and the first inference dies.
    """
    cpu = root / "sys/devices/system/cpu"
    architecture = 8 if core.machine is AARCH64 else 7
    files = {
        root / "proc/cpuinfo": f"processor\t: 0\nBogoMIPS\t: 100.00\nFeatures\t: {core.features}\n"
        f"CPU implementer\t: 0x41\nCPU architecture: {architecture}\nCPU variant\t: {core.variant:#x}\n"
        f"CPU part\t: {core.part:#05x}\nCPU revision\t: 1\n\n",
        root / "proc/device-tree/model": f"{core.qemu_cpu}, emulated by QEMU",
        **{cpu / name: "0\n" for name in ("possible", "present", "online", "kernel_max")},
        **{cpu / "cpu0/topology" / name: "0\n" for name in ("physical_package_id", "core_id", "core_siblings_list")},
    }
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
