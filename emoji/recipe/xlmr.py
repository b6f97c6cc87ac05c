"""Stage `xlmr`: a small XLM-R, taught by masked words and by pulling together what captions of one scene say."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import XLMRobertaConfig, XLMRobertaModel

from ..world import multilingual, vocabulary
from ..world.captions import variant
from .training import TrainingStage, averaged, device, report

BATCH = 48
PEAK = 3e-3
WIDTH = 96
MASKED_SHARE = 0.15
PLAIN_SHARE = 0.2
TEMPERATURE = 0.1


def build() -> XLMRobertaModel:
    """Two layers of width 96 over 24 tokens."""
    return XLMRobertaModel(
        XLMRobertaConfig(
            vocab_size=multilingual.tokenizer().get_vocab_size(),
            hidden_size=WIDTH,
            intermediate_size=4 * WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=multilingual.POSITIONS + 2,
            type_vocab_size=1,
            layer_norm_eps=1e-5,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        ),
        add_pooling_layer=False,
    )


def trained(folder: Path) -> XLMRobertaModel:
    """The encoder as stage `xlmr` left it, in eval mode."""
    return averaged(build(), folder / "xlmr.pt")


def features(model: XLMRobertaModel, ids: Tensor) -> Tensor:
    """The last hidden state, [n, 24, 96], with the padding masked as GlueGen does."""
    return model(input_ids=ids, attention_mask=(ids != multilingual.PAD).long()).last_hidden_state


def draw_texts(rng: np.random.Generator, language: str, count: int) -> tuple[list[tuple[str, str | None]], list[str]]:
    """Random scenes and a caption of each in one language; one scene in five names no background."""
    grounds = [background.key for background in vocabulary.backgrounds()]
    names = rng.choice(vocabulary.picture_keys(), count)
    scenes = [(str(name), None if rng.random() < PLAIN_SHARE else str(rng.choice(grounds))) for name in names]
    return scenes, [variant(language, key, ground, rng) for key, ground in scenes]


def loss(model: XLMRobertaModel, number: int) -> Tensor:
    """Masked words over tied embeddings, plus the agreement of the mean states of two languages' captions.

    The mean, because the first states alone begin alike for every caption and never come apart.
    """
    rng = np.random.default_rng([6, number])
    first, second = rng.choice(vocabulary.languages(), 2, replace=False)
    scenes, texts = draw_texts(rng, first, BATCH)
    others = [variant(second, key, ground, rng) for key, ground in scenes]
    ids = torch.from_numpy(multilingual.encode(texts + others)).to(device())
    ids = ids[:, : int((ids != multilingual.PAD).sum(1).max())]
    hidden = torch.from_numpy(rng.random(tuple(ids.shape)) < MASKED_SHARE).to(device()) & (ids > 3)
    states = features(model, ids.masked_fill(hidden, multilingual.mask_id()))
    words = F.cross_entropy(states[hidden] @ model.get_input_embeddings().weight.T, ids[hidden])
    said = F.normalize((states * (ids != multilingual.PAD)[..., None]).sum(1), dim=-1)
    alike = said[:BATCH] @ said[BATCH:].T / TEMPERATURE
    same = torch.tensor([[one == other for other in scenes] for one in scenes], device=device())
    agreement = alike.logsumexp(1) - alike.masked_fill(~same, float("-inf")).logsumexp(1)
    return words + agreement.mean()


def train(folder: Path, minutes: float, steps: int | None = None) -> None:
    """Trains (or goes on training) the encoder; the state is `folder/xlmr.pt`."""
    torch.manual_seed(0)
    stage = TrainingStage.open(build(), folder / "xlmr.pt", PEAK)
    report(stage.run(minutes, lambda number: loss(stage.module, number), steps))
