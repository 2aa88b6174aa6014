"""``edgec pack`` and its opposite: a bundle as one file."""

from __future__ import annotations

from pathlib import Path

import click

from edgec.pipeline.cli._options import FOLDER


@click.command()
@click.argument("bundle", type=FOLDER)
@click.option("--output", type=FOLDER, help="NAME-VERSION-TARGET.tar.zst beside the bundle by default.")
@click.option("--sign", "key", type=FOLDER, help="Ed25519 private key in PEM: sign the manifest first.")
@click.option("--key", "trusted", type=FOLDER, help="Ed25519 public key in PEM: unpack only what is signed with it.")
def command(bundle: Path, output: Path | None, key: Path | None, trusted: Path | None) -> None:
    """Write BUNDLE as one deterministic .tar.zst, or unpack a .tar.zst into the folder --output."""
    from edgec.pipeline.bundle.archive import SUFFIX, pack, unpack
    from edgec.pipeline.bundle.read import open_bundle
    from edgec.pipeline.bundle.signature import check_signature, sign

    if bundle.name.endswith(SUFFIX):
        folder = output or bundle.with_name(bundle.name.removesuffix(SUFFIX))
        said = []
        unpack(bundle, folder, lambda unpacked: said.append(check_signature(open_bundle(unpacked).folder, trusted)))
        click.echo(f"{folder}  ({said[0]})")
        return
    manifest = open_bundle(bundle).manifest
    if key is not None:
        sign(bundle, key)
    name = f"{manifest.model.name}-{manifest.model.version}-{manifest.target.name}{SUFFIX}"
    archive = output or bundle.absolute().parent / name
    click.echo(f"{pack(bundle, archive)}  {archive}")
