"""stable-diffusion.cpp through its Python binding. Options: `type` (of the weights), `flash` (fused attention),
`direct` (convolutions without unfolding)."""

from collections.abc import Callable

import numpy as np

from peers.protocol import Draw, Drawn, Job, answer
from peers.sigmas import euler_sigmas


def opened(job: Job) -> Draw:
    """It takes a seed and no noise. Its `cpu` generator repeats torch's, so that it starts from the same numbers."""
    from stable_diffusion_cpp import StableDiffusion

    assert job.sampler == "euler", "its samplers have none other in common with diffusers"
    model = StableDiffusion(
        model_path=job.model,
        wtype=job.options["type"],
        n_threads=job.threads,
        rng_type="cpu",
        sampler_rng_type="cpu",
        diffusion_flash_attn=job.options.get("flash", False),
        diffusion_conv_direct=job.options.get("direct", False),
        vae_conv_direct=job.options.get("direct", False),
        verbose=False,
    )

    def draw(steps: int, tick: Callable[[], None]) -> Drawn:
        (image,) = model.generate_image(
            job.prompt,
            width=job.width,
            height=job.height,
            cfg_scale=job.guidance,
            sample_method="euler",
            sample_steps=steps,
            sigmas=",".join(f"{sigma:.9g}" for sigma in euler_sigmas(steps)),
            seed=job.seed,
            progress_callback=lambda step, count, seconds: tick() if step and count == steps else None,
        )
        return Drawn(np.asarray(image.convert("RGB")))

    return draw


if __name__ == "__main__":
    answer(opened, ("stable-diffusion-cpp-python",))
