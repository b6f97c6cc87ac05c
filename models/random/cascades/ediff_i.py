"""An ensemble of experts with random weights: tiny with all conditions, and two UNets of Stable Diffusion's size."""

from functools import partial
from typing import Any

from torch import nn

from ...clip.text_encoder import empty_text_encoder
from ...ediff_i.ensemble import Ensemble, SecondText
from ...readers.loading import build_module
from ...text_encoders.prompt_encoder import PromptEncoder
from ...text_encoders.t5 import byte_tokenizer_json
from ..sizes import SIZES, TINY_VISION, chosen_sizes
from ..weights import draw_weights, random_stable_diffusion

EXPERTS = "high", "low"
WIDTH, T5_WIDTH, T5_WINDOW = 24, 40, 33
UNET: dict[str, Any] = {
    "sample_size": 16,
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ("CrossAttnDownBlock2D",) * 2,
    "up_block_types": ("CrossAttnUpBlock2D",) * 2,
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "cross_attention_dim": WIDTH,
    "attention_head_dim": 4,
    "class_embed_type": "projection",
}
VISION = {**TINY_VISION, "projection_dim": 20}
SCHEDULER = {"_class_name": "DDIMScheduler", "beta_start": 1e-4, "beta_end": 0.02, "prediction_type": "v_prediction"}
SCHEDULER |= {"clip_sample": False}


def random_ensemble(variant: str = "sd15", seed: int = 0) -> Ensemble:
    """An ensemble in eval mode with random weights, none of them zero; raises CheckpointError for another variant.

    `sd15` are two UNets of Stable Diffusion v1.5's size over its latents and text encoder, `tiny` two of unequal
    widths over pixels, with T5, a vision tower and a vector.
    """
    return chosen_sizes(VARIANTS, variant)(variant, seed)


def _tiny(variant: str, seed: int) -> Ensemble:
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection, T5Config, T5EncoderModel

    encoder = empty_text_encoder(SIZES["tiny"].text_encoder, variant)
    text = draw_weights(encoder, seed)
    base = random_stable_diffusion("tiny", seed)
    assert base.tokenizer is not None
    width = text.config.hidden_size
    unets = {}
    for number, (name, first) in enumerate(zip(EXPERTS, (24, 16), strict=True)):
        sizes = {
            "block_out_channels": (first, 32),
            "projection_class_embeddings_input_dim": width + VISION["projection_dim"],
        }
        unets[name] = draw_weights(build_module(partial(UNet2DConditionModel, **UNET, **sizes), variant), seed + number)
    t5 = build_module(
        lambda: (
            T5EncoderModel(
                T5Config(
                    vocab_size=400,
                    d_model=T5_WIDTH,
                    d_kv=8,
                    d_ff=64,
                    num_layers=2,
                    num_heads=4,
                    feed_forward_proj="gated-gelu",
                )
            ).encoder
        ),
        variant,
    )
    vision = build_module(lambda: CLIPVisionModelWithProjection(CLIPVisionConfig(**VISION)), variant)
    widths = {"clip-text": width, "t5": T5_WIDTH, "clip-image": VISION["projection_dim"]}
    projections = {
        name: draw_weights(build_module(partial(nn.Linear, own, WIDTH), variant), seed + 10 + number)
        for number, (name, own) in enumerate(widths.items())
    }
    return Ensemble(
        unets,
        text,
        base.tokenizer,
        SCHEDULER,
        projections,
        SecondText(PromptEncoder.of(draw_weights(t5, seed + 20), byte_tokenizer_json(), positions=None), T5_WINDOW),
        draw_weights(vision, seed + 21),
    )


def _of_stable_diffusion(variant: str, seed: int) -> Ensemble:
    first, second = (random_stable_diffusion(variant, seed + number) for number in range(len(EXPERTS)))
    assert first.text_encoder is not None and first.tokenizer is not None
    experts = dict(zip(EXPERTS, (first.unet, second.unet), strict=True))
    return Ensemble(experts, first.text_encoder, first.tokenizer, first.scheduler, {}, vae=first.vae)


VARIANTS = {"sd15": _of_stable_diffusion, "tiny": _tiny}
