"""diffusers' aMUSEd: its transformer with our random weights, and a step as its pipeline takes it."""

from collections.abc import Mapping

import numpy as np
import torch
from diffusers import AmusedScheduler
from torch import Tensor
from x2i.models.random.amused import random_amused

STEPS = 12
"""As its pipeline takes if not told otherwise."""


class DiffusersStep:
    """The released model with the random weights of `variant`, guided by the option `guidance`, above 1.

    The slots `context` [2, T, D], `pooled` [2, P] and `micro` [1 or 2, 5] are [unconditional, conditional].
    """

    def __init__(self, variant: str, slots: Mapping[str, np.ndarray], options: Mapping[str, float], compiled: bool):
        amused = random_amused(variant)
        self._model = torch.compile(amused.transformer) if compiled else amused.transformer
        self._conditions = {
            "encoder_hidden_states": torch.from_numpy(slots["context"]),
            "pooled_text_emb": torch.from_numpy(slots["pooled"]),
            "micro_conds": torch.from_numpy(np.broadcast_to(slots["micro"], (2, slots["micro"].shape[1])).copy()),
        }
        self._scale = options["guidance"]
        self._scheduler = AmusedScheduler(amused.mask_id)
        self._scheduler.set_timesteps(STEPS, temperature=(2, 0))
        self._random = torch.Generator().manual_seed(0)

    @torch.inference_mode()
    def step(self, tokens: np.ndarray, timestep: int) -> Tensor:
        """The next tokens [1, h, w], guided and drawn as `AmusedPipeline` does."""
        state = self._grid(tokens)
        unconditional, conditional = self._predicted(state).chunk(2)
        guided = unconditional + self._scale * (conditional - unconditional)
        return self._scheduler.step(guided, torch.tensor(timestep), state, generator=self._random).prev_sample

    @torch.inference_mode()
    def logits(self, tokens: np.ndarray, timestep: int) -> np.ndarray:
        """float32 [2, N, classes], [unconditional, conditional]."""
        return self._predicted(self._grid(tokens)).flatten(2).transpose(1, 2).contiguous().numpy()

    def _predicted(self, state: Tensor) -> Tensor:
        """Logits [2, classes, h, w]."""
        return self._model(torch.cat([state] * 2), **self._conditions)

    @staticmethod
    def _grid(tokens: np.ndarray) -> Tensor:
        side = int(tokens.shape[1] ** 0.5)
        return torch.from_numpy(tokens).reshape(1, side, side)
