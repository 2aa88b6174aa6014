"""``edgec completion``: what a shell needs to complete commands and options."""

from __future__ import annotations

import click

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def command(shell: str) -> None:
    """Print the script that completes 'edgec' in SHELL.

    \b
    bash   edgec completion bash > ~/.local/share/bash-completion/completions/edgec
    zsh    edgec completion zsh > "${fpath[1]}/_edgec"
    fish   edgec completion fish > ~/.config/fish/completions/edgec.fish
    """
    from click.shell_completion import get_completion_class

    from edgec.pipeline.cli import group

    completes = get_completion_class(shell)
    if completes is None:
        raise click.UsageError(f"this click completes nothing for {shell}")
    click.echo(completes(group, {}, "edgec", "_EDGEC_COMPLETE").source())
