"""Sets up a user-mode emulated userland: emulator, the guest's Python and runtime, an instruction counter.

Of an x86 core the guest is the Python that runs edgec: ``root``, ``cores`` and ``site`` are left out.

Layout of ``<cache>/devices/qemu-<machine>-<version>``::

    root/           the guest's files, unpacked from distribution packages
    cores/<core>/   what QEMU lays over the host's files for one core: links into root, and its own /proc and /sys
    site/           the guest's wheels, unpacked
    qemu/           the emulator and its libraries, where the host has none installed
    counter.so      the counting plugin, where it could be built
    userland.json   written last of all, after the guest answered
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.core.progress import reporter
from edgec.pipeline.core.root import default_root
from edgec.pipeline.core.scratch import scratch
from edgec.pipeline.forms.compiler import load_compiler
from edgec.targets.devices import packages
from edgec.targets.devices.cores import CORES, Core, Machine, write_system_files

VERSION = 1  # raised when the layout changes; an older userland is then no longer found
PYTHON = ("python3-minimal", "libpython3-stdlib", "libstdc++6")
COUNTER = Path(__file__).with_name("instruction_count.c")
PLUGIN_APIS = (1, 2)  # QEMU before 9, and from 9 on
STEPS = 5
START_S = 300  # of a guest, its runtime's import included


@dataclass(frozen=True)
class Userland:
    """Where one lies and how to run in it.

    Attributes:
        board: what the guest said of itself when it was set up (``board_runner.py facts``).
        counter_missing: why instructions cannot be counted; empty where they can.
    """

    folder: Path
    machine: Machine
    board: dict[str, Any]
    counter_missing: str = ""

    def command(self, core: Core, plugin: str = "") -> list[str]:
        """The guest's Python on ``core``; a script and its arguments follow.

        Args:
            plugin: for QEMU's ``-plugin``.

        Raises:
            EdgecError: ``device-not-set-up``.
        """
        emulator = _emulator(self.folder, self.machine)
        if self.machine.is_own:
            own = {"PYTHONPATH": path} if (path := os.environ.get("PYTHONPATH")) else {}
            emulated, guest, python = ["-cpu", core.qemu_cpu], GUEST_ENVIRONMENT | own, sys.executable
        else:
            emulated, guest, python = self._foreign(core)
        settings = [part for name, value in guest.items() for part in ("-E", f"{name}={value}")]
        counting = ["-plugin", plugin] if plugin else []
        return [emulator, *emulated, "-U", "LD_LIBRARY_PATH", *counting, *settings, python]

    def _foreign(self, core: Core) -> tuple[list[str], dict[str, str], str]:
        """The emulator's arguments, the guest's environment, and its Python."""
        site = f"{self.folder}/site:{self.folder}/root/usr/lib/python3/dist-packages"
        guest = {"PYTHONHOME": f"{self.folder}/root/usr", "PYTHONPATH": site, **GUEST_ENVIRONMENT}
        emulated = ["-L", f"{self.folder}/cores/{core.name}", "-cpu", core.qemu_cpu]
        return emulated, guest, str(_python(self.folder))

    @property
    def environment(self) -> dict[str, str]:
        """Of the emulator, and hence of the guest: nothing of the user's."""
        return {"PATH": os.defpath, "LD_LIBRARY_PATH": str(self.folder / "qemu")}


GUEST_ENVIRONMENT = {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}


def find(machine: Machine) -> Userland | None:
    """The userland of ``machine`` if it was set up."""
    folder = _folder(machine)
    try:
        return Userland(folder, machine, **json.loads((folder / "userland.json").read_text()))
    except FileNotFoundError:
        return None


