"""GlueNet's sound translator, from the tokens of a sound's feature to the UNet's context, and its checkpoint."""

import re
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import CheckpointError
from ..readers.loading import build_module, load_strictly
from ..readers.tensors import common_size, describe_checkpoint, read_tensor, read_tensors
from .gluenet import MixerBlock, mixer_mlp


class HeadBlock(nn.Module):
    """A mixer block of the head, without LayerNorms or residuals; the features' half ends in a GELU.

    [B, tokens, width] -> the same shape, features before tokens.
    """

    def __init__(self, tokens: int, width: int, mult: int):
        super().__init__()
        self.net_tok = mixer_mlp(tokens, tokens * mult, tokens, norm=False)
        self.net_sen = nn.Sequential(*mixer_mlp(width, width * mult, width, norm=False), nn.GELU())

    def forward(self, x: Tensor) -> Tensor:
        return self.net_tok(self.net_sen(x).transpose(1, 2)).transpose(1, 2)


class Bridge(nn.Module):
    """[B, tokens, width] -> [B, tokens_out, width_out]: features, then tokens, with LayerNorms, never residual."""

    def __init__(self, tokens: int, tokens_out: int, width: int, width_out: int, mult: int):
        super().__init__()
        self.net_tok = mixer_mlp(tokens, tokens * mult, tokens_out, norm=True)
        self.net_sen = mixer_mlp(width, width * mult, width_out, norm=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.net_tok(self.net_sen(x).transpose(1, 2)).transpose(1, 2)


class TranslatorWithHead(nn.Module):
    """GlueGen's sound translator (`Translator_w_head` of its inference): [B, tokens, width] -> [B, tokens_out,
    width_out].

    Three square blocks, the bridge to the other sizes, `depth` - 3 square blocks there, and a head of two. The
    training code has a class of this name with the same keys that mixes tokens first; no checkpoint was trained with
    it. Source: GlueGen (arXiv 2303.10056) and its reference code.
    """

    def __init__(self, tokens: int, tokens_out: int, width: int, width_out: int, mult: int = 4, depth: int = 5):
        super().__init__()
        self.tokens, self.tokens_out, self.width, self.width_out = tokens, tokens_out, width, width_out
        self.mult, self.depth = mult, depth
        self.in_blocks = nn.ModuleList(MixerBlock(tokens, width, width, norm=True, mult=mult) for _ in range(3))
        self.trans = Bridge(tokens, tokens_out, width, width_out, mult)
        self.out_blocks = nn.ModuleList(
            MixerBlock(tokens_out, width_out, width_out, norm=True, mult=mult) for _ in range(depth - 3)
        )
        self.tail_1 = HeadBlock(tokens_out, width_out, mult)
        self.tail_2 = HeadBlock(tokens_out, width_out, mult)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.in_blocks:
            x = functional.gelu(block(x) + x)
        x = self.trans(x)
        for block in self.out_blocks:
            x = functional.gelu(block(x) + x)
        return self.tail_2(self.tail_1(x) + x)


class SoundConditioner(nn.Module):
    """From AudioCLIP's feature to the UNet's context: [B, tokens x width] -> [B, tokens_out, width_out].

    The feature is cut row by row into the translator's tokens, and its output is scaled by half the average norm of
    CLIP's features at each position: `tensor_norm` [tokens_out, 1]. Source: GlueGen's `FrozenAudioCLIPEmbedder`.
    """

    tensor_norm: Tensor

    def __init__(self, translator: TranslatorWithHead, tensor_norm: Tensor):
        super().__init__()
        self.translator = translator
        self.register_buffer("tensor_norm", tensor_norm)

    def forward(self, features: Tensor) -> Tensor:
        tokens = features.reshape(-1, self.translator.tokens, self.translator.width)
        return self.translator(tokens) * (self.tensor_norm / 2)


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
            f"{describe_checkpoint(tensors, besides='in_blocks.')}; fix: give a gluenet_sound2img_audioclip_....ckpt"
        )
    after = len({key.split(".")[1] for key in tensors if re.match(r"out_blocks\.\d+\.", key)})
    sizes = (tokens, tokens_out, width, width_out, hidden // width, SQUARE_BEFORE + after)
    translator = build_module(lambda: TranslatorWithHead(*sizes), str(path))
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
