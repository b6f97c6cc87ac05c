"""The command line of `python bench`."""

from pathlib import Path

import click

from harness.answers import AnswerStore
from harness.bench import Bench, with_rounds
from harness.cases import CASES
from harness.contestants import CONTESTANTS
from harness.environments import Environments
from harness.folders import Folders


@click.command()
@click.option("--case", "cases", type=click.Choice(tuple(CASES)), multiple=True, help="Emoji alone if left out.")
@click.option(
    "--only", multiple=True, help="The contestant of this name, or all whose names contain it; everybody if left out."
)
@click.option(
    "--pictures/--no-pictures", default=True, show_default=True, help="Also draw a whole picture of 20 steps."
)
@click.option("--again", is_flag=True, help="Measure anew what is kept from an earlier run.")
@click.option("--rounds", type=click.IntRange(min=1), help="Turns of every contestant.")
@click.option("--steps", type=click.IntRange(min=1), help="Steps timed in a turn.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("build/bench"), show_default=True)
@click.option("--full", type=click.Path(path_type=Path), default=Path("build/full"), show_default=True,
              help="Where the full-size bundles are, or are made.")  # fmt: skip
def bench(
    cases: tuple[str, ...],
    only: tuple[str, ...],
    pictures: bool,
    again: bool,
    rounds: int | None,
    steps: int | None,
    out: Path,
    full: Path,
) -> None:
    """Set up every peer's environment, measure in turns, print the tables. It goes on where an earlier run stopped."""
    try:
        chosen = [with_rounds(CASES[name], rounds, steps) for name in cases or ("emoji-64",)]
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    out, full = out.absolute(), full.absolute()
    out.mkdir(parents=True, exist_ok=True)
    environments = Environments(out / "environments")
    folders = Folders(out / "models", full, environments)
    run = Bench(out, CONTESTANTS, folders, environments, AnswerStore(out / "bench.json"), click.echo)
    for case in chosen:
        run.measure(case, lambda who: not only or any(_means(part, who.name) for part in only), pictures, again)
    for case in chosen:
        click.echo("\n".join(("", *run.report(case))))


def _means(part: str, name: str) -> bool:
    """Part of a name, or all of it."""
    return part == name or (part in name and part not in (who.name for who in CONTESTANTS))
