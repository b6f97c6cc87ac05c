"""The folder in which Optimum keeps a Stable Diffusion pipeline as ONNX graphs: names on both sides."""

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


def scheduler_of(sampler: str) -> str:
    """The scheduler's class for a sampler of ours."""
    return NEAREST.get(sampler) or next(kind for kind, name in SCHEDULERS.items() if name == sampler)
