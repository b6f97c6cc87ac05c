"""An ensemble of experts: UNets for a range of noise each, the encoders of their context, and its projections.

eDiff-I was never released: that the states of CLIP's text encoder, of T5 and of a picture stand one behind the other,
each through a projection of its own, and that a vector of CLIP's two embeddings is added to the time's, are
assumptions.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from ..clip.published_tokenizer import PublishedTokenizer
from ..text_encoders.prompt_encoder import PromptEncoder

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPVisionModelWithProjection


@dataclass(frozen=True, slots=True)
class SecondText:
    """T5's encoder, and how many tokens of a prompt it reads."""

    encoder: PromptEncoder
    window: int


@dataclass(frozen=True, slots=True)
class Ensemble:
    """The parts of an ensemble, in eval mode and float32.

    `experts` are in the order of falling noise. `projections` bring each condition's states to the width of the
    context; without any, CLIP's are read as they are. `vae` is None for experts that draw pixels. `notes` say in one
    line each what was left out.
    """

    experts: "Mapping[str, UNet2DConditionModel]"
    text: "CLIPTextModel"
    tokenizer: PublishedTokenizer
    scheduler: Mapping[str, Any]
    projections: Mapping[str, nn.Linear]
    t5: SecondText | None = None
    vision: "CLIPVisionModelWithProjection | None" = None
    vae: "AutoencoderKL | AutoencoderTiny | None" = None
    notes: tuple[str, ...] = ()

    @property
    def config(self) -> Any:
        """The first expert's, which stands for all where experts have the same."""
        return next(iter(self.experts.values())).config

    @property
    def window(self) -> int:
        """How many tokens of a prompt CLIP reads."""
        return self.tokenizer.window or self.text.config.max_position_embeddings

    @property
    def vector(self) -> int | None:
        """Numbers of the vector that is added to the time's embedding, None where there is none."""
        config = self.config
        return config.projection_class_embeddings_input_dim if config.class_embed_type == "projection" else None

    @property
    def widths(self) -> dict[str, int]:
        """The width of the states of each condition that has an encoder, in the order of their tokens."""
        found = {"clip-text": self.text.config.hidden_size}
        if self.t5 is not None:
            found["t5"] = self.t5.encoder.width
        if self.vision is not None:
            found["clip-image"] = self.vision.config.projection_dim
        return found
