"""`python -m x2i.emoji.judges.pairs`: how often the embedded FastComposer keeps two held-out subjects apart."""

from collections import Counter
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image
from x2i.runtime import Pipeline, load

from ..embedded import embedded, embedded_fastcomposer
from ..world.pairs import Pair, judge_pair, pair_scene, pairs
from .report import contact_sheet, judge_options

MODES: dict[str, dict[str, Any]] = {
    "no delay": {"alpha": 1.0},
    "alpha 0.9": {"alpha": 0.9},
    "alpha 0.8": {"alpha": 0.8},
    "alpha 0.6": {"alpha": 0.6},
    "text alone": {"alpha": 0.0},
}
COUNTS = ("apart", "swapped", "blended", "missing", "left", "right", "background")
SHOWN = 8


@click.command()
@judge_options
def judge_pairs(out: Path, **options: Any) -> None:
    """Draw 64 pairs of held-out subjects from one picture of each, with and without delayed conditioning, judge both
    halves of every drawing, and save OUT/pairs.png."""
    pipeline = load(embedded(embedded_fastcomposer, out / "bundle-fastcomposer", click.echo))
    shown = pairs()[:: len(pairs()) // SHOWN + 1][:SHOWN]
    rows = {
        "subjects": [_side_by_side(pair) for pair in shown],
        "asked": [Image.fromarray(pair_scene(pair)) for pair in shown],
    }
    click.echo(f"{len(pairs())} pairs of held-out subjects, {options}")
    click.echo(f"{'':12}" + "".join(f"{name:>12}" for name in COUNTS))
    for mode, changes in MODES.items():
        counts, drawings = _counted(pipeline, options | changes)
        click.echo(f"{mode:12}" + "".join(f"{counts[name] / len(pairs()):12.1%}" for name in COUNTS))
        rows[mode] = [drawings[pair] for pair in shown]
    contact_sheet(rows, [f"{pair.left}, {pair.right}" for pair in shown]).save(out / "pairs.png")
    click.echo(f"contact sheet: {out / 'pairs.png'}")


def draw_pair(pipeline: Pipeline, pair: Pair, seed: int, **options: Any) -> Image.Image:
    """One drawing of a pair from its two reference pictures."""
    return pipeline(pair.prompt, subjects=list(pair.pictures()), seed=seed, **options).images[0]


def _side_by_side(pair: Pair) -> Image.Image:
    """Both reference pictures on one white square."""
    pictures = np.hstack(pair.pictures())
    margin = (pictures.shape[1] - pictures.shape[0]) // 2
    return Image.fromarray(np.pad(pictures, ((margin, margin), (0, 0), (0, 0)), constant_values=255))


def _counted(pipeline: Pipeline, options: dict[str, Any]) -> tuple[Counter[str], dict[Pair, Image.Image]]:
    """How many drawings show what, and every drawing. `left` and `right` count halves named rightly among all 64."""
    counts: Counter[str] = Counter()
    drawings = {pair: draw_pair(pipeline, pair, seed, **options) for seed, pair in enumerate(pairs())}
    for pair, image in drawings.items():
        verdict = judge_pair(np.asarray(image), pair)
        counts["apart"] += verdict.apart
        counts["swapped"] += verdict.swapped
        counts["blended"] += verdict.blended
        counts["missing"] += verdict.missing
        counts["left"] += verdict.named[0] == pair.left
        counts["right"] += verdict.named[1] == pair.right
        counts["background"] += verdict.background == pair.background
    return counts, drawings


if __name__ == "__main__":
    judge_pairs()
