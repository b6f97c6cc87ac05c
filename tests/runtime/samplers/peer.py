"""Walks of diffusers' own schedulers over the toy model, set up from Stable Diffusion v1's scheduler file."""

import importlib
import inspect
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from x2i.runtime.samplers.sampler import Draw

from tests.runtime.samplers.toy import Recorder, draws

STABLE_DIFFUSION_V1 = {
    "_class_name": "PNDMScheduler",
    "_diffusers_version": "0.7.0.dev0",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
}
SCHEDULERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "ddim": lambda config: diffusers.DDIMScheduler.from_config(config),
    "pndm": lambda config: diffusers.PNDMScheduler.from_config(config),
    "lms": lambda config: diffusers.LMSDiscreteScheduler.from_config(config),
    "euler": lambda config: diffusers.EulerDiscreteScheduler.from_config(config),
    "euler_a": lambda config: diffusers.EulerAncestralDiscreteScheduler.from_config(config),
    "dpmpp_2m_karras": lambda config: diffusers.DPMSolverMultistepScheduler.from_config(config, use_karras_sigmas=True),
    "lcm": lambda config: diffusers.LCMScheduler.from_config(config),
}
DRAWING = [
    f"scheduling_{name}"
    for name in (
        "ddim",
        "ddpm",
        "lcm",
        "tcd",
        "euler_ancestral_discrete",
        "k_dpm_2_ancestral_discrete",
        "dpmsolver_multistep",
        "dpmsolver_singlestep",
        "edm_dpmsolver_multistep",
    )
]
"""diffusers' modules of schedulers that add noise."""


class BrownianPath:
    """diffusers' noise sampler of DPM-Solver++ (SDE) with draws as inputs: the normed path from a step's start to its
    middle, and then to its end."""

    def __init__(self, draw: Draw):
        self._draw = draw
        self._half: tuple[torch.Tensor, torch.Tensor] | None = None

    def __call__(self, sigma: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        if self._half is None:
            self._half = torch.from_numpy(self._draw()), after
            return self._half[0]
        (path, middle), self._half = self._half, None
        rest = torch.from_numpy(self._draw())
        whole = path * (sigma - middle).sqrt() + rest * (middle - after).sqrt()
        return whole / (sigma - after).sqrt()


def scheduler_class(name: str) -> Any:
    """diffusers' class; torchsde, which one of them draws with, is stood in for by `BrownianPath`."""
    if name != "DPMSolverSDEScheduler":
        return getattr(diffusers, name)
    sys.modules.setdefault("torchsde", types.ModuleType("torchsde"))
    return importlib.import_module("diffusers.schedulers.scheduling_dpmsolver_sde").DPMSolverSDEScheduler


@dataclass(frozen=True)
class PeerWalk:
    noise_scale: float
    timesteps: list[float]
    latents: list[np.ndarray]


def scheduler(name: str, **settings: Any) -> Any:
    return SCHEDULERS[name]({**STABLE_DIFFUSION_V1, **settings})


def same_step_noise(monkeypatch: pytest.MonkeyPatch, draw: Draw | None = None) -> None:
    """Makes the schedulers that add noise take it from a source, `toy.draws` unless given, restarted here."""
    draw = draws() if draw is None else draw
    for module in DRAWING:
        where = f"diffusers.schedulers.{module}.randn_tensor"
        monkeypatch.setattr(where, lambda *args, **kwargs: torch.from_numpy(draw()))


def peer_walk(peer: Any, steps: int, noise: np.ndarray, denoise: Recorder) -> PeerWalk:
    """The loop of diffusers' text-to-image pipeline."""
    peer.set_timesteps(steps)
    scale = float(peer.init_noise_sigma)
    x = torch.from_numpy(noise * np.float32(scale))
    latents = []
    if hasattr(peer, "noise_sampler"):
        peer.noise_sampler = BrownianPath(draws())
    options = {"eta": 0.0} if "eta" in inspect.signature(peer.step).parameters else {}
    for timestep in peer.timesteps:
        shown = peer.scale_model_input(x, timestep)
        output = torch.from_numpy(denoise(shown.numpy(), float(timestep)))
        x = peer.step(output, timestep, x, **options).prev_sample
        latents.append(x.numpy())
    return PeerWalk(scale, peer.timesteps.tolist(), latents)
