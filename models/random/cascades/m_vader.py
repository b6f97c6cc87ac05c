"""M-VADER's encoder with random weights, at a size for measuring and tiny for tests."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from ...m_vader.encoder import SequenceEncoder
from ...m_vader.image_prefix import ImagePrefix, ImageProjection
from ...m_vader.language_model import LanguageModel, LanguageModelSettings
from ...readers.loading import build_module
from ..byte_tokenizer import byte_clip_json
from ..sizes import SIZES, chosen_sizes
from ..weights import draw_weights


@dataclass(frozen=True, slots=True)
class _Sizes:
    """Of a language model, but for its width, and of a vision tower."""

    language_model: dict[str, Any]
    vision: dict[str, Any]


ENCODERS = {
    "sd15": _Sizes(
        {"vocabulary": 50400, "positions": 2048, "layers": 28, "heads": 12, "rotary": 64},
        {**SIZES["sd15"].elite_vision, "image_size": 224},
    ),
    "tiny": _Sizes(
        {"vocabulary": 520, "positions": 60, "layers": 2, "heads": 3, "rotary": 10},
        {**SIZES["tiny"].elite_vision, "num_hidden_layers": 2, "image_size": 28, "patch_size": 7},
    ),
}
"""Variants by name: `sd15` has GPT-J's depth at the width of Stable Diffusion v1's context."""


def random_sequence_encoder(variant: str, width: int, seed: int = 0) -> SequenceEncoder:
    """The encoder in eval mode for a denoiser whose context has a width, which has a byte tokenizer.

    Raises CheckpointError for an unknown variant.
    """
    from transformers import CLIPVisionConfig, CLIPVisionModel

    sizes = chosen_sizes(ENCODERS, variant)
    given = sizes.language_model
    settings = LanguageModelSettings(
        **given, width=width, inner=4 * width, adapter=width // 4, epsilon=1e-5, end=given["vocabulary"] - 1
    )
    model = build_module(partial(LanguageModel, settings), variant)
    vision = build_module(lambda: CLIPVisionModel(CLIPVisionConfig(**sizes.vision)), variant)
    projection = build_module(partial(ImageProjection, vision.config.hidden_size, width), variant)
    prefix = ImagePrefix(draw_weights(vision, seed + 1), draw_weights(projection, seed + 2)).eval()
    return SequenceEncoder(draw_weights(model, seed), prefix, byte_clip_json(given["vocabulary"]))
