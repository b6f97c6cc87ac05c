"""What the vision tower's frozen layers make of every training subject's reference pictures, computed once and kept."""

from itertools import permutations
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from ..elite.subject_latents import LatentView, characters
from ..recipe import clip, text
from ..recipe.training import device, low_precision
from ..world.scenes import wide_pictures
from ..world.subject_views import View, normalised, plain_view, rendered

CHANGES = tuple(LatentView(flipped, (r, g, b)) for flipped in (False, True) for r, g, b in permutations((0, 1, 2)))
"""Mirrored or not, colours in every order: what the reference picture and the target are both changed by."""
VIEWS = 2
"""Reference pictures of each changed subject."""
TRAINED_LAYERS = 2
"""How many of the tower's last layers the authors train; the others are frozen."""
SMALLEST = 40
CHUNK = 240


def view(subject: int, change: int, number: int) -> View:
    """The first view of a subject stands in the middle, the second at another place and size; each is on a plain
    background of its own, which stays: FastComposer's reference pictures have no mask."""
    rng = np.random.default_rng([41, subject, change, number])
    changed = CHANGES[change]
    return plain_view(rng, not number, SMALLEST, changed.flipped, changed.channels)


def reference(subject: int, change: int, number: int) -> np.ndarray:
    """The reference picture, uint8 [64, 64, 3]."""
    return rendered(wide_pictures()[characters()[subject]], view(subject, change, number))


def fresh_encoder() -> CLIPVisionModelWithProjection:
    """The tower of stage `clip` with a projection to the text's width, weights not yet read."""
    settings = clip.build().config.vision_config.to_dict()
    return CLIPVisionModelWithProjection(CLIPVisionConfig(**{**settings, "projection_dim": text.WIDTH}))


def image_encoder(folder: Path) -> CLIPVisionModelWithProjection:
    """The tower as stage `clip` left it and a fresh projection, ready to be trained."""
    model = fresh_encoder().to(device())
    model.vision_model.load_state_dict(clip.trained(folder).vision_model.state_dict())
    thaw(model)
    return model


def thaw(model: CLIPVisionModelWithProjection) -> None:
    """What FastComposer trains of the encoder wants a gradient, the rest none."""
    model.requires_grad_(False)
    model.vision_model.encoder.layers[-TRAINED_LAYERS:].requires_grad_(True)
    model.visual_projection.requires_grad_(True)


def objects(model: CLIPVisionModelWithProjection, states: Tensor) -> Tensor:
    """Object embeddings [n, E] from what the frozen layers made, [n, 1 + patches, width]."""
    hidden = states
    for layer in model.vision_model.encoder.layers[-TRAINED_LAYERS:]:
        hidden = layer(hidden, attention_mask=None)
    return model.visual_projection(model.vision_model.post_layernorm(hidden[:, 0]))


@torch.no_grad()
def states(folder: Path) -> Tensor:
    """float16 [subjects, changes, views, 1 + patches, width], kept in `folder/fastcomposer_views.pt`."""
    path = folder / "fastcomposer_views.pt"
    if not path.exists():
        model = image_encoder(folder).eval()
        order = np.ndindex(len(characters()), len(CHANGES), VIEWS)
        keys = [tuple(map(int, key)) for key in order]
        chunks = [_frozen(model, keys[start : start + CHUNK]) for start in range(0, len(keys), CHUNK)]
        torch.save(torch.cat(chunks).unflatten(0, (len(characters()), len(CHANGES), VIEWS)), path)
    return torch.load(path, map_location=device(), weights_only=True)


def _frozen(model: CLIPVisionModelWithProjection, keys: list[tuple[int, ...]]) -> Tensor:
    images = [reference(*key) for key in keys]
    with low_precision():
        seen = model.vision_model(pixel_values=normalised(images), output_hidden_states=True)
    return seen.hidden_states[-1 - TRAINED_LAYERS].half()
