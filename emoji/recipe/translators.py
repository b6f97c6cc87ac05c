"""Stage `translators`: one GlueNet translator a language, by GlueGen's own recipe.

Parallel captions teach it to turn the frozen XLM-R's features into the frozen text encoder's context; the denoiser is
never seen. As in GlueGen, features enter divided by 3 and the context leaves divided by half the norms of CLIP's
positions (arXiv 2303.10056).
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from x2i.models.translators.gluenet import GlueNetConditioner, TranslatorNoLN

from ..world import english, multilingual, vocabulary
from ..world.captions import caption
from . import text, xlmr
from .training import TrainingStage, averaged, device, report

BATCH = 48
PEAK = 2e-3
TUNED_PEAK = 6e-4
EMPTY = 3
CANONICAL_SHARE = 0.3
COMMON = "common"
COMMON_SHARE = 0.5
"""Every language starts from one translator that half of the time was spent on, with captions of all languages."""


def build() -> TranslatorNoLN:
    """The untrained translator of one language."""
    return TranslatorNoLN(english.POSITIONS, xlmr.WIDTH, text.WIDTH)


def trained(folder: Path, language: str) -> TranslatorNoLN:
    """One language's translator as stage `translators` left it, in eval mode."""
    return averaged(build(), folder / f"translator-{language}.pt")


def tensor_norm(folder: Path) -> Tensor:
    """Mean norm of the text encoder's states at every position over the canonical captions, [24, 1]."""
    colours = [background.key for background in vocabulary.backgrounds()]
    texts = [caption("English", key, colour) for key in vocabulary.picture_keys() for colour in colours]
    return text.context(text.trained(folder), texts).norm(dim=-1).mean(0)[:, None]


def draw_pairs(language: str, number: int) -> tuple[list[str], list[str]]:
    """Captions in one language and their English, with a few empty prompts: they are the unconditional side.

    Under the name "common" each step takes another language.
    """
    language = vocabulary.languages()[number % len(vocabulary.languages())] if language == COMMON else language
    rng = np.random.default_rng([7, number])
    scenes, said = xlmr.draw_texts(rng, language, BATCH - EMPTY)
    said = [
        caption(language, *scene) if rng.random() < CANONICAL_SHARE else told
        for scene, told in zip(scenes, said, strict=True)
    ]
    return [*said, *[""] * EMPTY], [*(caption("English", *scene) for scene in scenes), *[""] * EMPTY]


def canonical_captions() -> list[str]:
    """Every canonical English caption, with a background and without, and the empty one first."""
    colours = [None, *(background.key for background in vocabulary.backgrounds())]
    return ["", *(caption("English", key, colour) for key in vocabulary.picture_keys() for colour in colours)]


def targets(folder: Path) -> dict[str, Tensor]:
    """The text encoder's context, [24, 128], of every canonical English caption and of the empty one."""
    texts = canonical_captions()
    return dict(zip(texts, text.context(text.trained(folder), texts), strict=True))


def train(folder: Path, minutes: float, steps: int | None = None) -> None:
    """Trains (or goes on training) the common start, then every language from it; a state file for each."""
    encoder, contexts, norm = xlmr.trained(folder), targets(folder), tensor_norm(folder)
    each = minutes * (1 - COMMON_SHARE) / len(vocabulary.languages())
    for language in (COMMON, *vocabulary.languages()):
        torch.manual_seed(0)
        first = language == COMMON
        conditioner = GlueNetConditioner(build() if first else trained(folder, COMMON).train(), norm)
        path = folder / f"translator-{language}.pt"
        stage = TrainingStage.open(conditioner.translator, path, PEAK if first else TUNED_PEAK, decay=0.99)

        def of_step(number: int, language: str = language, conditioner: GlueNetConditioner = conditioner) -> Tensor:
            said, meant = draw_pairs(language, number)
            with torch.no_grad():
                states = xlmr.features(encoder, torch.from_numpy(multilingual.encode(said)).to(device()))
            return F.mse_loss(conditioner(states), torch.stack([contexts[words] for words in meant]))

        print(language, flush=True)
        report(stage.run(minutes * COMMON_SHARE if first else each, of_step, steps))
