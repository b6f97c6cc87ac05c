"""Stage `text`: a small CLIP text encoder, taught to tell the scenes apart by their captions, then frozen."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel
from x2i.models.clip import tokenizer

from ..world import english, vocabulary
from ..world.captions import caption, variant
from .training import TrainingStage, averaged, device, report

BATCH = 128
PEAK = 2e-3
WIDTH = 128
CANONICAL_SHARE = 0.3
PLAIN_SHARE = 0.2


def build() -> CLIPTextModel:
    """Two layers of width 128 over 24 positions."""
    words = english.tokenizer()
    end = words.token_to_id(tokenizer.END)
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=words.get_vocab_size(),
            hidden_size=WIDTH,
            intermediate_size=4 * WIDTH,
            projection_dim=WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=english.POSITIONS,
            bos_token_id=words.token_to_id(tokenizer.START),
            eos_token_id=end,
            pad_token_id=end,
        )
    )


def trained(folder: Path) -> CLIPTextModel:
    """The text encoder as stage `text` left it, in eval mode."""
    return averaged(_with_heads(), folder / "text.pt")["text"]


@torch.no_grad()
def context(model: CLIPTextModel, texts: list[str]) -> Tensor:
    """What the denoiser reads: the last hidden state, [n, 24, 128]."""
    return model(input_ids=torch.from_numpy(english.encode(texts)).to(device())).last_hidden_state


def draw_caption(rng: np.random.Generator) -> tuple[int, int, str]:
    """A random scene and one of its captions; white may go unnamed. The background index of "unnamed" is white's."""
    colours = [background.key for background in vocabulary.backgrounds()]
    picture, ground = int(rng.integers(len(vocabulary.picture_keys()))), int(rng.integers(len(colours)))
    if rng.random() < PLAIN_SHARE:
        ground = colours.index("white")
    key, colour = vocabulary.picture_keys()[picture], colours[ground]
    named = None if colour == "white" and rng.random() < 2 / 3 else colour
    if rng.random() < CANONICAL_SHARE:
        return picture, ground, caption("English", key, named)
    return picture, ground, variant("English", key, named, rng)


def _with_heads() -> nn.ModuleDict:
    return nn.ModuleDict(
        {
            "text": build(),
            "picture": nn.Linear(WIDTH, len(vocabulary.picture_keys())),
            "ground": nn.Linear(WIDTH, len(vocabulary.backgrounds())),
        }
    )


def train(folder: Path, minutes: float, steps: int | None = None) -> None:
    """Trains (or goes on training) the encoder; the state is `folder/text.pt`."""
    torch.manual_seed(0)
    module = _with_heads()
    stage = TrainingStage.open(module, folder / "text.pt", PEAK)

    def of_step(number: int) -> Tensor:
        rng = np.random.default_rng([5, number])
        pictures, grounds, texts = zip(*(draw_caption(rng) for _ in range(BATCH)), strict=True)
        ids = torch.from_numpy(english.encode(list(texts))).to(device())
        last = module["text"](input_ids=ids).last_hidden_state[:, -1]
        named = F.cross_entropy(module["picture"](last), torch.tensor(pictures, device=device()))
        return named + F.cross_entropy(module["ground"](last), torch.tensor(grounds, device=device()))

    report(stage.run(minutes, of_step, steps))
