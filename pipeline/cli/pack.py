"""``edgec pack`` and its opposite: a bundle as one file."""

from __future__ import annotations

from pathlib import Path

import click

from edgec.pipeline.cli._options import FOLDER


@click.command()
@click.argument("bundle", type=FOLDER)
@click.option("--output", type=FOLDER, help="NAME-VERSION-TARGET.tar.zst beside the bundle by default.")
@click.option(
    "--sign",
    "keys",
    type=FOLDER,
    multiple=True,
    help="Private key in PEM. Ed25519 signs the manifest, an elliptic curve the folder as OpenSSF does. Repeatable.",
)
@click.option(
    "--key", "trusted", type=FOLDER, multiple=True, help="Public key in PEM: unpack only what is signed with it."
)
def command(bundle: Path, output: Path | None, keys: tuple[Path, ...], trusted: tuple[Path, ...]) -> None:
    """Write BUNDLE as one deterministic .tar.zst, or unpack a .tar.zst into the folder --output."""
    from edgec.pipeline.bundle.archive import SUFFIX, pack, unpack
    from edgec.pipeline.bundle.read import open_bundle
    from edgec.pipeline.bundle.signature import check_signatures, sign_with, unchecked_signatures

    if bundle.name.endswith(SUFFIX):
        folder = output or bundle.with_name(bundle.name.removesuffix(SUFFIX))
        said: list[str] = []
        unpack(bundle, folder, lambda unpacked: said.extend(check_signatures(open_bundle(unpacked).folder, trusted)))
        click.echo(f"{folder}  ({'; '.join((*said, *unchecked_signatures(folder, trusted)))})")
        return
    manifest = open_bundle(bundle).manifest
    sign_with(bundle, keys)
    name = f"{manifest.model.name}-{manifest.model.version}-{manifest.target.name}{SUFFIX}"
    archive = output or bundle.absolute().parent / name
    click.echo(f"{pack(bundle, archive)}  {archive}")
