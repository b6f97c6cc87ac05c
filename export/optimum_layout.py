"""The folder in which Optimum keeps a Stable Diffusion pipeline as ONNX graphs: names on both sides."""

from collections.abc import Mapping
from typing import Any

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
