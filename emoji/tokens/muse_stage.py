"""Stage `muse`: a small aMUSEd, which draws the scenes' tokens all at once, the unsure ones again."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import UVit2DModel
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextModel

from ..recipe import text
from ..recipe.training import WEIGHTS, TrainingStage, averaged, device, report
from ..world import english, vocabulary
from . import tokenizer_stage as tokenizer

BATCH = 16
PEAK = 1.5e-3
EMPTY_SHARE = 0.1
MASK = tokenizer.CODES
MICRO = (vocabulary.CANVAS, vocabulary.CANVAS, 0, 0, 6)
"""Width, height, crop and aesthetic score, as aMUSEd has them of every picture; here they never change."""
MICRO_WIDTH = 16


def build() -> nn.ModuleDict:
    """The transformer, about 1.4 M parameters, and the pooled prompt's projection. The prompt is read by the frozen
    text encoder of the base."""
    transformer = UVit2DModel(
        hidden_size=96,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=192,
        in_channels=64,
        block_out_channels=64,
        num_res_blocks=3,
        block_num_heads=4,
        use_bias=False,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        vocab_size=MASK + 1,
        codebook_size=tokenizer.CODES,
        cond_embed_dim=text.WIDTH,
        encoder_hidden_size=text.WIDTH,
        micro_cond_encode_dim=MICRO_WIDTH,
        micro_cond_embed_dim=MICRO_WIDTH * len(MICRO),
        sample_size=tokenizer.GRID,
    )
    vectors = tokenizer.alike(transformer.config.in_channels)
    transformer.embed.embeddings.weight.data[:MASK] = vectors
    transformer.mlm_layer.conv2.weight.data = vectors[..., None, None].clone()
    return nn.ModuleDict({"transformer": transformer, "projection": nn.Linear(text.WIDTH, text.WIDTH, bias=False)})


def trained(folder: Path) -> nn.ModuleDict:
    """Both as stage `muse` left them, averaged weights, in eval mode."""
    return averaged(build(), folder / "muse.pt")


def published_encoder() -> CLIPTextModel:
    """The base's text encoder as it is published, frozen."""
    encoder = CLIPTextModel.from_pretrained(WEIGHTS / "sd" / "text_encoder", dtype=torch.float32)
    return encoder.to(device()).eval().requires_grad_(False)


@torch.no_grad()
def read(encoder: CLIPTextModel, texts: list[str]) -> tuple[Tensor, Tensor]:
    """What aMUSEd takes of prompts: the last state but one, [n, 24, 128], and the last at the first end token."""
    ids = torch.from_numpy(english.encode(texts)).to(device())
    found = encoder(input_ids=ids, output_hidden_states=True)
    return found.hidden_states[-2], found.pooler_output


def logits(made: nn.ModuleDict, tokens: Tensor, states: Tensor, pooled: Tensor) -> Tensor:
    """[n, 64, codes] of tokens int64 [n, 64] and the prompts' states and pooled vectors, as `read` gives them."""
    grid = tokens.unflatten(1, (tokenizer.GRID, tokenizer.GRID))
    micro = torch.tensor([MICRO], dtype=torch.float32, device=tokens.device).expand(len(tokens), -1)
    drawn = made["transformer"](
        grid, encoder_hidden_states=states, pooled_text_emb=made["projection"](pooled), micro_conds=micro
    )
    return drawn.flatten(2).mT


def masked(tokens: Tensor, random: torch.Generator) -> Tensor:
    """Tokens [n, 64] of which each row keeps a share of its own, as many rows with many masks as the cosine has."""
    ratio = torch.cos(torch.rand(len(tokens), 1, generator=random) * math.pi / 2)
    hidden = torch.rand(tokens.shape, generator=random) < ratio
    hidden[:, 0] |= ~hidden.any(1)
    return torch.where(hidden.to(tokens.device), MASK, tokens)


def loss(made: nn.ModuleDict, tokens: Tensor, seen: Tensor, states: Tensor, pooled: Tensor) -> Tensor:
    """Cross-entropy of the masked tokens, where `seen` holds what is shown of `tokens`, both int64 [n, 64]."""
    hidden = seen == MASK
    return F.cross_entropy(logits(made, seen, states, pooled)[hidden], tokens[hidden])


def train(folder: Path, minutes: float, steps: int | None = None) -> None:
    """Trains (or goes on training) the transformer; the state is `folder/muse.pt`."""
    torch.manual_seed(0)
    stage = TrainingStage.open(build(), folder / "muse.pt", PEAK)
    scenes = tokenizer.scene_tokens()
    encoder = published_encoder()
    model: Any = stage.module

    def of_step(number: int) -> Tensor:
        pictures, grounds, texts = draw_prompts(number)
        tokens = scenes[pictures, grounds]
        seen = masked(tokens, torch.Generator().manual_seed(number))
        return loss(model, tokens, seen, *read(encoder, texts))

    report(stage.run(minutes, of_step, steps))


def draw_prompts(number: int) -> tuple[list[int], list[int], list[str]]:
    """Picture and background indices of one batch, and a caption for each scene, sometimes an empty one."""
    rng = np.random.default_rng([22, number])
    pictures, grounds, texts = zip(*(text.draw_caption(rng) for _ in range(BATCH)), strict=True)
    return list(pictures), list(grounds), ["" if rng.random() < EMPTY_SHARE else written for written in texts]
