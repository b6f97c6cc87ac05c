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
from x2i.runtime.inputs.pictures.image import SeenImageInput

from .eval_prompts import EvalPrompt, eval_prompts
from .world.clip_score import clip_scores
from .world.vocabulary import CANVAS

JUDGE = (
    "emoji world: the nearest of 64 rendered pictures and the nearest named colour behind it; cosines of drawing and "
    "English caption in the emoji font's CLIP"
)


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of each run: whether its result is correct, bool [n], and the cosine of picture and caption, float32 [n],
    of which one is the result."""

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
        seen = manifest.plan.find(SeenImageInput)
        height, width = manifest.plan.process.canvas.size if seen is None else (seen.size, seen.size)
        if (height, width) != (CANVAS, CANVAS):
            raise PlanError(
                f"judge: the emoji judge expects the embedded models' pictures of {CANVAS}x{CANVAS}, got a bundle of "
                f"{height}x{width}; leave out the judge"
            )
        return eval_prompts(manifest.system, self.backgrounds, manifest.languages)


def draw_and_score(draw: Draw, prompts: Sequence[EvalPrompt]) -> Scores:
    """Runs every prompt and scores the results."""
    shown = track(prompts, "judge", unit="runs")
    return score([prompt.result(draw(**prompt.options)) for prompt in shown], prompts)


def score(results: Sequence[np.ndarray | str], prompts: Sequence[EvalPrompt]) -> Scores:
    """Scores the results of the prompts beside them: drawings, uint8 [64, 64, 3] each, or captions."""
    correct = [prompt.correct(result) for prompt, result in zip(prompts, results, strict=True)]
    pictures, captions = zip(*(p.described(r) for p, r in zip(prompts, results, strict=True)), strict=True)
    return Scores(np.asarray(correct), clip_scores(pictures, captions))


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
