"""Pictures as a part of the language model's sequence: a vision tower's patches, a linear layer and a LayerNorm.

MAGMA reads the grid of CLIP's RN50x16 without its pooling. Here the patches of a CLIP ViT stand for it, which is an
assumption: M-VADER's tower was never published.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn

from ..readers.loading import Load, build_module
from ..readers.tensors import read_tensors

if TYPE_CHECKING:
    from transformers import CLIPVisionModel

PREFIXES = ("module.image_prefix.", "image_prefix.", "")
"""How the keys of the layers behind the tower begin: within a released MAGMA, and alone."""


class ImageProjection(nn.Module):
    """`forward(patches [B, P, W])` returns them in the language model's width, normalised [B, P, D]."""

    def __init__(self, width: int, width_out: int):
        super().__init__()
        self.proj, self.ln = nn.Linear(width, width_out), nn.LayerNorm(width_out)

    def forward(self, patches: Tensor) -> Tensor:
        normed: Tensor = self.ln(self.proj(patches))
        return normed


class ImagePrefix(nn.Module):
    """`forward(pixels [B, 3, S, S])` returns what stands for the pictures in a sequence [B, P, D], row by row.

    The class token is left out, and the tower's last LayerNorm with it. The pixels are normalised as CLIP's are.
    """

    def __init__(self, vision: "CLIPVisionModel", projection: ImageProjection):
        super().__init__()
        self.vision, self.projection = vision, projection

    @property
    def size(self) -> int:
        """S."""
        return int(self.vision.config.image_size)

    @property
    def length(self) -> int:
        """P, the positions that a picture takes."""
        return (self.size // int(self.vision.config.patch_size)) ** 2

    def forward(self, pixels: Tensor) -> Tensor:
        out: Tensor = self.projection(self.vision(pixel_values=pixels).last_hidden_state[:, 1:])
        return out


def image_projection_load(file: Path, width: int, width_out: int) -> Load:
    """The layers behind a tower of a width, with unwritten weights, and what fills them from a file of `proj` and `ln`,
    by MAGMA's names or alone. Raises CheckpointError."""
    tensors = read_tensors(file, ("module",))
    projection = build_module(lambda: ImageProjection(width, width_out), str(file))
    prefix = next(each for each in PREFIXES if not each or any(key.startswith(each) for key in tensors))
    names = {key: prefix + key for key in projection.state_dict()}
    return Load(projection, tensors, str(file), ("*lm.*",), names)
