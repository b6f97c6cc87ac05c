"""Stage `sound_translator`: GlueNet's sound translator, by GlueGen's own recipe.

It learns to turn the frozen audio branch's feature of a spoken word into the frozen text encoder's context of the
picture's caption, which names no background; the denoiser is never seen. As in GlueGen, the context leaves divided by
half the norms of CLIP's positions (arXiv 2303.10056).
"""

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from x2i.models.translators.gluenet_sound import SoundConditioner, TranslatorWithHead

from ..world import english, vocabulary
from ..world.captions import caption
from ..world.speech import utterances
from . import audio, text
from .training import TrainingStage, averaged, device, report
from .translators import tensor_norm

BATCH = 64
PEAK = 2e-3
TOKENS, MULT = 16, 2


def build() -> TranslatorWithHead:
    """The untrained translator, from the audio feature's tokens to the text encoder's width."""
    width = audio.SETTINGS.features // TOKENS
    return TranslatorWithHead(TOKENS, english.POSITIONS, width, text.WIDTH, MULT)


def trained(folder: Path) -> TranslatorWithHead:
    """The translator as stage `sound_translator` left it, in eval mode."""
    return averaged(build(), folder / "sound_translator.pt")


def targets(folder: Path) -> Tensor:
    """The text encoder's context of every picture's canonical English caption, [64, 24, 128]."""
    texts = [caption("English", key) for key in vocabulary.picture_keys()]
    return text.context(text.trained(folder), texts).to(device())


def train(folder: Path, minutes: float, steps: int | None = None) -> None:
    """Trains (or goes on training) the translator; the state is `folder/sound_translator.pt`."""
    torch.manual_seed(0)
    encoder, spoken, contexts = audio.trained(folder), utterances(folder), targets(folder)
    conditioner = SoundConditioner(build(), tensor_norm(folder)).to(device())
    stage = TrainingStage.open(conditioner.translator, folder / "sound_translator.pt", PEAK, decay=0.99)

    def of_step(number: int) -> Tensor:
        decibels, pictures = audio.draw_batch(encoder, spoken, number, BATCH)
        with torch.no_grad():
            heard = audio.features(encoder, decibels)
        return F.mse_loss(conditioner(heard), contexts[pictures])

    report(stage.run(minutes, of_step, steps))
