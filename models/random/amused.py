"""aMUSEd with random weights, at its published size for measuring and tiny for tests."""

from typing import Any

from ..clip.projected_text import ProjectedText
from ..clip.published_tokenizer import PublishedTokenizer
from ..clip.text_encoder import empty_text_encoder
from ..clip.tokenizer import END
from ..muse.amused import Amused
from ..readers.loading import build_module
from ..stable_diffusion.compvis_config import CLIP_VIT_L
from .byte_tokenizer import byte_clip_json
from .sizes import SIZES, chosen_sizes
from .weights import draw_weights

# What differs from the defaults of diffusers' classes, which are those of amused-256.
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "amused-256": {
        "transformer": {"sample_size": 16},
        "vq": {
            "block_out_channels": (128, 256, 256, 512, 768),
            "layers_per_block": 2,
            "latent_channels": 64,
            "num_vq_embeddings": 8192,
            "sample_size": 256,
        },
        "text": CLIP_VIT_L,
    },
    "tiny": {
        "transformer": {
            "hidden_size": 36,
            "cond_embed_dim": 20,
            "micro_cond_encode_dim": 12,
            "micro_cond_embed_dim": 60,
            "encoder_hidden_size": 48,
            "vocab_size": 59,
            "codebook_size": 53,
            "in_channels": 28,
            "block_out_channels": 24,
            "num_res_blocks": 1,
            "block_num_heads": 3,
            "num_hidden_layers": 2,
            "num_attention_heads": 3,
            "intermediate_size": 44,
            "sample_size": 6,
        },
        "vq": {
            "block_out_channels": (8, 12),
            "layers_per_block": 1,
            "latent_channels": 6,
            "num_vq_embeddings": 53,
            "norm_num_groups": 4,
            "sample_size": 12,
        },
        "text": {**SIZES["tiny"].text_encoder, "projection_dim": 20},
    },
}


def random_amused(variant: str, seed: int = 0) -> Amused:
    """aMUSEd with random weights, in eval mode and float32, and a byte tokenizer; `variant` is amused-256, of 603
    million parameters in the transformer, or tiny. Raises CheckpointError for another."""
    from diffusers.models.autoencoders.vq_model import VQModel
    from diffusers.models.unets.uvit_2d import UVit2DModel
    from torch import nn

    sizes = chosen_sizes(VARIANTS, variant)
    levels = len(sizes["vq"]["block_out_channels"])
    published = {
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "mid_block_add_attention": False,
        "lookup_from_codebook": True,
    }
    transformer = draw_weights(build_module(lambda: UVit2DModel(**sizes["transformer"]), variant), seed)
    text, vocabulary = draw_weights(empty_text_encoder(sizes["text"], variant), seed), sizes["text"]["vocab_size"]
    projection = build_module(lambda: nn.Linear(text.config.hidden_size, text.config.projection_dim, False), variant)
    return Amused(
        transformer=transformer,
        vq=draw_weights(build_module(lambda: VQModel(**published, **sizes["vq"]), variant), seed),
        text=ProjectedText(text, draw_weights(projection, seed)).eval(),
        tokenizer=PublishedTokenizer(
            byte_clip_json(vocabulary), vocabulary, END, vocabulary - 1, text.config.max_position_embeddings, "bytes"
        ),
        mask_id=transformer.config.vocab_size - 1,
        mask_schedule="cosine",
    )
