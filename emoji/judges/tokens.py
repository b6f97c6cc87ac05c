"""`python -m x2i.emoji.judges.tokens`: how often the embedded VQ-Diffusion and Muse draw what was asked, and how often
the embedded DDCap says what it sees."""

from pathlib import Path
from typing import Any

import click
from PIL import Image
from x2i.runtime import Pipeline, load

from ..embedded import embedded_bundle
from ..tokens.caption_judge import held_out_scenes, judge_caption
from ..world.vocabulary import picture_keys
from .report import Score, contact_sheet, draw_world

PAINTERS = ("vq-diffusion", "muse")
SHOWN = slice(None, None, 9)
"""Every background once."""


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("demo"), show_default=True, help="Folder.")
@click.option("--guidance", type=float, help="Guidance scale of the painters; the bundle's own if left out.")
@click.option("--steps", type=int, help="Steps of the painters; the bundle's own if left out.")
def judge_tokens(out: Path, **options: Any) -> None:
    """Draw every picture of the vocabulary with both painters, have every picture captioned on the background on which
    training never showed it, and save OUT/tokens.png, a caption under each of its pictures."""
    click.echo(f"{len(picture_keys())} pictures, {options}")
    click.echo(f"{'':22} {'picture':>8} {'background':>12} {'drawings':>9}")
    captioner = load(embedded_bundle("ddcap", out, click.echo))
    rows: dict[str, list[Image.Image]] = {}
    for system in PAINTERS:
        score, drawings = draw_world(load(embedded_bundle(system, out, click.echo)), "English", **options)
        click.echo(f"{system:22} {score}")
        rows[system] = drawings[SHOWN]
    click.echo(f"{'ddcap':22} {_captioned(captioner)}")
    rows["held out"] = [Image.fromarray(picture) for _, _, picture in held_out_scenes()[SHOWN]]
    captions = {label: [captioner(image=image).texts[0] for image in images] for label, images in rows.items()}
    contact_sheet(rows, list(picture_keys()[SHOWN]), captions=captions).save(out / "tokens.png")
    click.echo(f"contact sheet: {out / 'tokens.png'}")


def _captioned(pipeline: Pipeline) -> Score:
    score = Score()
    for seed, (key, colour, picture) in enumerate(held_out_scenes()):
        score.add(judge_caption(pipeline(image=picture, seed=seed).texts[0]), key, colour)
    return score


if __name__ == "__main__":
    judge_tokens()
