"""Stage `t5`: a small T5 encoder, taught in English as stage `xlmr` teaches XLM-R in eight languages: by masked words,
and by pulling together what two captions of one scene say."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import T5Config, T5EncoderModel

from ..recipe.training import TrainingStage, averaged, device, low_precision, report
from ..recipe.xlmr import draw_texts
from ..world.captions import variant
from . import words

BATCH = 48
PEAK = 2e-3
WIDTH, HEADS, HEAD_WIDTH = 96, 4, 20
MASKED_SHARE = 0.15
TEMPERATURE = 0.1


def build() -> T5EncoderModel:
    """Three layers of width 96, whose heads are together 80 wide, with gated units as T5 1.1 has them."""
    return T5EncoderModel(
        T5Config(
            vocab_size=words.tokenizer().get_vocab_size(),
            d_model=WIDTH,
            d_kv=HEAD_WIDTH,
            d_ff=256,
            num_layers=3,
            num_heads=HEADS,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
            pad_token_id=words.PAD,
            eos_token_id=words.END,
            tie_word_embeddings=False,
        )
    )


def trained(folder: Path) -> T5EncoderModel:
    """The encoder as stage `t5` left it, in eval mode."""
    return averaged(build(), folder / "t5.pt")


def features(model: T5EncoderModel, ids: Tensor) -> Tensor:
    """The last hidden state, [n, T, 96], with the padding masked."""
    return model(input_ids=ids, attention_mask=(ids != words.PAD).long()).last_hidden_state


def loss(model: T5EncoderModel, number: int) -> Tensor:
    """Masked words over tied embeddings, scaled as T5 scales them, plus the agreement of the mean states of two
    captions."""
    rng = np.random.default_rng([21, number])
    scenes, texts = draw_texts(rng, "English", BATCH)
    others = [variant("English", key, ground, rng) for key, ground in scenes]
    ids = torch.from_numpy(words.encode_spelled(texts + others, rng)).to(device())
    ids = ids[:, : int((ids != words.PAD).sum(1).max())]
    hidden = torch.from_numpy(rng.random(tuple(ids.shape)) < MASKED_SHARE).to(device()) & (ids >= len(words.SPECIAL))
    with low_precision():
        states = features(model, ids.masked_fill(hidden, words.mask_id()))
    states = states.float()
    masked = F.cross_entropy(
        states[hidden] @ model.get_input_embeddings().weight.T * model.config.d_model**-0.5, ids[hidden]
    )
    said = F.normalize((states * (ids != words.PAD)[..., None]).sum(1), dim=-1)
    alike = said[:BATCH] @ said[BATCH:].T / TEMPERATURE
    same = torch.tensor([[one == other for other in scenes] for one in scenes], device=device())
    agreement = alike.logsumexp(1) - alike.masked_fill(~same, float("-inf")).logsumexp(1)
    return masked + agreement.mean()


def train(folder: Path, minutes: float, steps: int | None = None) -> None:
    """Trains (or goes on training) the encoder; the state is `folder/t5.pt`."""
    torch.manual_seed(0)
    stage = TrainingStage.open(build(), folder / "t5.pt", PEAK)
    report(stage.run(minutes, lambda number: loss(stage.module, number), steps))
