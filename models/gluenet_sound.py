"""GlueNet's sound translator: from the tokens of a sound's feature to the UNet's context."""

from torch import Tensor, nn
from torch.nn import functional

from .gluenet import MixerBlock, mlp


class HeadBlock(nn.Module):
    """A mixer block of the head, without LayerNorms or residuals; the features' half ends in a GELU.

    [B, tokens, width] -> the same shape, features before tokens.
    """

    def __init__(self, tokens: int, width: int, mult: int):
        super().__init__()
        self.net_tok = mlp(tokens, tokens * mult, tokens, norm=False)
        self.net_sen = nn.Sequential(*mlp(width, width * mult, width, norm=False), nn.GELU())

    def forward(self, x: Tensor) -> Tensor:
        return self.net_tok(self.net_sen(x).transpose(1, 2)).transpose(1, 2)


class Bridge(nn.Module):
    """[B, tokens, width] -> [B, tokens_out, width_out]: features, then tokens, with LayerNorms, never residual."""

    def __init__(self, tokens: int, tokens_out: int, width: int, width_out: int, mult: int):
        super().__init__()
        self.net_tok = mlp(tokens, tokens * mult, tokens_out, norm=True)
        self.net_sen = mlp(width, width * mult, width_out, norm=True)

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
