"""Small folders with random weights, as the libraries themselves write them."""

from pathlib import Path

from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from tokenizers import Tokenizer
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer
from x2i.models.random.byte_tokenizer import byte_clip_json
from x2i.models.random.weights import draw_weights

UNET = {
    "sample_size": [8, 12],
    "block_out_channels": [16, 32],
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "cross_attention_dim": 24,
    "attention_head_dim": 2,
}
VAE = {"block_out_channels": [16, 16], "norm_num_groups": 8}
TEXT = {
    "vocab_size": 514,
    "hidden_size": 24,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "bos_token_id": 512,
    "eos_token_id": 513,
}


def publish(folder: Path, unet: dict, vae: dict, text: dict, tokens: list[str], window: int, pad: str) -> None:
    """A folder that the libraries themselves write, with random weights."""
    blocks = len((VAE | vae)["block_out_channels"])
    kinds = {"down_block_types": ["DownEncoderBlock2D"] * blocks, "up_block_types": ["UpDecoderBlock2D"] * blocks}
    Tokenizer.from_str(byte_clip_json(514)).save(str(folder / "tokenizer.json"))
    tokenizer = CLIPTokenizer.from_pretrained(folder, model_max_length=window, pad_token=pad)
    tokenizer.add_tokens(tokens)
    encoder = CLIPTextModel(CLIPTextConfig(**TEXT | text | {"vocab_size": len(tokenizer)}))
    encoder.config.use_attention_mask = text.get("use_attention_mask", False)
    schedule = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    StableDiffusionPipeline(
        vae=draw_weights(AutoencoderKL(**VAE | kinds | vae), 2),
        text_encoder=draw_weights(encoder, 3),
        tokenizer=tokenizer,
        unet=draw_weights(UNet2DConditionModel(**UNET | unet), 1),
        scheduler=PNDMScheduler(**schedule, skip_prk_steps=True, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder / "base")
