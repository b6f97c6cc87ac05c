"""The files that Optimum's pipelines read beside the graphs: configurations and the tokenizer."""

import json
from typing import Any

from x2i.models.clip.tokenizer import END, START
from x2i.runtime.bundle.manifest import Manifest
from x2i.runtime.bundle.plan import Plan
from x2i.runtime.bundle.reader import Bundle

from ..errors import PlanError
from ..sampling.schedulers import scheduler_config

TEXT_ENCODER, DENOISER, DECODER = "text_encoder", "unet", "vae_decoder"
GRAPH = "model.onnx"
_PARTS = {
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
_ABSENT = ("feature_extractor", "image_encoder", "safety_checker")


def configurations(manifest: Manifest) -> dict[str, dict[str, Any]]:
    """Every JSON file of the folder by its path; the tokenizer's are apart."""
    plan = manifest.plan
    scheduler = scheduler_config(plan.latents.schedule, plan.latents.sampler)
    absent = {name: [None, None] for name in _ABSENT}
    index = _PARTS | absent | {"scheduler": ["diffusers", scheduler["_class_name"]], "requires_safety_checker": False}
    return {
        "model_index.json": {"_class_name": "StableDiffusionPipeline"} | index,
        f"{TEXT_ENCODER}/config.json": _text_encoder_config(manifest),
        f"{DENOISER}/config.json": _unet_config(manifest),
        f"{DECODER}/config.json": _vae_config(plan),
        "scheduler/scheduler_config.json": scheduler,
    }


def _text_encoder_config(manifest: Manifest) -> dict[str, Any]:
    return {
        "model_type": "clip_text_model",
        "hidden_size": _context_width(manifest),
        "max_position_embeddings": _prompt_window(manifest.plan),
        # The graph returns no layer's own states, which Optimum would otherwise look for among the outputs.
        "num_hidden_layers": 0,
    }


def _unet_config(manifest: Manifest) -> dict[str, Any]:
    decoder = manifest.plan.latents.decoder
    height, width = (pixels // decoder.factor for pixels in decoder.size)
    return {
        "_class_name": "UNet2DConditionModel",
        "in_channels": decoder.channels,
        "out_channels": decoder.channels,
        "sample_size": height if height == width else [height, width],
        "cross_attention_dim": _context_width(manifest),
        "time_cond_proj_dim": None,
        # One level: latents need not halve evenly, since the graph upsamples to the size of the skip.
        "block_out_channels": [1],
    }


def _vae_config(plan: Plan) -> dict[str, Any]:
    halvings = plan.latents.decoder.factor.bit_length() - 1
    return {
        "_class_name": "AutoencoderKL",
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": plan.latents.decoder.channels,
        # Pipelines count the levels; their widths are the graph's own.
        "block_out_channels": [1] * (halvings + 1),
        "sample_size": max(plan.latents.decoder.size),
        # The graph scales the latents itself.
        "scaling_factor": 1.0,
        "shift_factor": None,
        "force_upcast": False,
    }


def _context_width(manifest: Manifest) -> int:
    (context,) = manifest.graphs["text_encoder"].outputs
    width = context.shape[-1]
    assert isinstance(width, int), "the context's width is free"
    return width


def _prompt_window(plan: Plan) -> int:
    (conditioner,) = plan.conditioners
    assert conditioner.text is not None, "a plan without a prompt"
    return conditioner.text.window


def tokenizer_files(bundle: Bundle) -> dict[str, str]:
    """The texts by file name; raises PlanError for a tokenizer that is not CLIP's."""
    text = bundle.manifest.plan.conditioners[0].text
    assert text is not None, "a plan without a prompt"
    saved = bundle.path(text.tokenizer).read_text(encoding="utf-8")
    model: dict[str, Any] = json.loads(saved)["model"]
    vocabulary = model.get("vocab")
    if model.get("type") != "BPE" or not isinstance(vocabulary, dict) or not {START, END} <= vocabulary.keys():
        raise PlanError(
            f"{text.tokenizer}: expected CLIP's tokenizer, got one of type {model.get('type')}; "
            "Optimum's pipeline reads no other"
        )
    words = {number: word for word, number in vocabulary.items()}
    words |= {token["id"]: token["content"] for token in json.loads(saved)["added_tokens"]}
    pairs = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "bos_token": START,
        "eos_token": END,
        "unk_token": END,
        "pad_token": words[text.pad_id],
        "model_max_length": text.window,
        "do_lower_case": True,
    }
    return {
        "vocab.json": json.dumps(vocabulary, ensure_ascii=False),
        "merges.txt": "\n".join(["#version: 0.2", *pairs, ""]),
        "tokenizer.json": saved,
        "tokenizer_config.json": json.dumps(settings, indent=2) + "\n",
    }
