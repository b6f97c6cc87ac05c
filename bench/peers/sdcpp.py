"""stable-diffusion.cpp through its Python binding.

Options: `type` (of the weights), `flash` (fused attention), `direct` (convolutions without unfolding), `taesd` (a tiny
autoencoder's file, seen from the model's folder).
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from peers.protocol import Draw, PeerJob, PeerPicture, answer

BETAS = 0.00085, 0.012, 1000
"""Stable Diffusion's schedule: the first beta, the last, and how many."""


def open_peer(job: PeerJob) -> Draw:
    """The model, which takes a seed and no noise.

    Its `cpu` generator repeats torch's, so that it starts from the same numbers.
    """
    from stable_diffusion_cpp import StableDiffusion

    assert job.sampler in ("euler", "lcm"), "its samplers have no others in common with diffusers"
    tiny = job.options.get("taesd")
    model = StableDiffusion(
        model_path=job.model,
        wtype=job.options["type"],
        n_threads=job.threads,
        rng_type="cpu",
        sampler_rng_type="cpu",
        diffusion_flash_attn=job.options.get("flash", False),
        diffusion_conv_direct=job.options.get("direct", False),
        vae_conv_direct=job.options.get("direct", False),
        taesd_path="" if tiny is None else str(Path(job.model) / tiny),
        verbose=False,
    )

    def draw(steps: int, tick: Callable[[], None]) -> PeerPicture:
        # Consistency models have its own spacing.
        sigmas = {"sigmas": ",".join(f"{each:.9g}" for each in euler_sigmas(steps))} if job.sampler == "euler" else {}
        (image,) = model.generate_image(
            job.prompt,
            width=job.width,
            height=job.height,
            cfg_scale=job.guidance,
            sample_method=job.sampler,
            sample_steps=steps,
            **sigmas,
            seed=job.seed,
            progress_callback=lambda step, count, seconds: tick() if step and count == steps else None,
        )
        return PeerPicture(np.asarray(image.convert("RGB")))

    return draw


def euler_sigmas(steps: int) -> list[float]:
    """The noise levels of diffusers' Euler sampler: `steps` at evenly spaced timesteps, noisiest first, and 0 behind.

    The binding takes them as numbers.
    """
    first, last, count = BETAS
    betas = np.linspace(first**0.5, last**0.5, count, dtype=np.float64) ** 2
    alphas = np.cumprod(1 - betas)
    sigmas = ((1 - alphas) / alphas) ** 0.5
    timesteps = np.linspace(0, count - 1, steps)[::-1]
    return [*np.interp(timesteps, np.arange(count), sigmas).tolist(), 0.0]


if __name__ == "__main__":
    answer(open_peer, ("stable-diffusion-cpp-python",))
