"""`python -m x2i.emoji.judges.languages`: how often the embedded model draws what was asked, language by language."""

from pathlib import Path
from typing import Any

import click
from x2i.runtime import load

from ..embedded import embedded, embedded_sd, embedded_t5, embedded_text
from ..world.vocabulary import languages, picture_keys
from .report import draw_world, judge_options


@click.command()
@judge_options
@click.option(
    "--backgrounds",
    "per_picture",
    type=click.IntRange(1, 8),
    default=1,
    show_default=True,
    help="Backgrounds to draw every picture on; 8 is the whole world.",
)
@click.option(
    "--batch", type=click.IntRange(1, 16), default=1, show_default=True, help="Pictures of one prompt at once."
)
def judge(out: Path, per_picture: int, batch: int, **options: Any) -> None:
    """Draw the whole vocabulary in every language and let the nearest rendered picture name each drawing."""
    text = embedded(embedded_text, out / "bundle", click.echo)
    english = embedded(embedded_sd, out / "bundle-sd", click.echo)
    behind_t5 = embedded(embedded_t5, out / "bundle-t5", click.echo)
    click.echo(f"{len(picture_keys())} pictures x {per_picture} backgrounds, {options}")
    click.echo(f"{'':22} {'picture':>8} {'background':>12} {'drawings':>9}")
    score, _ = draw_world(load(english), "English", per_picture, batch, **options)
    click.echo(f"{'English (CLIP)':22} {score}")
    score, _ = draw_world(load(behind_t5), "English", per_picture, batch, **options, language="T5")
    click.echo(f"{'English (T5)':22} {score}")
    pipeline = load(text)
    for language in languages():
        score, _ = draw_world(pipeline, language, per_picture, batch, **options, language=language)
        click.echo(f"{language:22} {score}")


if __name__ == "__main__":
    judge()
