"""Options that several of these commands share, and what they say where the extra is not installed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import click
from x2i.runtime.commands.console import Refusal
from x2i.runtime.commands.options import Size
from x2i.runtime.inputs.sampling import MOST_STEPS
from x2i.runtime.sessions.providers.owners import check_one_owner


@contextmanager
def require_extra(extra: str, command: str) -> Iterator[None]:
    """Around a command's imports: a missing package is refused with the extra that brings it, and so are two ONNX
    Runtimes in one folder, before there is any work to lose."""
    check_one_owner()
    try:
        yield
    except ModuleNotFoundError as missing:
        if (missing.name or "").startswith("x2i"):
            raise
        raise Refusal(f"{command} needs {missing.name}: pip install 'x2i-edge[{extra}]'") from missing


STEPS, SEED = click.IntRange(1, MOST_STEPS), click.IntRange(0, 2**63 - 1)
PRECISION = (
    "fp16, bf16 (the decoder), int8, int8+fp16, int8-weights or int4-weights, for the bundle or as GRAPH=NAME for one "
    "graph; repeatable."
)


def _precisions(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    precisions: dict[str, str] = {}
    for value in values:
        graph, equals, precision = value.rpartition("=")
        if equals and not graph:
            raise click.BadParameter(f"expected NAME or GRAPH=NAME, got {value!r}")
        if graph in precisions:
            raise click.BadParameter(f"expected one precision for {graph or 'the bundle'}, got two")
        precisions[graph] = precision
    return precisions


LOWERING_OPTIONS = (
    click.option("--precision", multiple=True, callback=_precisions, metavar="[GRAPH=]NAME", help=PRECISION),
    click.option("--level", type=float, default=3, show_default=True, help="Layers that int8 takes: 1, 2, 2.5 or 3."),
    click.option("--keep", multiple=True, help="A layer or part that keeps its precision, by path or pattern."),
    click.option("--quality", type=float, help="Keep the worst layers until the noise's relative L2 is this small."),
    click.option("--calibration", type=click.Path(path_type=Path), help="Runs to calibrate on, a JSON object a line."),
    click.option("--calibration-seed", type=SEED, default=0, show_default=True, help="Seed of the calibration."),
    click.option("--trial-steps", type=STEPS, help="Steps of runs to calibrate on and to compare."),
    click.option("--trial-size", type=Size(), help="Height and width of those runs, in pixels."),
    click.option("--judge", metavar="NAME", help="An installed judge, which scores drawings of its own prompts."),
    click.option("--accept", is_flag=True, help="Write the bundle even if it fails its gate; the manifest says so."),
)
NAMES = ("precision", "level", "keep", "quality", "calibration", "judge", "accept")
FIELDS = {name: name for name in NAMES} | {"calibration_seed": "seed", "trial_steps": "steps", "trial_size": "size"}
"""The field of a Lowering behind each option."""


def lowering_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options to a command, which takes them as one `lowering`: the fields of a Lowering by name."""

    @wraps(command)
    def gathering(**given: Any) -> Any:
        return command(lowering={field: given.pop(name) for name, field in FIELDS.items()}, **given)

    wrapped: Callable[..., Any] = gathering
    for option in reversed(LOWERING_OPTIONS):
        wrapped = option(wrapped)
    return wrapped
