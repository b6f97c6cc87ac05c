"""The authors' sound run beside ours: their features in a session's place, and their loop on torch's UNet."""

from dataclasses import dataclass

import numpy as np
import torch

from tests.goldens import golden_tensors
from tests.numerics import assert_close


@dataclass
class Authors:
    """A session with the authors' features, in the place of what the horn's silent bins give on this machine."""

    inputs: tuple
    features: np.ndarray

    def __call__(self, waveform):
        expected = golden_tensors("gluegen/sound/sound.safetensors")["1.waveform_every9"]
        assert_close(waveform[0, :, ::9], np.repeat(expected, 2, 0), "waveform")
        return {"features": self.features}


@torch.no_grad()
def torch_run(base, context, noise, steps, scale):
    """The authors' DDIM as SPEC section 5 words it, on torch's UNet, in doubles."""
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    alphas = np.cumprod(1 - betas).astype(np.float32).astype(np.float64)
    timesteps = np.arange(0, 1000, 1000 // steps) + 1
    x = noise.astype(np.float64)
    for index in reversed(range(len(timesteps))):
        t, before = timesteps[index], timesteps[index - 1] if index else 0
        pair = torch.from_numpy(np.repeat(x, 2, 0)).float()
        sides = base.unet(pair, torch.tensor([t, t]), context).sample.double().numpy()
        e = sides[:1] + scale * (sides[1:] - sides[:1])
        clean = (x - np.sqrt(1 - alphas[t]) * e) / np.sqrt(alphas[t])
        x = np.sqrt(alphas[before]) * clean + np.sqrt(1 - alphas[before]) * e
    return x
