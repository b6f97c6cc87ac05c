"""What the peers on torch share: schedulers by name, and a diffusers-like pipeline as something that draws."""

from collections.abc import Callable
from typing import Any

import numpy as np

from peers.protocol import Draw, Drawn, Job

SCHEDULERS = {"ddim": "DDIMScheduler", "euler": "EulerDiscreteScheduler"}


def set_scheduler(pipeline: Any, sampler: str) -> None:
    """Replaces the pipeline's scheduler, on the schedule that the model's folder describes."""
    import diffusers

    pipeline.scheduler = getattr(diffusers, SCHEDULERS[sampler]).from_config(pipeline.scheduler.config)


def drawing(pipeline: Any, job: Job, dtype: Any) -> Draw:
    """Draws with the pipeline's own call; the noise is cast to `dtype`."""
    import torch

    torch.set_num_threads(job.threads)
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.from_numpy(job.start_noise()).to(dtype)

    def draw(steps: int, tick: Callable[[], None]) -> Drawn:
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
        return Drawn(np.asarray(drawn.images[0]), seen[0].float().numpy())

    return draw
