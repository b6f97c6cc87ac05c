"""What a server's replicas are started with, and its options of `x2i serve`."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import click

from ...errors import InputError

MOST_REPLICAS = 10_000


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """From `least` to `most` replicas are kept. `address` is that of a Ray cluster of which this machine is a part,
    "auto" for the one that runs here; None starts one on this machine alone. Each replica has `gpus` GPUs, or that
    share of one, and keeps `open` bundles open, None for all. There are to be `ongoing` jobs for each replica, those
    that wait included, None for as many as it draws at a time. `name` is that of the application in Ray Serve: a
    server takes over what is left of an earlier one of its name."""

    least: int
    most: int
    address: str | None = None
    gpus: float = 0.0
    open: int | None = None
    ongoing: float | None = None
    name: str = "x2i"


class _Replicas(click.ParamType):
    """N, or LEAST:MOST."""

    name = "N or MIN:MAX"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> tuple[int, int]:
        found = re.fullmatch(r"([0-9]{1,5})(?::([0-9]{1,5}))?", value)
        least, most = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
        if not 1 <= least <= most <= MOST_REPLICAS:
            self.fail(f"expected a number such as 2, or two such as 1:4, got {value!r}", parameter, context)
        return least, most


_OPTIONS = (
    click.option(
        "--replicas",
        type=_Replicas(),
        help="Draw on so many replicas of a Ray cluster; of MIN:MAX as many as needed.",
    ),
    click.option("--ray-address", help="Ray cluster that this machine is part of, or auto; its own if left out."),
    click.option("--gpus", type=click.FloatRange(0), help="GPUs of each replica; 0.5 is half of one.  [default: 0]"),
    click.option("--open", type=click.IntRange(1), help="Bundles that a replica keeps open; all if left out."),
    click.option(
        "--ongoing",
        type=click.FloatRange(0, min_open=True),
        help="Jobs for each replica, beyond which another is started; as many as --lanes if left out.",
    ),
)


def cluster_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator that adds the options of a cluster to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def cluster_settings(chosen: Mapping[str, Any], name: str) -> ClusterSettings | None:
    """What the values of a command's options say; None where jobs are drawn by this process. Raises InputError for
    options that are of no use without replicas."""
    given = {option: chosen[option] for option in ("ray_address", "gpus", "open", "ongoing")}
    if chosen["replicas"] is None:
        useless = [f"--{option.replace('_', '-')}" for option, value in given.items() if value is not None]
        if useless:
            raise InputError(f"{', '.join(useless)}: expected with --replicas, got without; add --replicas 1")
        return None
    least, most = chosen["replicas"]
    gpus = given["gpus"] or 0.0
    if gpus > 1 and gpus != int(gpus):
        raise InputError(f"--gpus: expected a whole number, or a share below 1, got {gpus:g}; round it")
    return ClusterSettings(least, most, given["ray_address"], gpus, given["open"], given["ongoing"], name)
