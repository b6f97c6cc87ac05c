"""diffusers on torch: eager, or its UNet through torch.compile. Options: `dtype`, `channels_last`, `compile`."""

from peers.protocol import Draw, Job, answer
from peers.torch_pipeline import drawing, set_scheduler


def opened(job: Job) -> Draw:
    """The folder's own pipeline; its documentation advises channels-last for bfloat16 on a CPU."""
    import torch
    from diffusers import StableDiffusionPipeline

    dtype = getattr(torch, job.options.get("dtype", "float32"))
    pipeline = StableDiffusionPipeline.from_pretrained(job.model, torch_dtype=dtype)
    set_scheduler(pipeline, job.sampler)
    if job.options.get("channels_last"):
        pipeline.unet.to(memory_format=torch.channels_last)
        pipeline.vae.to(memory_format=torch.channels_last)
    if job.options.get("compile"):
        pipeline.unet = torch.compile(pipeline.unet)
    return drawing(pipeline, job, dtype)


if __name__ == "__main__":
    answer(opened, ("torch", "diffusers", "transformers"))
