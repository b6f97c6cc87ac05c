"""LoRA files as diffusers and PEFT save them, for the base of tiny random weights, and diffusers' own pipeline."""

from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import StableDiffusionPipeline
from diffusers.training_utils import _collate_lora_metadata
from peft import LoraConfig, get_peft_model_state_dict
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast
from x2i.models.random.weights import random_stable_diffusion

UNET = LoraConfig(
    r=3,
    lora_alpha=7,
    rank_pattern={"attn2.to_k": 5, "conv1": 2},
    alpha_pattern={"attn2.to_k": 4, "mid_block.attentions.0.proj_out": 1},
    target_modules=[
        *("to_q", "attn2.to_k", "attn2.to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out"),
        *("conv_in", "conv1", "conv_shortcut", "conv", "conv_out", "time_emb_proj", "time_embedding.linear_2"),
    ],
)
"""Awkward ranks and alphas, of a subset of the layers."""
TEXT = LoraConfig(r=5, lora_alpha=2, target_modules=["q_proj", "out_proj", "fc1"])


def peer_pipeline() -> StableDiffusionPipeline:
    """diffusers' pipeline over the base that `--random-weights tiny` exports."""
    base = random_stable_diffusion("tiny")
    assert base.tokenizer is not None
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(base.tokenizer.json),
        pad_token=base.tokenizer.pad_token,
        model_max_length=base.tokenizer.window,
    )
    pipeline = StableDiffusionPipeline(
        vae=base.vae,
        text_encoder=base.text_encoder,
        tokenizer=tokenizer,
        unet=base.unet,
        scheduler=diffusers.PNDMScheduler.from_config(base.scheduler),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def saved_lora(folder: Path, seed: int, dtype: torch.dtype = torch.float32, text: bool = True, **options: Any) -> Path:
    """The file that diffusers saves of a LoRA with normal numbers, settings in its metadata."""
    pipeline = peer_pipeline()
    parts = {"unet": (pipeline.unet, UNET)} | ({"text_encoder": (pipeline.text_encoder, TEXT)} if text else {})
    states = {}
    for part, (module, config) in parts.items():
        module.add_adapter(config)
        randomize(module, seed)
        states[f"{part}_lora_layers"] = {
            key: value.to(dtype) for key, value in get_peft_model_state_dict(module).items()
        }
    metadata = _collate_lora_metadata({part: module for part, (module, _) in parts.items()})
    StableDiffusionPipeline.save_lora_weights(folder, **states, **metadata, **options)
    return folder / "pytorch_lora_weights.safetensors"


@torch.no_grad()
def randomize(module: torch.nn.Module, seed: int) -> None:
    """Fills both halves of every layer of an adapter: PEFT begins with zeros in one."""
    random = torch.Generator().manual_seed(seed)
    for name, value in module.named_parameters():
        if ".lora_" in name:
            value.normal_(0, 0.3 * value[0].numel() ** -0.5, generator=random)
