"""Stage `t5_translator`: a GlueNet translator from the frozen T5's features to the published text encoder's context.

The recipe is stage `translators`', with English captions in other words in the place of other languages; the denoiser
is never seen, and stays as it is.
"""

from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from x2i.models.stable_diffusion.base import read_stable_diffusion
from x2i.models.translators.gluenet import GlueNetConditioner, TranslatorNoLN, read_tensor_norm

from ..recipe import text
from ..recipe.training import WEIGHTS, TrainingStage, averaged, device, low_precision, report
from ..recipe.translators import PEAK, canonical_captions, draw_pairs
from . import encoder_stage, words


def build() -> TranslatorNoLN:
    """The untrained translator."""
    return TranslatorNoLN(words.POSITIONS, encoder_stage.WIDTH, text.WIDTH)


def trained(folder: Path) -> TranslatorNoLN:
    """The translator as stage `t5_translator` left it, in eval mode."""
    return averaged(build(), folder / "t5_translator.pt")


@cache
def contexts() -> dict[str, Tensor]:
    """The published text encoder's context, [24, 128], of every canonical English caption and of the empty one."""
    encoder, said = read_stable_diffusion(str(WEIGHTS / "sd")).text_encoder, canonical_captions()
    assert encoder is not None
    return dict(zip(said, text.context(encoder.to(device()), said), strict=True))


def train(folder: Path, minutes: float, steps: int | None = None) -> None:
    """Trains (or goes on training) the translator; the state is `folder/t5_translator.pt`."""
    torch.manual_seed(0)
    encoder = encoder_stage.trained(folder)
    norm = read_tensor_norm(WEIGHTS / "tensor_norm.pt", words.POSITIONS).to(device())
    conditioner = GlueNetConditioner(build(), norm)
    stage = TrainingStage.open(conditioner.translator, folder / "t5_translator.pt", PEAK, decay=0.99)

    def of_step(number: int) -> Tensor:
        said, meant = draw_pairs("English", number)
        ids = torch.from_numpy(words.encode_spelled(said, np.random.default_rng([22, number]))).to(device())
        with torch.no_grad(), low_precision():
            states = encoder_stage.features(encoder, ids)
        with low_precision():
            context = conditioner(states.float())
        return F.mse_loss(context.float(), torch.stack([contexts()[caption] for caption in meant]))

    report(stage.run(minutes, of_step, steps))
