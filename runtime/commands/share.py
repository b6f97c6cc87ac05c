"""`x2i share`: keep what several bundles have in common once on the disk."""

from pathlib import Path

import click

from ..bundle.reader import open_bundle
from ..bundle.sharing import share as share_files
from ..errors import InputError
from .console import command
from .progress import echo

WORTH_A_LINE = 100_000
"""Bytes."""


@command()
@click.argument("bundles", type=click.Path(path_type=Path), nargs=-1, required=True)
def share(bundles: tuple[Path, ...]) -> None:
    """Link files that the folders BUNDLES have in common, such as the denoiser of one base: hard links, one file on the
    disk. Every bundle stays whole, wherever the others are moved or deleted."""
    if len(set(folder.resolve() for folder in bundles)) < 2:
        raise InputError("share: expected two bundles or more, got one; name those that have a base in common")
    found = share_files([open_bundle(folder) for folder in bundles])
    large = [one for one in found if one.bytes >= WORTH_A_LINE]
    for one in large:
        echo(f"{one.path.name}: {one.bytes / 1e6:.1f} MB, one file in {len(one.others) + 1} places")
    if len(found) > len(large):
        echo(f"and {len(found) - len(large)} smaller ones")
    echo(f"{sum(one.freed for one in found) / 1e6:.1f} MB freed")
