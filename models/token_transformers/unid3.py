"""UniD3's transformer, which reads a picture's and a caption's tokens as one sequence (arXiv 2211.14842)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .layers import AdaptiveNorm, TokenAttention


@dataclass(frozen=True, slots=True)
class UniD3Settings:
    """Sizes of one model. A picture has `side` x `side` tokens of `image_classes`, a caption `text_length` tokens of
    `text_classes`; `timesteps` are those of the diffusion, `width`, `heads` and `depth` the transformer's."""

    width: int
    heads: int
    depth: int
    timesteps: int
    image_classes: int
    text_classes: int
    side: int
    text_length: int

    @property
    def image_length(self) -> int:
        """Tokens of a picture."""
        return self.side * self.side

    @property
    def classes(self) -> int:
        """Of both, without the mask, whose id this is."""
        return self.image_classes + self.text_classes


class JointEmbedding(nn.Module):
    """`forward(tokens int64 [B, L])` gives [B, L, D]: each class's vector, and its place's.

    A place of the picture has its row's and its column's vector, one of the caption its own. The last class is the
    mask, which both share.
    """

    def __init__(self, settings: UniD3Settings):
        super().__init__()
        width = settings.width
        self.embedding = nn.Embedding(settings.classes + 1, width)
        self.height_emb, self.width_emb = nn.Embedding(settings.side, width), nn.Embedding(settings.side, width)
        self.length_emb = nn.Embedding(settings.text_length, width)

    def places(self) -> Tensor:
        """[L, D], the vectors of all places."""
        picture = self.height_emb.weight[:, None] + self.width_emb.weight
        return torch.cat([picture.flatten(0, 1), self.length_emb.weight])

    def forward(self, tokens: Tensor) -> Tensor:
        return self.embedding(tokens) + self.places()


class JointBlock(nn.Module):
    """One layer: attention over the whole sequence, attention of each modality to the other, and an MLP.

    The picture reads the caption through `image_attn`, the caption the picture through `text_attn`. Keys and values are
    of the other's states as they stand. What comes of it is normalised for each token by itself, and so are the states
    that take its place where a modality is given: they are added to themselves.
    """

    def __init__(self, settings: UniD3Settings):
        super().__init__()
        width, timesteps = settings.width, settings.timesteps
        self.image_length = settings.image_length
        self.ln1, self.ln1_1, self.ln1_2 = (AdaptiveNorm(timesteps, width) for _ in range(3))
        self.attn1, self.image_attn, self.text_attn = (TokenAttention(width, width, settings.heads) for _ in range(3))
        self.ln2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, timestep: Tensor, draws_image: Tensor, draws_text: Tensor) -> Tensor:
        normed = self.ln1(x, timestep)
        x = x + self.attn1(normed, *self.attn1.project(normed))
        image, text = x[:, : self.image_length], x[:, self.image_length :]
        of_text = self.image_attn(self.ln1_1(image, timestep), *self.image_attn.project(text))
        of_image = self.text_attn(self.ln1_2(text, timestep), *self.text_attn.project(image))
        met = torch.cat([torch.where(draws_image, of_text, image), torch.where(draws_text, of_image, text)], dim=1)
        x = x + self.normalised(met)
        return x + self.mlp(self.ln2(x))

    def normalised(self, met: Tensor) -> Tensor:
        """Each token's vector by its own mean and variance; the authors' code calls it an instance norm."""
        return F.layer_norm(met, met.shape[-1:])


class UniD3Transformer(nn.Module):
    """`forward(tokens int64 [B, L], timestep int64 [B], draws_image bool [B], draws_text bool [B])` gives the logits of
    the picture's classes, [B, LI, KI], and of the caption's, [B, LT, KT].

    Tokens are joint ids: picture first, caption behind it; picture classes first, then the caption's, then the mask.
    The flags say which modalities a row draws; the other is given. The authors have three networks over these weights,
    for pictures from captions, captions from pictures and pairs. Here one graph serves all three: a network in which
    only one modality is drawn computes the other's attention and logits in vain, at the released sizes a seventh of
    the work when pictures are drawn from captions. Captions are drawn from pictures by the network of pairs.
    """

    def __init__(self, settings: UniD3Settings):
        super().__init__()
        self.settings = settings
        self.embedding = JointEmbedding(settings)
        self.blocks = nn.ModuleList(JointBlock(settings) for _ in range(settings.depth))
        self.norm = nn.LayerNorm(settings.width)
        self.to_logits_img = nn.Linear(settings.width, settings.image_classes)
        self.to_logits_txt = nn.Linear(settings.width, settings.text_classes)
        self.alpha = nn.Parameter(torch.ones(1))

    def forward(
        self, tokens: Tensor, timestep: Tensor, draws_image: Tensor, draws_text: Tensor
    ) -> tuple[Tensor, Tensor]:
        draws_image, draws_text = draws_image[:, None, None], draws_text[:, None, None]
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, timestep, draws_image, draws_text)
        x = self.norm(x)
        image, text = x[:, : self.settings.image_length], x[:, self.settings.image_length :]
        return self.to_logits_img(image) * self.alpha, self.to_logits_txt(text) * self.alpha