def set_up(machine: Machine, mirror: str | None = None) -> Userland:
    """Make the userland of ``machine`` unless it is there. A killed run leaves only downloads, which the next one uses.

    Args:
        mirror: of the host's distribution; None for the one that the host's apt uses.

    Raises:
        EdgecError: ``missing-apt``, ``no-mirror``, ``download-failed``, ``missing-pip``, ``missing-qemu``,
            ``broken-userland``; of an x86 core ``bad-device`` on another machine, ``missing-runtime``.
    """
    from filelock import FileLock

    folder = _folder(machine)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f"{machine.name}.lock"):
        found = find(machine)
        if found is not None:
            return found
        downloads = folder.parent / "downloads" / machine.name
        with scratch("userland") as work:
            made = (_make_own if machine.is_own else _make)(machine, mirror, downloads, work / "userland")
            (made.folder / "userland.json").write_text(
                json.dumps({"board": made.board, "counter_missing": made.counter_missing}, indent=1)
            )
            made.folder.rename(folder)
        shutil.rmtree(downloads, ignore_errors=True)
        return Userland(folder, machine, made.board, made.counter_missing)


def _folder(machine: Machine) -> Path:
    return default_root() / "devices" / f"qemu-{machine.name}-{VERSION}"


def _make(machine: Machine, mirror: str | None, downloads: Path, folder: Path) -> Userland:
    """The steps in order; the last one runs the guest."""
    report = reporter(f"set up {machine.name}")
    distribution = packages.host_distribution()
    mirror = mirror or packages.host_mirror(distribution)
    suite = packages.DISTRIBUTIONS[distribution].suite
    debs = packages.Apt(downloads / "guest", mirror, distribution, suite, machine.debian).download(
        [*PYTHON, *machine.packages]
    )
    report(1, STEPS)
    _unpack_root(debs, folder / "root")
    report(2, STEPS)
    wheels = packages.download_wheels(_runtime(machine), machine, _python_version(folder), downloads / "wheels")
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder / "site")
    report(3, STEPS)
    _bring_emulator(machine, mirror, downloads, folder)
    report(4, STEPS)
    cores = [core for core in CORES.values() if core.machine is machine]
    for core in cores:
        _link_core(core, folder)
    made = _ask_guest(Userland(folder, machine, {}), cores[0])
    report(5, STEPS)
    return made


def _make_own(machine: Machine, mirror: str | None, downloads: Path, folder: Path) -> Userland:
    """The emulator and the counter; the guest is this Python."""
    if platform.machine() != machine.name:
        message = f"this machine's Python, which would be the guest, is no program for {machine.name}"
        raise EdgecError("bad-device", message, "use an x86-64 machine, or an Arm core")
    if importlib.util.find_spec(machine.runtime) is None:
        raise EdgecError("missing-runtime", f"this Python has no {machine.runtime}", "pip install 'edgec[cpu]'")
    folder.mkdir()
    _bring_emulator(machine, mirror, downloads, folder)
    core = next(core for core in CORES.values() if core.machine is machine)
    made = _ask_guest(Userland(folder, machine, {}), core)
    if not made.board.get("avx2"):
        message = f"this QEMU emulates no AVX2, so that it counts other kernels than those of '{core.name}'"
        raise EdgecError("missing-qemu", message, "install QEMU 7.2 or newer")
    return made


def _bring_emulator(machine: Machine, mirror: str | None, downloads: Path, folder: Path) -> None:
    """Into ``folder``, where the host has none installed."""
    if shutil.which(machine.qemu) is not None:
        return
    distribution = packages.host_distribution()
    host = packages.Apt(
        downloads / "host",
        mirror or packages.host_mirror(distribution),
        distribution,
        packages.host_release(),
        packages.host_architecture(),
        status=Path("/var/lib/dpkg/status"),
    )
    _unpack_emulator(machine, host, folder / "qemu")


def _unpack_root(debs: Iterable[Path], root: Path) -> None:
    """The packages' files; their postinst scripts cannot run here, and only numpy's libraries need what those do."""
    root.mkdir(parents=True)
    for deb in debs:
        _unpack(deb, root)
    for library in ("blas", "lapack"):
        for path in root.glob(f"usr/lib/*/{library}/lib{library}.so.3"):
            (path.parent.parent / path.name).symlink_to(f"{library}/{path.name}")


def _unpack(deb: Path, folder: Path) -> None:
    subprocess.run(["dpkg-deb", "--extract", str(deb), str(folder)], check=True, capture_output=True)


