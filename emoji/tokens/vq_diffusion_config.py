"""The small VQ-Diffusion's configuration, with the settings that its authors' YAML files have."""

from pathlib import Path
from typing import Any

import yaml

from ..world import english
from . import tokenizer_stage as tokenizer
from . import vq_diffusion_stage as stage

ROOM = "image_synthesis.modeling"
CODEC = "OUTPUT/pretrained_model/taming_dvae/vqgan_emoji"
SPECIAL_TOKENS = 256
"""Of CLIP's vocabulary, those above `end_idx`."""


def write_config(path: Path) -> None:
    """Writes the configuration as YAML."""
    path.parent.mkdir(parents=True, exist_ok=True)
    params = {
        "content_info": {"key": "image"},
        "condition_info": {"key": "text"},
        "content_codec_config": _content_codec(),
        "condition_codec_config": _prompt_codec(),
        "diffusion_config": _diffusion(),
    }
    model = _part("models.dalle.DALLE", params)
    path.write_text(yaml.safe_dump({"model": model}), encoding="utf-8")


def _content_codec() -> dict[str, Any]:
    settings = {
        "trainable": False,
        "token_shape": [tokenizer.GRID, tokenizer.GRID],
        "ckpt_path": f"{CODEC}.pth",
        "config_path": f"{CODEC}.yaml",
        "num_tokens": tokenizer.CODES,
        "quantize_number": 0,
        "mapping_path": None,
    }
    return _part("codecs.image_codec.taming_gumbel_vqvae.TamingVQVAE", settings)


def _prompt_codec() -> dict[str, Any]:
    settings = {
        "context_length": stage.WINDOW,
        "add_start_and_end": True,
        "with_mask": True,
        "pad_value": stage.PAD,
        "clip_embedding": False,
        "tokenizer_config": _part(
            "modules.clip.simple_tokenizer.SimpleTokenizer",
            {"end_idx": english.tokenizer().get_vocab_size() - SPECIAL_TOKENS},
        ),
    }
    return _part("codecs.text_codec.tokenize.Tokenize", settings)


def _diffusion() -> dict[str, Any]:
    sizes = stage.settings()
    grid = [tokenizer.GRID, tokenizer.GRID]
    transformer = {
        "attn_type": "selfcross",
        "n_layer": sizes.layers,
        "n_embd": sizes.width,
        "n_head": sizes.heads,
        "condition_dim": sizes.context_width,
        "condition_seq_len": stage.WINDOW,
        "content_seq_len": sizes.length,
        "content_spatial_size": grid,
        "attn_pdrop": 0.0,
        "resid_pdrop": 0.0,
        "block_activate": "GELU2",
        "timestep_type": "adalayernorm",
        "mlp_hidden_times": sizes.mlp_factor,
    }
    embedding = {
        "num_embed": sizes.classes,
        "spatial_size": list(sizes.position_grid),
        "embed_dim": sizes.width,
        "trainable": True,
        "pos_emb_type": "embedding",
    }
    text = {
        "clip_name": "ViT-B/32",
        "num_embed": english.tokenizer().get_vocab_size(),
        "embed_dim": stage.TEXT_WIDTH,
        "normalize": True,
        "pick_last_embedding": False,
        "keep_seq_len_dim": False,
        "additional_last_embedding": False,
    }
    settings = {
        "diffusion_step": sizes.steps,
        "alpha_init_type": "alpha1",
        "learnable_cf": True,
        "transformer_config": _part("transformers.transformer_utils.Text2ImageTransformer", transformer),
        "condition_emb_config": _part("embeddings.clip_text_embedding.CLIPTextEmbedding", text),
        "content_emb_config": _part("embeddings.dalle_mask_image_embedding.DalleMaskImageEmbedding", embedding),
    }
    return _part("transformers.diffusion_transformer.DiffusionTransformer", settings)


def _part(name: str, params: dict[str, Any]) -> dict[str, Any]:
    return {"target": f"{ROOM}.{name}", "params": params}
