"""``edgec device``: set up emulated cores, and ask a device what it is."""

from __future__ import annotations

import click

from edgec.pipeline.cli._options import NAME_OR_FILE, json_option


@click.group()
def command() -> None:
    """Devices for --on: emulated cores (qemu:cortex-a76, qemu:haswell) and boards (ssh://user@host)."""


@command.group()
def setup() -> None:
    """Prepare this machine for a kind of device."""


@setup.command()
@click.option(
    "--cpu", default="cortex-a76", show_default=True, help="cortex-a76, cortex-a72, cortex-a53, armv7 or haswell."
)
@click.option("--mirror", help="Distribution mirror to download from, instead of the one that apt uses here.")
def qemu(cpu: str, mirror: str | None) -> None:
    """Set up an emulated userland in edgec's cache, without root: one for 64-bit Arm, one for armv7, one for x86.

    The x86 one runs this Python and its OpenVINO.
    """
    from edgec.pipeline.cli._progress import progress_bar
    from edgec.targets.devices.qemu import find_core
    from edgec.targets.devices.userland import set_up

    core = find_core(cpu)
    with progress_bar():
        userland = set_up(core.machine, mirror)
    counting = f"no: {userland.counter_missing}" if userland.counter_missing else "yes"
    click.echo(f"qemu:{core.name} is ready in {userland.folder}")
    click.echo(
        f"runtime: {userland.board['runtime']}, Python {userland.board['python']}; counts instructions: {counting}"
    )


@command.command()
@click.argument("spec", metavar="DEVICE")
@click.option(
    "--target", type=NAME_OR_FILE, help="The board whose runtime is asked for there: 'arm', or 'cpu' of an x86 core."
)
@json_option
def show(spec: str, target: str | None, as_json: bool) -> None:
    """Connect to DEVICE and print what it is: processor or GPU, clock, temperature, runtime."""
    import json

    from edgec.pipeline.forms.compiler import load_compiler
    from edgec.pipeline.forms.device import open_device
    from edgec.pipeline.forms.spec import load_target
    from edgec.targets.devices.qemu import QemuDevice

    device = open_device(spec)
    usual = device.core.machine.target if isinstance(device, QemuDevice) else "arm"
    facts = load_compiler(load_target(target or usual).compiler).describe(device)
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    for name, value in facts.items():
        click.echo(f"{name:14} {'-' if value is None else value}")
