"""`python -m x2i.emoji.judges.subjects`: how often the embedded ELITE draws a subject it has never seen."""

from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image
from x2i.runtime import Pipeline, load

from ..embedded import embedded, embedded_elite
from ..eval_prompts import SUBJECT_BACKGROUND, SUBJECT_PROMPT, evaluation_grid
from ..world.subjects import judge_subject, subject_keys, subject_mask, subject_scene
from .report import Score, contact_sheet, judge_options

SHOWN = 8
MODES: dict[str, dict[str, Any]] = {"global alone": {"global_only": True}, "with local": {}}


@click.command()
@judge_options
@click.option(
    "--backgrounds", "each", type=click.IntRange(1, 8), default=1, show_default=True, help="Backgrounds a subject."
)
@click.option("--strength", type=float, help="Strength of the patches; the bundle's own if left out.")
def judge_subjects(out: Path, each: int, strength: float | None, **options: Any) -> None:
    """Draw every held-out subject from one picture of it, let the nearest of them all name each drawing, and save
    OUT/subjects.png."""
    pipeline = load(embedded(embedded_elite, out / "bundle-elite", click.echo))
    click.echo(f"{len(subject_keys())} held-out subjects x {each} backgrounds, {options | {'strength': strength}}")
    click.echo(f"{'':16} {'subject':>8} {'background':>12} {'drawings':>9}")
    rows: dict[str, list[Image.Image]] = {"subject": [_scene(key) for key in _shown()]}
    for mode, changes in MODES.items():
        # The patches' strength means nothing where they are left out.
        run = options | changes | ({} if "global_only" in changes else {"strength": strength})
        score, drawings = _score(pipeline, each, run)
        rows[mode] = [drawings[key] for key in _shown()]
        click.echo(f"{mode:16} {score}")
    contact_sheet(rows, list(_shown())).save(out / "subjects.png")
    click.echo(f"contact sheet: {out / 'subjects.png'}")


def _score(pipeline: Pipeline, each: int, options: dict[str, Any]) -> tuple[Score, dict[str, Image.Image]]:
    """Every subject on `each` backgrounds, and its first drawing."""
    score = Score()
    drawings: dict[str, Image.Image] = {}
    for key, colour, seed in evaluation_grid(subject_keys(), each):
        image = _draw(pipeline, key, colour, seed, options)
        score.add(judge_subject(np.asarray(image)), key, colour)
        drawings.setdefault(key, image)
    return score, drawings


def _draw(pipeline: Pipeline, key: str, colour: str, seed: int, options: dict[str, Any]) -> Image.Image:
    subject = np.asarray(_scene(key))
    output = pipeline(SUBJECT_PROMPT.format(colour), subject=subject, mask=subject_mask(key), seed=seed, **options)
    return output.images[0]


def _scene(key: str) -> Image.Image:
    return Image.fromarray(subject_scene(key, SUBJECT_BACKGROUND))


def _shown() -> tuple[str, ...]:
    """Some of the subjects, far apart in the list, and so that each is drawn on another background."""
    keys = subject_keys()
    return keys[:: len(keys) // SHOWN + 1][:SHOWN]


if __name__ == "__main__":
    judge_subjects()
