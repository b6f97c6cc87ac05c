"""The judge that `--judge emoji` names: how many drawings of a bundle of the embedded models show what their prompts
say, and their CLIP score, kind by kind, beside a reference's from the same seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from x2i.export.errors import PlanError
from x2i.export.judge import Scorer
from x2i.runtime.bundle.manifest import Manifest
from x2i.runtime.commands.progress import track
from x2i.runtime.gate.cases import Draw
from x2i.runtime.gate.record import Category, Judged

from .eval_prompts import EvalPrompt, eval_prompts
from .world.clip_score import clip_scores
from .world.vocabulary import CANVAS

JUDGE = (
    "emoji world: the nearest of 64 rendered pictures and the nearest named colour behind it; cosines of drawing and "
    "English caption in the emoji font's CLIP"
)


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of each drawing: whether it is correct, bool [n], and its cosine with its caption, float32 [n]."""

    correct: np.ndarray
    cosines: np.ndarray


@dataclass(frozen=True, slots=True)
class EmojiJudge:
    """The Judge of the embedded models' bundles. `backgrounds` (1 to 8) is how many of them a picture is drawn on, for
    systems that read a background in every prompt."""

    backgrounds: int = 1

    def runs(self, manifest: Manifest) -> list[dict[str, Any]]:
        """Options of 64 runs or more; raises PlanError for a bundle that is not of the embedded models."""
        return [prompt.options for prompt in self._prompts(manifest)]

    def against(self, manifest: Manifest, reference: Draw) -> Scorer:
        """Draws every prompt with `reference`, and returns what scores other drawings of them beside these.

        Raises PlanError for a bundle that is not of the embedded models.
        """
        prompts = self._prompts(manifest)
        expected = draw_and_score(reference, prompts)
        return lambda draw: judged(prompts, expected, draw_and_score(draw, prompts))

    def _prompts(self, manifest: Manifest) -> list[EvalPrompt]:
        height, width = manifest.plan.process.canvas.size
        if (height, width) != (CANVAS, CANVAS):
            raise PlanError(
                f"judge: the emoji judge expects the embedded models' pictures of {CANVAS}x{CANVAS}, got a bundle of "
                f"{height}x{width}; leave out the judge"
            )
        return eval_prompts(manifest.system, self.backgrounds)


def draw_and_score(draw: Draw, prompts: Sequence[EvalPrompt]) -> Scores:
    """Draws every prompt and scores the drawings."""
    shown = track(prompts, "judge", unit="drawings")
    return score([np.asarray(draw(**prompt.options).images[0]) for prompt in shown], prompts)


def score(drawings: Sequence[np.ndarray], prompts: Sequence[EvalPrompt]) -> Scores:
    """Scores drawings, uint8 [64, 64, 3] each, of the prompts beside them."""
    correct = [prompt.correct(drawing) for prompt, drawing in zip(prompts, drawings, strict=True)]
    return Scores(np.asarray(correct), clip_scores(drawings, [prompt.caption for prompt in prompts]))


def judged(prompts: Sequence[EvalPrompt], fp32: Scores, lowered: Scores) -> Judged:
    """Accuracy and CLIP score of both, kind by kind, in the order in which the kinds come first among the prompts."""
    kinds = np.asarray([prompt.kind for prompt in prompts])
    return Judged(JUDGE, tuple(_category(kind, kinds == kind, fp32, lowered) for kind in dict.fromkeys(kinds.tolist())))


def _category(kind: str, chosen: np.ndarray, fp32: Scores, lowered: Scores) -> Category:
    return Category(
        kind,
        int(chosen.sum()),
        float(fp32.correct[chosen].mean()),
        float(lowered.correct[chosen].mean()),
        float(fp32.cosines[chosen].mean()),
        float(lowered.cosines[chosen].mean()),
    )
