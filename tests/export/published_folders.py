"""Folders that the libraries themselves write, with random weights, and commands that must go well."""

from collections.abc import Sequence
from pathlib import Path

from click.testing import CliRunner
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from tokenizers import Tokenizer
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer
from x2i.models.random.byte_tokenizer import byte_clip_json
from x2i.models.random.weights import draw_weights
from x2i.runtime.cli import main

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
TINY_VAE = {
    "encoder_block_out_channels": [8, 8],
    "decoder_block_out_channels": [8, 8],
    "num_encoder_blocks": [1, 1],
    "num_decoder_blocks": [2, 1],
}
SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
PNDM = PNDMScheduler(**SCHEDULE, skip_prk_steps=True, steps_offset=1)


def publish(
    folder: Path,
    unet: dict | None = None,
    vae: dict | None = None,
    text: dict | None = None,
    tokens: Sequence[str] = (),
    window: int = 77,
    pad: str = "!",
    scheduler=PNDM,
) -> Path:
    """The folder `base` in `folder`, whose settings differ from the usual ones here."""
    unet, vae, text = unet or {}, vae or {}, text or {}
    blocks = len((VAE | vae)["block_out_channels"])
    kinds = {"down_block_types": ["DownEncoderBlock2D"] * blocks, "up_block_types": ["UpDecoderBlock2D"] * blocks}
    Tokenizer.from_str(byte_clip_json(514)).save(str(folder / "tokenizer.json"))
    tokenizer = CLIPTokenizer.from_pretrained(folder, model_max_length=window, pad_token=pad)
    tokenizer.add_tokens(list(tokens))
    encoder = CLIPTextModel(CLIPTextConfig(**TEXT | text | {"vocab_size": len(tokenizer)}))
    encoder.config.use_attention_mask = text.get("use_attention_mask", False)
    StableDiffusionPipeline(
        vae=draw_weights(AutoencoderKL(**VAE | kinds | vae), 2),
        text_encoder=draw_weights(encoder, 3),
        tokenizer=tokenizer,
        unet=draw_weights(UNet2DConditionModel(**UNET | unet), 1),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder / "base")
    return folder / "base"


def run(*arguments: object) -> str:
    """What a command printed, which must have gone well."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments: object) -> str:
    """What a command said that must have been refused."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 2, result.output
    return result.output
