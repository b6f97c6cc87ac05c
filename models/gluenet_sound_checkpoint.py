"""Reads what GlueGen's sound path adds to AudioCLIP: the translator, and the unconditional context."""

import re
from pathlib import Path

import torch
from torch import Tensor

from .allocation import built
from .errors import CheckpointError
from .gluenet import looks_like
from .gluenet_sound import TranslatorWithHead
from .loading import load_strictly
from .tensor_sizes import common_size
from .tensors import read_tensor, read_tensors

SQUARE_BEFORE = 3
"""Blocks before the bridge, which the depth counts too."""


def read_sound_translator(path: str | Path) -> TranslatorWithHead:
    """The sound translator from its checkpoint, a bare state dict, in eval mode; all sizes come from the tensors.

    Raises CheckpointError where the file is no sound translator, or with every key that does not fit.
    """
    tensors = read_tensors(path)

    def size(pattern: str, axis: int) -> int:
        return common_size(tensors, pattern, axis)

    tokens, width = (size(rf"(in_blocks\.\d+|trans)\.net_{net}\.0\.weight", 1) for net in ("tok", "sen"))
    tokens_out, width_out = (size(rf"(out_blocks\.\d+|tail_[12])\.net_{net}\.0\.weight", 1) for net in ("tok", "sen"))
    hidden = size(r"(in_blocks\.\d+|trans)\.net_sen\.0\.(weight|bias)", 0)
    if not (tokens and width and tokens_out and width_out and hidden >= width):
        raise CheckpointError(
            f"{path}: expected GlueNet's sound translator (keys in_blocks.0..., trans...), got "
            f"{looks_like(tensors, besides='in_blocks.')}; fix: give a gluenet_sound2img_audioclip_....ckpt"
        )
    after = len({key.split(".")[1] for key in tensors if re.match(r"out_blocks\.\d+\.", key)})
    sizes = (tokens, tokens_out, width, width_out, hidden // width, SQUARE_BEFORE + after)
    translator = built(lambda: TranslatorWithHead(*sizes), str(path))
    load_strictly(translator, tensors, source=str(path))
    return translator


def read_unconditional(path: str | Path, tokens: int, width: int) -> Tensor:
    """The context of no sound at all, float32 [1, tokens, width]: `null_cond_tensor.pt`, or the same as safetensors."""
    context = read_tensor(path)
    if tuple(context.shape) not in ((1, tokens, width), (tokens, width)):
        raise CheckpointError(
            f"{path}: expected an unconditional context of shape [1, {tokens}, {width}], got {list(context.shape)}; "
            "fix: give the null_cond_tensor.pt that belongs to the translator"
        )
    context = context.detach().to(torch.float32).reshape(1, tokens, width).contiguous()
    if not bool(torch.isfinite(context).all()):
        raise CheckpointError(f"{path}: expected finite numbers, got others; fix: give the original file")
    return context
