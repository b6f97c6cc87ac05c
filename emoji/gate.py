"""Judges a bundle of the embedded models against its fp32: how many drawings show what was asked, and their CLIP
score, kind by kind, at the same seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from x2i.export.errors import PlanError
from x2i.runtime.bundle.reader import Bundle
from x2i.runtime.gate.comparison import Draw
from x2i.runtime.gate.record import Category, Judged
from x2i.runtime.load import pipeline_of

from .eval_prompts import EvalPrompt, eval_prompts
from .world.clip_score import clip_scores
from .world.vocabulary import CANVAS

JUDGE = (
    "emoji world: the nearest of 64 rendered pictures and the nearest named colour behind it; cosines of drawing and "
    "English caption in the emoji font's CLIP"
)


@dataclass(frozen=True, slots=True)
class Figures:
    """Of each drawing: whether it shows what was asked, bool [n], and its cosine with its caption, float32 [n]."""

    right: np.ndarray
    cosines: np.ndarray


def emoji_judge(fp32: Bundle, lowered: Draw, each: int = 1) -> Judged:
    """Draws every picture of the bundle's world with it and with what draws in its place, one after the other, and
    judges the drawings.

    `each` is how many backgrounds a picture is drawn on. Raises PlanError for a bundle that is not of the embedded
    models.
    """
    wanted = asked_of(fp32, each)
    return judged(wanted, figures(pipeline_of(fp32, "cpu"), wanted), figures(lowered, wanted))


class AgainstPlain:
    """Judges what else draws as `plain` does from the same noise: its drawings are made once."""

    def __init__(self, bundle: Bundle, plain: Draw):
        self._wanted = asked_of(bundle)
        self._plain = figures(plain, self._wanted)

    def __call__(self, draw: Draw) -> Judged:
        return judged(self._wanted, self._plain, figures(draw, self._wanted))


def asked_of(bundle: Bundle, each: int = 1) -> list[EvalPrompt]:
    """What the embedded bundle of this system is asked; raises PlanError for any other bundle."""
    height, width = bundle.manifest.plan.decoder.size
    if (height, width) != (CANVAS, CANVAS):
        raise PlanError(
            f"judge: the emoji judge expects the embedded models' pictures of {CANVAS}x{CANVAS}, got a bundle of "
            f"{height}x{width}; leave out the judge"
        )
    return eval_prompts(bundle.manifest.system, each)


def figures(pipeline: Draw, wanted: Sequence[EvalPrompt]) -> Figures:
    """Draws what is asked and judges it."""
    return figures_of([np.asarray(pipeline(**ask.options).images[0]) for ask in wanted], wanted)


def figures_of(drawings: Sequence[np.ndarray], wanted: Sequence[EvalPrompt]) -> Figures:
    """Judges drawings, uint8 [64, 64, 3] each."""
    right = [ask.right(drawing) for ask, drawing in zip(wanted, drawings, strict=True)]
    return Figures(np.asarray(right), clip_scores(drawings, [ask.caption for ask in wanted]))


def judged(wanted: Sequence[EvalPrompt], fp32: Figures, lowered: Figures) -> Judged:
    """Both bundles' figures kind by kind, in the order in which the kinds were first asked."""
    kinds = np.asarray([ask.kind for ask in wanted])
    return Judged(JUDGE, tuple(_category(kind, kinds == kind, fp32, lowered) for kind in dict.fromkeys(kinds.tolist())))


def _category(kind: str, of_it: np.ndarray, fp32: Figures, lowered: Figures) -> Category:
    return Category(
        kind,
        int(of_it.sum()),
        float(fp32.right[of_it].mean()),
        float(lowered.right[of_it].mean()),
        float(fp32.cosines[of_it].mean()),
        float(lowered.cosines[of_it].mean()),
    )
