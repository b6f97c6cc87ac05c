"""Karlo with random weights, at its published size for measuring and tiny for tests."""

from functools import partial
from typing import Any

from torch import nn

from ...clip.projected_text import ProjectedText
from ...clip.published_tokenizer import PublishedTokenizer
from ...clip.text_encoder import empty_text_encoder
from ...clip.tokenizer import END
from ...readers.loading import build_module
from ...stable_diffusion.compvis_config import CLIP_VIT_L
from ...unclip.karlo import Karlo, net_classes
from ...unclip.karlo_settings import SCHEDULER
from ..byte_tokenizer import byte_clip_json
from ..sizes import SIZES, TINY_VISION, chosen_sizes
from ..weights import draw_weights

DOWN, UP = "ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D"
CROSS_DOWN, CROSS_UP = "SimpleCrossAttnDownBlock2D", "SimpleCrossAttnUpBlock2D"
DECODER = {"in_channels": 3, "out_channels": 6, "mid_block_type": "UNetMidBlock2DSimpleCrossAttn"}
DECODER |= {"class_embed_type": "identity", "resnet_time_scale_shift": "scale_shift"}
SUPER_RES: dict[str, Any] = {"in_channels": 6, "out_channels": 3, "add_attention": False}
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "karlo": {
        "text": {**CLIP_VIT_L, "projection_dim": 768},
        "vision": {**SIZES["sd15"].elite_vision, "image_size": 224},
        "prior": {},
        "text_proj": {"time_embed_dim": 1280, "cross_attention_dim": 1536},
        "decoder": {
            "sample_size": 64,
            "block_out_channels": (320, 640, 960, 1280),
            "layers_per_block": 3,
            "down_block_types": (DOWN, *[CROSS_DOWN] * 3),
            "up_block_types": (*[CROSS_UP] * 3, UP),
            "cross_attention_dim": 1536,
            "attention_head_dim": 64,
        },
        "super_res": {
            "sample_size": 256,
            "block_out_channels": (320, 640, 960, 1280),
            "layers_per_block": 3,
            "down_block_types": (DOWN,) * 4,
            "up_block_types": (UP,) * 4,
        },
    },
    "tiny": {
        "text": {**SIZES["tiny"].text_encoder, "projection_dim": SIZES["tiny"].text_encoder["hidden_size"]},
        "vision": {**TINY_VISION, "projection_dim": SIZES["tiny"].text_encoder["hidden_size"]},
        "prior": {
            "num_attention_heads": 3,
            "attention_head_dim": 10,
            "num_layers": 2,
            "embedding_dim": SIZES["tiny"].text_encoder["hidden_size"],
        },
        "text_proj": {
            "clip_embeddings_dim": SIZES["tiny"].text_encoder["hidden_size"],
            "time_embed_dim": 64,
            "cross_attention_dim": 24,
        },
        "decoder": {
            "sample_size": 12,
            "block_out_channels": (16, 24),
            "layers_per_block": 1,
            "down_block_types": (DOWN, CROSS_DOWN),
            "up_block_types": (CROSS_UP, UP),
            "cross_attention_dim": 24,
            "attention_head_dim": 8,
            "norm_num_groups": 8,
        },
        "super_res": {
            "sample_size": 20,
            "block_out_channels": (16, 24),
            "layers_per_block": 1,
            "down_block_types": (DOWN,) * 2,
            "up_block_types": (UP,) * 2,
            "norm_num_groups": 8,
        },
    },
}


NETS = "prior", "text_proj", "decoder", "super_res_first", "super_res_last"


def random_karlo(variant: str = "karlo", seed: int = 0) -> Karlo:
    """Karlo in eval mode with random weights, none of them zero; raises CheckpointError for an unknown variant."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    sizes, text = chosen_sizes(VARIANTS, variant), random_karlo_text(variant, seed)
    nets: dict[str, Any] = {name: random_karlo_net(name, variant, seed) for name in NETS}
    config = text.config
    vision = build_module(lambda: CLIPVisionModelWithProjection(CLIPVisionConfig(**sizes["vision"])), variant)
    end = config.vocab_size - 1
    tokenizer = PublishedTokenizer(
        byte_clip_json(config.vocab_size), config.vocab_size, END, end, config.max_position_embeddings, "bytes"
    )
    prior = SCHEDULER | {"prediction_type": "sample", "clip_sample_range": 5.0}
    schedulers = {"prior": prior, "decoder": SCHEDULER | {"variance_type": "learned_range"}, "super_res": SCHEDULER}
    return Karlo(text, tokenizer, schedulers=schedulers, vision=draw_weights(vision, seed + 12), **nets)


def random_karlo_net(name: str, variant: str = "karlo", seed: int = 0) -> nn.Module:
    """One of the NETS by itself, as `random_karlo` has it; raises CheckpointError for an unknown variant."""
    sizes = chosen_sizes(VARIANTS, variant)
    given = {"decoder": DECODER | sizes["decoder"]}
    given |= dict.fromkeys(("super_res_first", "super_res_last"), SUPER_RES | sizes["super_res"])
    net = build_module(partial(net_classes()[name], **given.get(name, sizes.get(name, {}))), variant)
    return draw_weights(net, seed + NETS.index(name))


def random_karlo_text(variant: str = "karlo", seed: int = 0) -> ProjectedText:
    """Its text encoder by itself; raises CheckpointError for an unknown variant."""
    encoder = empty_text_encoder(chosen_sizes(VARIANTS, variant)["text"], variant)
    config = encoder.config
    projection = build_module(lambda: nn.Linear(config.hidden_size, config.projection_dim, bias=False), variant)
    return ProjectedText(draw_weights(encoder, seed + 10), draw_weights(projection, seed + 11)).eval()
