"""diffusers' VQ-Diffusion: its transformer with our random weights, and a step as its pipeline takes it."""

from collections.abc import Mapping

import numpy as np
import torch
from diffusers import Transformer2DModel, VQDiffusionScheduler
from torch import Tensor
from x2i.models.random.token_models import random_picture_tokens
from x2i.models.token_transformers.vq_diffusion import TokenTransformerSettings

NAMES = {
    "content_emb": "latent_image_embedding",
    "blocks": "transformer_blocks",
    "to_logits.0": "norm_out",
    "to_logits.1": "out",
    ".ln1.": ".norm1.",
    ".ln1_1.": ".norm2.",
    ".ln2.": ".norm3.",
    ".query.": ".to_q.",
    ".key.": ".to_k.",
    ".value.": ".to_v.",
    ".proj.": ".to_out.0.",
    ".mlp.0.": ".ff.net.0.proj.",
    ".mlp.2.": ".ff.net.2.",
}
"""Parts of names, ours to diffusers'."""
LEAST = -70.0


class DiffusersStep:
    """The released model of so many classes and layers, with the random weights of `variant`.

    The last row of the slot `context`, float32 [T, D], is the prompt's; the option `truncation` is the share of the
    likeliest classes that is kept.
    """

    def __init__(self, variant: str, slots: Mapping[str, np.ndarray], options: Mapping[str, float], compiled: bool):
        transformer = random_picture_tokens(variant).model.transformer
        model = diffusers_transformer(transformer.settings)
        model.load_state_dict({_renamed(name): tensor for name, tensor in transformer.state_dict().items()})
        del transformer
        self._model = torch.compile(model) if compiled else model
        self._context, self._truncation = torch.from_numpy(slots["context"][-1:]), options["truncation"]
        self._scheduler = VQDiffusionScheduler(num_vec_classes=model.num_vector_embeds)
        self._scheduler.set_timesteps(self._scheduler.config.num_train_timesteps)
        self._random = torch.Generator().manual_seed(0)

    @torch.inference_mode()
    def step(self, tokens: np.ndarray, timestep: int) -> Tensor:
        """The next tokens [1, N], drawn and truncated as `VQDiffusionPipeline` does."""
        state = torch.from_numpy(tokens)
        expected = self._truncated(self._predicted(state, timestep)).clamp(LEAST)
        return self._scheduler.step(expected, torch.tensor(timestep), state, self._random).prev_sample

    @torch.inference_mode()
    def logits(self, tokens: np.ndarray, timestep: int) -> np.ndarray:
        """float32 [1, N, classes], log-probabilities."""
        return self._predicted(torch.from_numpy(tokens), timestep).transpose(1, 2).contiguous().numpy()

    def _predicted(self, tokens: Tensor, timestep: int) -> Tensor:
        """Log-probabilities [1, classes, N]."""
        at = torch.tensor(timestep)
        return self._model(tokens, encoder_hidden_states=self._context, timestep=at).sample

    def _truncated(self, log_probabilities: Tensor) -> Tensor:
        ordered, order = torch.sort(log_probabilities, 1, descending=True)
        kept = torch.exp(ordered).cumsum(dim=1) < self._truncation
        kept = torch.cat((torch.ones_like(kept[:, :1]), kept), dim=1)[:, :-1]
        return log_probabilities.masked_fill(~kept.gather(1, order.argsort(1)), -torch.inf)


def diffusers_transformer(settings: TokenTransformerSettings) -> Transformer2DModel:
    """diffusers' class of these sizes, its weights not set."""
    return Transformer2DModel(
        num_attention_heads=settings.heads,
        attention_head_dim=settings.width // settings.heads,
        num_layers=settings.layers,
        num_vector_embeds=settings.classes + 1,
        cross_attention_dim=settings.context_width,
        sample_size=settings.position_grid[0],
        attention_bias=True,
        num_embeds_ada_norm=settings.steps,
        activation_fn="geglu-approximate",
        norm_type="ada_norm",
    ).eval()


def _renamed(name: str) -> str:
    for ours, theirs in NAMES.items():
        name = name.replace(ours, theirs)
    return name
