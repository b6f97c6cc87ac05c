"""`python -m x2i.emoji.judges.precision`: what each precision costs the embedded models' pictures, kind by kind."""

from pathlib import Path

import click
from x2i.export.lower.lowered_bundle import emulate_fp16, lower
from x2i.export.lower.lowering import PRECISIONS, Lowering
from x2i.runtime.bundle.reader import Bundle, open_bundle
from x2i.runtime.files.staging import staging_folder
from x2i.runtime.gate.record import Category, Judged
from x2i.runtime.load import pipeline_of
from x2i.runtime.sessions.session import Settings

from ..embedded import EMBEDDED, embedded
from ..gate import EmojiJudge
from ..source_digest import source_digest, up_to_date

LOWER = tuple(precision for precision in PRECISIONS if precision != "fp32")


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("demo"), show_default=True, help="Folder.")
@click.option(
    "--system",
    "systems",
    type=click.Choice(list(EMBEDDED)),
    multiple=True,
    default=["gluegen-text"],
    show_default=True,
    help="What to judge; repeatable.",
)
@click.option(
    "--precision",
    "precisions",
    type=click.Choice(LOWER),
    multiple=True,
    default=LOWER,
    help="Repeatable; all if left out.",
)
@click.option("--backgrounds", type=click.IntRange(1, 8), default=1, show_default=True, help="Backgrounds a picture.")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads; all cores if left out.")
def judge_precision(
    out: Path, systems: tuple[str, ...], precisions: tuple[str, ...], backgrounds: int, threads: int | None
) -> None:
    """Draw every picture of the embedded models' world in fp32 and in every precision, at the same seeds, and let the
    judge and CLIP say what each loses."""
    for system in systems:
        plan_of, name = EMBEDDED[system]
        fp32 = open_bundle(embedded(plan_of, out / name, click.echo))
        score = EmojiJudge(backgrounds).against(fp32.manifest, pipeline_of(fp32, "cpu", Settings(threads)))
        for precision in precisions:
            lowered = open_bundle(lowered_anyway(fp32, out / f"{name}-{precision}", precision))
            with staging_folder(out, "rounded") as work:
                judged = score(emulate_fp16(fp32, lowered, work, threads))
            click.echo("\n".join([f"{system}, {precision}, {_megabytes(lowered):.1f} MB", *_table(judged)]))


def lowered_anyway(fp32: Bundle, out: Path, precision: str) -> Path:
    """The bundle in another precision, also where its gate fails: the judge measures just that."""
    lowering = Lowering({"": precision}, accept=True)
    source = source_digest(fp32.folder / "manifest.json", settings=precision)
    return up_to_date(out, source, lambda: lower(fp32.folder, out, lowering, click.echo), click.echo)


def _table(judged: Judged) -> list[str]:
    whole = Category("all", judged.drawings, *means_of(judged))
    head = f"  {'':16}{'drawings':>9}{'fp32':>9}{'lowered':>9}{'CLIP fp32':>11}{'lowered':>9}"
    verdict = "within" if judged.passed else "PAST"
    lines = [head, *(_line(category) for category in (*judged.categories, whole))]
    return [*lines, f"  {judged.lost:.1f} points lost, {verdict} {judged.within:.1f}"]


def means_of(judged: Judged) -> tuple[float, ...]:
    """Over all drawings, in the order of a category's figures."""
    names = ("fp32_accuracy", "accuracy", "fp32_clip_score", "clip_score")
    return tuple(sum(getattr(c, name) * c.drawings for c in judged.categories) / judged.drawings for name in names)


def _line(category: Category) -> str:
    accuracy = f"{category.fp32_accuracy:9.1%}{category.accuracy:9.1%}"
    return (
        f"  {category.name:16}{category.drawings:9}{accuracy}{category.fp32_clip_score:11.3f}{category.clip_score:9.3f}"
    )


def _megabytes(bundle: Bundle) -> float:
    return sum(file.bytes for file in bundle.manifest.files.values()) / 1e6


if __name__ == "__main__":
    judge_precision()
