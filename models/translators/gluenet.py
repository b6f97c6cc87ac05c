"""GlueNet's text translators: mixers that carry one encoder's features into the context space of another."""

import re
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import CheckpointError
from ..readers.loading import load_strictly
from ..readers.tensors import common_size, describe_checkpoint, read_tensor, read_tensors


def mixer_mlp(width: int, hidden: int, width_out: int, *, norm: bool) -> nn.Sequential:
    """[..., width] -> [..., width_out]: three linears with exact GELUs between them.

    With `norm`, a LayerNorm follows each linear. Positions in the Sequential are the checkpoints' key names: linears 0,
    3, 6 and norms 1, 4, 7, or linears 0, 2, 4.
    """
    layers: list[nn.Module] = []
    for index, (before, after) in enumerate(((width, hidden), (hidden, hidden), (hidden, width_out))):
        layers.append(nn.Linear(before, after))
        if norm:
            layers.append(nn.LayerNorm(after))
        if index < 2:
            layers.append(nn.GELU())
    return nn.Sequential(*layers)


class MixerBlock(nn.Module):
    """Mixes features (`net_sen`), then tokens (`net_tok`): [B, tokens, width] -> [B, tokens, width_out].

    Each half is residual where the widths are equal, and plain where they differ. The LayerNorms of `net_tok` run
    over the tokens of one feature.
    """

    def __init__(self, tokens: int, width: int, width_out: int, *, norm: bool, mult: int = 2):
        super().__init__()
        self.residual = width == width_out
        self.net_tok = mixer_mlp(tokens, tokens * mult, tokens, norm=norm)
        self.net_sen = mixer_mlp(width, width * mult, width_out, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        h = self.net_sen(x)
        if self.residual:
            h = h + x
        h = h.transpose(1, 2)
        y = self.net_tok(h)
        if self.residual:
            y = y + h
        return y.transpose(1, 2)


class Translator(nn.Module):
    """GlueGen's text translator (`Translator`, `Translator_clip`): [B, tokens, width] -> [B, tokens, width_out].

    `depth` square blocks, each with an outer residual on top of its own and a GELU, then a tail to the other width.
    Key names are the released checkpoints' own. Source: GlueGen (arXiv 2303.10056) and its reference code.
    """

    tail_norm = True

    def __init__(self, tokens: int, width: int, width_out: int, depth: int = 5):
        super().__init__()
        self.tokens, self.width, self.width_out, self.depth = tokens, width, width_out, depth
        self.blocks = nn.ModuleList(MixerBlock(tokens, width, width, norm=True) for _ in range(depth))
        self.tail = MixerBlock(tokens, width, width_out, norm=self.tail_norm)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = functional.gelu(block(x) + x)
        return self.tail(x)


class TranslatorNoLN(Translator):
    """The released multilingual translators' class (`Translator_noln`): only the tail is without LayerNorms."""

    tail_norm = False


class GlueNetConditioner(nn.Module):
    """From an encoder's features to the UNet's context: last_hidden_state [B, tokens, width] -> [B, tokens, width_out].

    The features are divided by 3 before the translator, and its output is scaled by half the average norm of CLIP's
    features at each position: `tensor_norm` [tokens, 1]. Source: GlueGen's `RobMlgEmbedder_multi`, which reads XLM-R.
    Without a `tensor_norm` the translator's output is the context: an assumption, as no such translator was released.
    """

    tensor_norm: Tensor | None

    def __init__(self, translator: Translator, tensor_norm: Tensor | None):
        super().__init__()
        self.translator = translator
        self.register_buffer("tensor_norm", tensor_norm)

    def forward(self, last_hidden_state: Tensor) -> Tensor:
        translated = self.translator(last_hidden_state / 3)
        return translated if self.tensor_norm is None else translated * (self.tensor_norm / 2)


def read_translator(path: str | Path) -> Translator:
    """A text translator from its checkpoint, in eval mode; its class and sizes come from the tensors themselves.

    Raises CheckpointError where the file is no text translator, or with every key that does not fit.
    """
    tensors = read_tensors(path)
    plain_tail = any(re.match(r"tail\.net_(tok|sen)\.2\.", key) for key in tensors)
    last = 4 if plain_tail else 6
    tokens = common_size(tensors, r"(blocks\.\d+|tail)\.net_tok\.0\.weight", 1)
    width = common_size(tensors, r"(blocks\.\d+|tail)\.net_sen\.0\.weight", 1)
    width_out = common_size(tensors, rf"tail\.net_sen\.{last}\.(weight|bias)", 0)
    depth = len({key.split(".")[1] for key in tensors if re.match(r"blocks\.\d+\.", key)})
    if not (tokens and width and width_out and depth):
        got = describe_checkpoint(tensors, besides="blocks.")
        raise CheckpointError(
            f"{path}: expected GlueNet's text translator (keys blocks.0..., tail...), got {got}; "
            "fix: give a gluenet_<Language>_..._noln.ckpt"
        )
    translator = (TranslatorNoLN if plain_tail else Translator)(tokens, width, width_out, depth)
    load_strictly(translator, tensors, source=str(path))
    return translator.eval().requires_grad_(False)


def read_tensor_norm(path: str | Path, tokens: int) -> Tensor:
    """The norms that scale the translated features: float32 [tokens, 1], from a file that holds that one tensor."""
    norm = read_tensor(path)
    if tuple(norm.shape) not in ((tokens, 1), (tokens,)):
        raise CheckpointError(
            f"{path}: expected a tensor norm of shape [{tokens}, 1], got {list(norm.shape)}; "
            "fix: give the norms that belong to the translator's number of tokens"
        )
    norm = norm.detach().to(torch.float32).reshape(tokens, 1).contiguous()
    if not bool(torch.isfinite(norm).all() and (norm > 0).all()):
        raise CheckpointError(f"{path}: expected positive finite norms, got other values; fix: give the original file")
    return norm
