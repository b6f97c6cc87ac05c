"""The files that Optimum's pipelines read beside the graphs: configurations and the tokenizer."""

import json
from collections.abc import Mapping
from typing import Any

from x2i.models.clip.tokenizer import END, START
from x2i.runtime.bundle.manifest import Manifest
from x2i.runtime.bundle.plan import Plan
from x2i.runtime.bundle.reader import Bundle

from ..errors import PlanError

TEXT_ENCODER, DENOISER, DECODER = "text_encoder", "unet", "vae_decoder"
GRAPH = "model.onnx"
SCHEDULERS = {
    "PNDMScheduler": "pndm",
    "DDIMScheduler": "ddim",
    "LMSDiscreteScheduler": "lms",
    "EulerDiscreteScheduler": "euler",
    "EulerAncestralDiscreteScheduler": "euler_a",
    "DPMSolverMultistepScheduler": "dpmpp_2m_karras",
    "LCMScheduler": "lcm",
}
"""diffusers' schedulers, by whose class a folder names its own, and our samplers that equal them."""
NEAREST = {"plms": "PNDMScheduler", "ddim_compvis": "DDIMScheduler"}
"""What diffusers has instead of CompVis' samplers, which visit other timesteps."""


def sampler_of(settings: Mapping[str, Any]) -> str | None:
    """Our sampler that equals a scheduler as its scheduler_config.json sets it, None where there is none."""
    name = SCHEDULERS.get(str(settings.get("_class_name")))
    if name == "dpmpp_2m_karras":
        plain = settings.get("algorithm_type", "dpmsolver++") == "dpmsolver++" and settings.get("solver_order", 2) == 2
        return name if plain and settings.get("use_karras_sigmas") else None
    return name


def scheduler_of(sampler: str) -> str:
    """The scheduler's class for a sampler of ours."""
    return NEAREST.get(sampler) or next(kind for kind, name in SCHEDULERS.items() if name == sampler)


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
    kind = scheduler_of(plan.sampler.name)
    absent = {name: [None, None] for name in _ABSENT}
    index = _PARTS | absent | {"scheduler": ["diffusers", kind], "requires_safety_checker": False}
    return {
        "model_index.json": {"_class_name": "StableDiffusionPipeline"} | index,
        f"{TEXT_ENCODER}/config.json": _text_encoder_config(manifest),
        f"{DENOISER}/config.json": _unet_config(manifest),
        f"{DECODER}/config.json": _vae_config(plan),
        "scheduler/scheduler_config.json": _scheduler_config(plan, kind),
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
    decoder = manifest.plan.decoder
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
    halvings = plan.decoder.factor.bit_length() - 1
    return {
        "_class_name": "AutoencoderKL",
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": plan.decoder.channels,
        # Pipelines count the levels; their widths are the graph's own.
        "block_out_channels": [1] * (halvings + 1),
        "sample_size": max(plan.decoder.size),
        # The graph scales the latents itself.
        "scaling_factor": 1.0,
        "shift_factor": None,
        "force_upcast": False,
    }


def _scheduler_config(plan: Plan, kind: str) -> dict[str, Any]:
    schedule = plan.schedule
    config = {
        "_class_name": kind,
        "beta_schedule": "scaled_linear",
        "beta_start": schedule.beta_start,
        "beta_end": schedule.beta_end,
        "num_train_timesteps": schedule.train_steps,
        "prediction_type": "epsilon",
        "set_alpha_to_one": schedule.set_alpha_to_one,
        "steps_offset": schedule.steps_offset,
        "timestep_spacing": "leading",
        "clip_sample": False,
        "skip_prk_steps": True,
        "trained_betas": None,
    }
    return config | ({"use_karras_sigmas": True} if plan.sampler.name == "dpmpp_2m_karras" else {})


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
