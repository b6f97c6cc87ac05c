"""CLIP score of drawings: the cosine of a picture and its caption in the space of the small CLIP.

The protocol of TeTIm-Eval (arXiv 2212.07839): caption, picture, cosine, and the mean over each category. The encoder is
the emoji font's own: it has seen every picture but the held-out subjects, one at a time, and reads English.
"""

import json
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor
from transformers import CLIPConfig, CLIPModel
from x2i.models.clip.published_tokenizer import clip_tokenizer_json
from x2i.models.clip.tokenizer import END

from ..recipe.clip import TEXT_POSITIONS
from ..recipe.publish import CLIP_TARGET, TOWER, VISION
from ..recipe.training import WEIGHTS, device
from .subject_views import normalised

BATCH = 64


def clip_scores(pictures: Sequence[np.ndarray], captions: Sequence[str]) -> np.ndarray:
    """Cosine of each picture, uint8 [64, 64, 3], and the caption beside it: float32 [n]."""
    assert len(pictures) == len(captions), (len(pictures), len(captions))
    starts = range(0, len(pictures), BATCH)
    return np.concatenate([_scores(pictures[k : k + BATCH], captions[k : k + BATCH]) for k in starts])


@cache
def published() -> CLIPModel:
    """The committed CLIP, in eval mode: ELITE's vision tower, its own text tower, and the projections of both."""
    config = CLIPConfig.from_dict(json.loads((CLIP_TARGET / "config.json").read_text(encoding="utf-8")))
    tower = load_file(TOWER / "model.safetensors")
    tensors = {f"{VISION}{name.removeprefix(VISION)}": value for name, value in tower.items()}
    model = CLIPModel(config)
    model.load_state_dict(
        {name: t.float() for name, t in (tensors | load_file(CLIP_TARGET / "model.safetensors")).items()}
    )
    return model.to(device()).eval()


@torch.no_grad()
def _scores(pictures: Sequence[np.ndarray], captions: Sequence[str]) -> np.ndarray:
    seen = published()(input_ids=token_ids(captions), pixel_values=normalised(list(pictures)))
    return (seen.image_embeds * seen.text_embeds).sum(-1).cpu().numpy()


def token_ids(texts: Sequence[str]) -> Tensor:
    """int64 [n, 48]: start, words, end, then the end token as padding, as in training."""
    tokenizer = _tokenizer()
    end = tokenizer.token_to_id(END)
    rows = np.full((len(texts), TEXT_POSITIONS), end, np.int64)
    for row, encoding in zip(rows, tokenizer.encode_batch(list(texts)), strict=True):
        ids = encoding.ids[: TEXT_POSITIONS - 1]
        row[: len(ids)] = ids
    return torch.from_numpy(rows).to(device())


@cache
def _tokenizer() -> Tokenizer:
    return Tokenizer.from_str(clip_tokenizer_json(WEIGHTS / "sd" / "tokenizer"))
