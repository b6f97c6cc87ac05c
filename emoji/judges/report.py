"""What the judges' commands share: their options, how the vocabulary is drawn and verdicts are counted, and a labelled
sheet of the drawings."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from x2i.runtime import Pipeline

from ..eval_prompts import evaluation_grid
from ..world.captions import caption
from ..world.judge import Verdict, judge
from ..world.vocabulary import picture_keys

OPTIONS = (
    click.option("--out", type=click.Path(path_type=Path), default=Path("demo"), show_default=True, help="Folder."),
    click.option("--steps", type=int, help="Denoising steps; the bundle's own if left out."),
    click.option("--guidance", type=float, help="Guidance scale; the bundle's own if left out."),
    click.option("--sampler", help="Sampler; the bundle's own if left out."),
)


def judge_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds a judge's options to a command: the folder of bundles and sheets, and how to sample."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


@dataclass(slots=True)
class Score:
    """Counts over a set of drawings: all, those of the right picture, and those on the right background."""

    drawings: int = 0
    picture: int = 0
    background: int = 0

    def add(self, verdict: Verdict, key: str, background: str) -> None:
        """Counts one drawing, which should show `key` on `background`."""
        self.drawings += 1
        self.picture += verdict.key == key
        self.background += verdict.background == background

    def __str__(self) -> str:
        return f"{self.picture / self.drawings:8.1%} {self.background / self.drawings:12.1%} {self.drawings:9}"


def draw_world(
    pipeline: Pipeline, spoken: str, per_picture: int = 1, batch: int = 1, **options: Any
) -> tuple[Score, list[Image.Image]]:
    """Every picture of the vocabulary on `per_picture` backgrounds, `batch` drawings of each by a caption in the
    language `spoken`, all with seeds of their own; and what the judge sees in them."""
    score, drawings = Score(), []
    for key, colour, number in evaluation_grid(picture_keys(), per_picture):
        made = pipeline(caption(spoken, key, colour), seed=number * batch, count=batch, **options).images
        for image in made:
            score.add(judge(np.asarray(image)), key, colour)
        drawings += made
    return score, drawings


CELL, GAP, LEFT, TOP, UNDER = 128, 6, 110, 30, 26
LETTERS, SMALLEST_LETTERS = 14, 7


def contact_sheet(
    rows: dict[str, list[Image.Image]],
    columns: list[str],
    titles: dict[str, list[str]] | None = None,
    captions: dict[str, list[str]] | None = None,
) -> Image.Image:
    """One row per label, one column per title; small pictures are enlarged without smoothing.

    `titles` holds, by a row's label, what stands over that row instead, and `captions` what stands under each of its
    pictures, in two lines. All must be Latin: Pillow's own font, the only one sure to be present, has no other letters.
    """
    titles, captions = titles or {}, captions or {}
    width = LEFT + max([len(columns), *map(len, rows.values())]) * (CELL + GAP)
    height = TOP * (1 + len(titles)) + len(rows) * (CELL + GAP) + len(captions) * UNDER
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    top = 0
    for label, images in rows.items():
        if not top or label in titles:
            _line(draw, titles.get(label, columns), top + TOP // 2)
            top += TOP
        draw.text((GAP, top + CELL // 2), label, "black", _font(label, LEFT - 2 * GAP), anchor="lm")
        for x, image in enumerate(images):
            sheet.paste(image.resize((CELL, CELL), Image.Resampling.NEAREST), (LEFT + x * (CELL + GAP), top))
        top += CELL + GAP
        if label in captions:
            for half, texts in enumerate(zip(*map(_halves, captions[label]), strict=True)):
                _line(draw, list(texts), top + half * UNDER // 2)
            top += UNDER
    return sheet


def squared(image: Image.Image) -> Image.Image:
    """A wide drawing in the middle of white, as a sheet has squares."""
    made = Image.new("RGB", (image.width, image.width), "white")
    made.paste(image, (0, (image.width - image.height) // 2))
    return made


def _line(draw: ImageDraw.ImageDraw, texts: list[str], y: int) -> None:
    """One text a column, its middle at `y`."""
    for x, text in enumerate(texts):
        draw.text((LEFT + x * (CELL + GAP) + CELL // 2, y), text, "black", _font(text, CELL), anchor="mm")


def _halves(text: str) -> tuple[str, str]:
    """A text cut at the space that is nearest to its middle."""
    cuts = [place for place, letter in enumerate(text) if letter == " "]
    cut = min(cuts, key=lambda place: abs(2 * place - len(text)), default=len(text))
    return text[:cut], text[cut + 1 :]


def _font(text: str, width: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The largest font, up to LETTERS pixels, in which a text is no wider than `width`."""
    sizes = range(LETTERS, SMALLEST_LETTERS, -1)
    fonts = (ImageFont.load_default(size) for size in sizes)
    return next((font for font in fonts if font.getlength(text) <= width), ImageFont.load_default(SMALLEST_LETTERS))
