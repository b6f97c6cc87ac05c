"""The files of a multinomial diffusion model over a codec's tokens.

They are of UniD3's class (arXiv 2211.14842) with VQ-Diffusion's unconditional transformer, and stand for VQ-DDM (arXiv
2112.01799), whose own code is not public.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ..errors import CheckpointError
from ..readers.config_reader import ConfigReader
from ..readers.given_files import given_json
from ..readers.loading import Load, build_module, load_all_strictly
from ..readers.tensors import read_tensors
from .vq_diffusion import TokenTransformer, TokenTransformerSettings
from .vq_diffusion_config import transformer_settings

NETWORK = "_denoise_fn.transformer."
UNIFORM_BUFFERS = ("log_alpha", "log_1_min_alpha", "log_cumprod_alpha", "log_1_min_cumprod_alpha")
"""The schedule's, each with a number for each timestep."""
EXTRAS = ("Lt_history", "Lt_count")
"""Statistics of the losses."""


@dataclass(frozen=True, slots=True)
class VqDdm:
    """`transformer` in eval mode and float32, for tokens of a `grid` (height, width); `schedule` holds the float32
    buffers by the names in UNIFORM_BUFFERS, [steps] each."""

    transformer: TokenTransformer
    grid: tuple[int, int]
    schedule: dict[str, Tensor]


def read_vq_ddm(checkpoint: Path, config: Path) -> VqDdm:
    """The model of a checkpoint and its JSON configuration.

    Raises CheckpointError with every setting that is absent, odd or another model's, or every tensor that is missing,
    unknown or of another shape.
    """
    settings, grid = read_vq_ddm_settings(config)
    tensors = read_tensors(checkpoint)
    transformer = build_module(lambda: TokenTransformer(settings), str(config))
    names = {key: NETWORK + key for key in transformer.state_dict()}
    load = Load(transformer, tensors, str(checkpoint), (*EXTRAS, *UNIFORM_BUFFERS), names)
    load_all_strictly([load], _buffer_problems(tensors, settings.steps, str(checkpoint)))
    return VqDdm(transformer, grid, {name: tensors[name].float() for name in UNIFORM_BUFFERS})


def read_vq_ddm_settings(path: Path) -> tuple[TokenTransformerSettings, tuple[int, int]]:
    """The transformer's settings and the tokens' (height, width), of a file with the sections `diffusion` and
    `network`; raises CheckpointError."""
    top = ConfigReader(given_json(path), str(path), model="VQ-DDM")
    network, diffusion = top.mapping("network"), top.section("diffusion")
    # The sections as VQ-Diffusion's configuration has them.
    sections = {
        "alpha_init_type": "alpha1",
        "diffusion_step": network.get("diffusion_step"),
        "transformer_config": {"params": {k: v for k, v in network.items() if k != "content_emb_config"}},
        "content_emb_config": network.get("content_emb_config"),
    }
    settings, grid = transformer_settings(ConfigReader(sections, f"{path}, network", top.problems, "VQ-DDM"))
    if settings.class_rows is not None or settings.context_width is not None:
        top.note("a network of attn_type 'self', which reads tokens alone", network.get("attn_type"))
    diffusion.only("parametrization", "x0", absent="x0")
    diffusion.only("schedule", "cosine", absent="cosine")
    sizes = {"num_classes": settings.classes, "timesteps": settings.steps}
    for key, expected in sizes.items():
        diffusion.only(key, expected, absent=None)
    shape = diffusion.counts("shape")
    if math.prod(shape) != settings.length:
        diffusion.note(f"shape as the network's {settings.length} tokens", shape)
    diffusion.close()
    top.close()
    if top.problems:
        raise CheckpointError(*top.problems)
    return settings, grid


def _buffer_problems(tensors: Mapping[str, Tensor], steps: int, source: str) -> list[str]:
    """What is wrong with the schedule's buffers."""
    found = {name: list(tensors[name].shape) if name in tensors else "none" for name in UNIFORM_BUFFERS}
    return [
        f"{source}: expected {name} {[steps]}, got {got}; fix: give the checkpoint, or the configuration, that belongs "
        "to it"
        for name, got in found.items()
        if got != [steps]
    ]
