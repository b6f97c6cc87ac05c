"""diffusers on torch: eager, or its UNet through torch.compile; and how any pipeline with its call draws.

Options: `dtype`, `channels_last`, `compile`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from peers.protocol import Draw, PeerJob, PeerPicture, answer

SCHEDULERS = {"ddim": "DDIMScheduler", "euler": "EulerDiscreteScheduler"}
"""diffusers' classes by the samplers of a job."""


def open_peer(job: PeerJob) -> Draw:
    """The pipeline of the folder, in the layout and form that the options name.

    Its documentation advises channels-last for bfloat16 on a CPU.
    """
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
    return draw_with(pipeline, job, dtype)


def set_scheduler(pipeline: Any, sampler: str) -> None:
    """Replaces the pipeline's scheduler by `ddim` or `euler`, on the schedule that the model's folder describes."""
    import diffusers

    pipeline.scheduler = getattr(diffusers, SCHEDULERS[sampler]).from_config(pipeline.scheduler.config)


def draw_with(pipeline: Any, job: PeerJob, dtype: Any) -> Draw:
    """Draws with the own call of a diffusers-like pipeline; the noise is cast to `dtype`, a torch dtype."""
    import torch

    torch.set_num_threads(job.threads)
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.from_numpy(job.start_noise()).to(dtype)

    def draw(steps: int, tick: Callable[[], None]) -> PeerPicture:
        seen: list[Any] = []

        def after_step(*given: Any) -> dict[str, Any]:
            tick()
            seen[:] = [given[-1]["latents"]]
            return {}

        drawn = pipeline(
            job.prompt,
            height=job.height,
            width=job.width,
            num_inference_steps=steps,
            guidance_scale=job.guidance,
            latents=noise.clone(),
            callback_on_step_end=after_step,
        )
        return PeerPicture(np.asarray(drawn.images[0]), seen[0].float().numpy())

    return draw


if __name__ == "__main__":
    answer(open_peer, ("torch", "diffusers", "transformers"))