def _link_core(core: Core, folder: Path) -> None:
    """A root of its own for each core: shared files by links, and the files that tell the cores apart."""
    root = folder / "cores" / core.name
    root.mkdir(parents=True)
    for name in ("usr", "lib"):
        (root / name).symlink_to(f"../../root/{name}")
    write_system_files(core, root)


def _python(folder: Path) -> Path:
    """The guest's interpreter, in whichever version the distribution brought it."""
    return min((folder / "root/usr/bin").glob("python3.*"))


def _python_version(folder: Path) -> str:
    return _python(folder).name.removeprefix("python")


def _runtime(machine: Machine) -> str:
    """The runtime in the host's own version, where the host has it: the two are compared with each other."""
    try:
        return f"{machine.runtime}=={importlib.metadata.version(machine.runtime)}"
    except importlib.metadata.PackageNotFoundError:
        return machine.runtime


def _emulator(folder: Path, machine: Machine) -> str:
    """The userland's own emulator, or the host's.

    Raises:
        EdgecError: ``device-not-set-up``.
    """
    own = folder / "qemu" / machine.qemu
    program = str(own) if own.exists() else shutil.which(machine.qemu)
    if program is None:
        hint = f"install qemu-user again, or delete '{folder}' and run 'edgec device setup qemu'"
        raise EdgecError("device-not-set-up", f"'{machine.qemu}' is no longer installed", hint)
    return program


def _unpack_emulator(machine: Machine, apt: packages.Apt, folder: Path) -> None:
    """One program of the distribution's package, which holds one for every architecture, and the libraries it needs.

    Raises:
        EdgecError: ``missing-qemu``.
    """
    try:
        debs = apt.download(["qemu-user"])
    except EdgecError as error:
        hint = "install it as root: 'apt-get install qemu-user'"
        raise EdgecError("missing-qemu", f"'{machine.qemu}' is not installed; {error.message}", hint) from error
    folder.mkdir()
    with scratch("emulator") as unpacked:
        for deb in debs:
            _unpack(deb, unpacked)
        for path in [*unpacked.rglob("*.so.*"), unpacked / "usr/bin" / machine.qemu]:
            if path.is_file():
                shutil.copy(path, folder / path.name)


def _ask_guest(userland: Userland, core: Core) -> Userland:
    """Start the guest: it must be the wanted machine with its runtime. Then try the counter on it.

    Raises:
        EdgecError: ``broken-userland``.
    """
    script = load_compiler(userland.machine.compiler).FORMAT.device_script
    command = [*userland.command(core), str(script), "facts"]
    try:
        done = subprocess.run(
            command, env=userland.environment, capture_output=True, text=True, timeout=START_S, check=False
        )
    except subprocess.TimeoutExpired:
        done = subprocess.CompletedProcess(command, 1, "", f"no answer within {START_S} s")
    board = json.loads(done.stdout.splitlines()[-1])["board"] if done.returncode == 0 else {}
    if board.get("machine") != userland.machine.name or not board.get("runtime"):
        why = done.stderr.strip()[-300:] or f"it is {board}"
        hint = "delete the folder 'devices' in edgec's cache and try again; if it returns, report the message"
        raise EdgecError("broken-userland", f"the guest of {userland.machine.name} does not work: {why}", hint)
    return Userland(userland.folder, userland.machine, board, _build_counter(userland, core))


def _build_counter(userland: Userland, core: Core) -> str:
    """Compile the plugin for the API that this QEMU takes; return why there is none, or nothing."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        return "no C compiler (gcc) to build the plugin with"
    library, counts = userland.folder / "counter.so", userland.folder / "counts"
    for api in PLUGIN_APIS:
        build = [compiler, "-O2", "-shared", "-fPIC", f"-DAPI={api}", "-o", str(library), str(COUNTER)]
        if subprocess.run(build, capture_output=True, check=False).returncode:
            continue
        plugin = f"{library},out={counts},mark={userland.machine.num_getppid}"
        command = [*userland.command(core, plugin), "-c", "import os; os.getppid()"]
        subprocess.run(command, env=userland.environment, capture_output=True, check=False)
        if counts.is_file() and counts.read_text():
            counts.unlink()
            return ""
    library.unlink(missing_ok=True)
    return "this QEMU loads no TCG plugins (a static build has none), or the compiler failed"
