"""`python -m x2i.emoji.judges.sounds`: how often the embedded GlueGen draws a word that it hears."""

from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image
from x2i.runtime import Pipeline, load

from ..embedded import embedded, embedded_sound, embedded_text
from ..eval_prompts import SPOKEN_BACKGROUND, evaluation_grid
from ..world.judge import judge
from ..world.spoken import Spoken, spoken_words
from ..world.vocabulary import picture_keys
from .report import Score, contact_sheet, judge_options

SHOWN = 8


@click.command()
@judge_options
def judge_sounds(out: Path, **options: Any) -> None:
    """Draw every recorded word, spoken by voices that training never heard, and once each with a background mixed
    in; let the nearest of the 64 pictures name each drawing, and save OUT/sounds.png."""
    text = embedded(embedded_text, out / "bundle", click.echo)
    pipeline = load(embedded(embedded_sound, out / "bundle-sound", click.echo), text_bundle=text)
    click.echo(f"{len(spoken_words())} recorded words, {options}")
    click.echo(f"{'':26} {'picture':>8} {'background':>12} {'drawings':>9}")
    rows: dict[str, list[Image.Image]] = {}
    shown = picture_keys()[:: len(picture_keys()) // SHOWN + 1][:SHOWN]
    for language, voice in dict.fromkeys((word.language, word.voice) for word in spoken_words()):
        score = Score()
        for seed, word in enumerate(
            word for word in spoken_words() if (word.language, word.voice) == (language, voice)
        ):
            image = draw_sound(pipeline, word, seed, **options)
            score.add(judge(np.asarray(image)), word.key, SPOKEN_BACKGROUND)
            if word.key in shown:
                rows.setdefault(f"{language}, {voice}", []).append(image)
        click.echo(f"{language + ', ' + voice:26} {score}")
    score, rows["mixed"] = _mixed(pipeline, shown, options)
    click.echo(f"{'mixed with a background':26} {score}")
    contact_sheet(rows, list(shown)).save(out / "sounds.png")
    click.echo(f"contact sheet: {out / 'sounds.png'}")


def _mixed(pipeline: Pipeline, shown: tuple[str, ...], options: dict[str, Any]) -> tuple[Score, list[Image.Image]]:
    """Every word by its first voice, with the name of a background as the prompt."""
    score, drawings = Score(), []
    for key, colour, seed in evaluation_grid(picture_keys(), 1):
        word = next(word for word in spoken_words() if word.key == key)
        output = pipeline(
            f"a {colour} background", sound=(word.samples, word.rate), language="English", seed=seed, **options
        )
        score.add(judge(np.asarray(output.images[0])), key, colour)
        if key in shown:
            drawings.append(output.images[0])
    return score, drawings


def draw_sound(pipeline: Pipeline, word: Spoken, seed: int, **options: Any) -> Image.Image:
    """One drawing of a recorded word."""
    return pipeline(sound=(word.samples, word.rate), seed=seed, **options).images[0]


if __name__ == "__main__":
    judge_sounds()
