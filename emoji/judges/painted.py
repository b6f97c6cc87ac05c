"""`python -m x2i.emoji.judges.painted`: how often two things that are painted left and right are drawn there."""

from collections import Counter
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image
from x2i.runtime import Pipeline, load

from ..embedded import embedded, embedded_sd
from ..world.pairs import PaintedPair, judge_painted, painted_map, painted_pairs
from .report import contact_sheet, judge_options, squared

STRENGTH = 12.0
"""Far more than the 0.1 to 0.4 of large models, whose prompts name several things as a rule."""
MODES: dict[str, dict[str, Any]] = {
    "not painted": {"paint_strength": 0.0},
    "strength 1": {"paint_strength": 1.0},
    "strength 4": {"paint_strength": 4.0},
    "strength 12": {"paint_strength": STRENGTH},
}
COUNTS = ("both", "swapped", "left", "right")
SHOWN = 4


@click.command()
@judge_options
def judge_paint(out: Path, **options: Any) -> None:
    """Draw 64 pairs of the vocabulary's pictures, each painted on its half, and not painted, judge both halves of every
    drawing, and save OUT/painted.png."""
    pipeline = load(embedded(embedded_sd, out / "bundle-sd", click.echo))
    shown = painted_pairs()[:SHOWN]
    rows = {"map": [squared(Image.fromarray(painted_map()))] * SHOWN}
    click.echo(f"{len(painted_pairs())} pairs, {options}")
    click.echo(f"{'':12}" + "".join(f"{name:>12}" for name in COUNTS))
    for mode, changes in MODES.items():
        counts, drawings = _judged(pipeline, options | changes)
        click.echo(f"{mode:12}" + "".join(f"{counts[name] / len(painted_pairs()):12.1%}" for name in COUNTS))
        rows[mode] = [squared(drawings[pair]) for pair in shown]
    contact_sheet(rows, [f"{pair.left}, {pair.right}" for pair in shown]).save(out / "painted.png")
    click.echo(f"contact sheet: {out / 'painted.png'}")


def draw_painted(pipeline: Pipeline, pair: PaintedPair, seed: int, **options: Any) -> Image.Image:
    """One drawing of a pair, 64 x 128 pixels."""
    return pipeline(pair.prompt, seed=seed, **pair.options() | {"paint_strength": STRENGTH} | options).images[0]


def _judged(pipeline: Pipeline, options: dict[str, Any]) -> tuple[Counter[str], dict[PaintedPair, Image.Image]]:
    """How many drawings show what, and every drawing; "both" has each thing on its own side."""
    counts: Counter[str] = Counter()
    drawings = {pair: draw_painted(pipeline, pair, seed, **options) for seed, pair in enumerate(painted_pairs())}
    for pair, image in drawings.items():
        left, right = judge_painted(np.asarray(image))
        counts["both"] += (left, right) == (pair.left, pair.right)
        counts["swapped"] += (left, right) == (pair.right, pair.left)
        counts["left"] += left == pair.left
        counts["right"] += right == pair.right
    return counts, drawings


if __name__ == "__main__":
    judge_paint()
