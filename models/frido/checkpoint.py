"""Frido's checkpoint: the averaged weights of its UNet, the decoding half of its first stage, and its encoder."""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
from torch import Tensor

from ..errors import read_all
from ..readers.loading import Load, build_module, load_all_strictly
from ..readers.tensors import describe_checkpoint, read_tensors
from .codec import FridoDecoder
from .condition import TokenEncoder
from .settings import FridoSettings, NoiseSettings, Task, read_frido_settings
from .unet import FridoUnet

AVERAGED, RAW = "model_ema.", "model.diffusion_model."
"""Before the averaged copy of the UNet's parameters, by which pictures are drawn, and before the trained one."""
AVERAGED_NETWORK = "diffusion_model"
FIRST_STAGE, CONDITION = "first_stage_model.", "cond_stage_model."
AVERAGED_EXTRAS = (f"{AVERAGED}decay", f"{AVERAGED}num_updates")
FIRST_STAGE_EXTRAS = tuple(
    FIRST_STAGE + name
    for name in (
        "encoder.*",
        "ms_quant_conv.*",
        "upsample.*",
        "shared_decoder.*",
        "shared_post_quant_conv.*",
        "loss.*",
        "ms_quantize.*.cluster_size",
        "ms_quantize.*.embedding_avg",
    )
)
"""What encodes pictures, and what it was trained with."""
CONDITION_EXTRAS = (f"{CONDITION}transformer.to_logits.*",)
SCALE, ALPHAS = "scale_factor", "alphas_cumprod"
BUFFERS = ("betas", "alphas_cumprod*", "sqrt_*alphas_cumprod", "log_one_minus_alphas_cumprod", "sqrt_recip*",
           "posterior_*", "lvlb_weights", "logvar")  # fmt: skip
"""The schedule's, which its settings say, too."""
ALPHAS_ERROR = 1e-6
"""Of one schedule in float32."""


@dataclass(frozen=True, slots=True)
class Frido:
    """The networks of one checkpoint in eval mode and float32; `side` is the usual side of the latents in cells."""

    task: Task
    side: int
    noise: NoiseSettings
    encoder: TokenEncoder
    unet: FridoUnet
    decoder: FridoDecoder


def read_frido(checkpoint: Path, config: Path) -> Frido:
    """Frido from its checkpoint and its YAML. Raises CheckpointError with every setting that is another model's, or
    every key that is missing, unknown or of another shape."""
    settings, tensors = read_all(lambda: read_frido_settings(config), lambda: read_tensors(checkpoint))
    frido = frido_of(settings, str(config))
    load_all_strictly(_loads(frido, tensors, str(checkpoint)), _problems(tensors, settings, str(checkpoint)))
    return frido


def frido_of(settings: FridoSettings, source: str) -> Frido:
    """Networks of these sizes without weights; `source` names the settings in messages."""
    return Frido(
        settings.task,
        settings.side,
        settings.noise,
        build_module(lambda: TokenEncoder(settings.encoder), source),
        build_module(lambda: FridoUnet(settings.unet), source),
        build_module(lambda: FridoDecoder(settings.codec), source),
    )


def averaged_name(key: str) -> str:
    """The name of a parameter's average: its own without dots."""
    return f"{AVERAGED}{AVERAGED_NETWORK}{key.replace('.', '')}"


def _loads(frido: Frido, tensors: Mapping[str, Tensor], source: str) -> list[Load]:
    def under(*prefixes: str) -> dict[str, Tensor]:
        return {key: value for key, value in tensors.items() if key.startswith(prefixes)}

    names = {key: averaged_name(key) for key in frido.unet.state_dict()}
    assert len(set(names.values())) == len(names), "two parameters whose names differ by dots alone"
    decoder = {key: SCALE if key == SCALE else FIRST_STAGE + key for key in frido.decoder.state_dict()}
    encoder = {key: CONDITION + key for key in frido.encoder.state_dict()}
    averaged = under(AVERAGED)
    # Where there is none at all, one line says so.
    first = [Load(frido.unet, averaged, source, AVERAGED_EXTRAS, names)] if averaged else []
    return [
        *first,
        Load(frido.decoder, under(FIRST_STAGE, SCALE), source, FIRST_STAGE_EXTRAS, decoder),
        Load(frido.encoder, under(CONDITION), source, CONDITION_EXTRAS, encoder),
    ]


def _problems(tensors: Mapping[str, Tensor], settings: FridoSettings, source: str) -> list[str]:
    """What is wrong beside the keys of the networks."""
    found = []
    if not any(key.startswith(AVERAGED) for key in tensors):
        got = f"the trained copy {RAW} alone" if any(key.startswith(RAW) for key in tensors) else None
        found.append(
            f"{source}: expected the UNet's averaged weights, {AVERAGED}..., by which Frido draws, got "
            f"{got or describe_checkpoint(tensors)}; fix: give the checkpoint as published"
        )
    prefixes = (AVERAGED, RAW, FIRST_STAGE, CONDITION, SCALE)
    found += [
        f"{source}: expected the keys of Frido, got unexpected {key} {list(value.shape)}; fix: give the checkpoint as "
        "published"
        for key, value in tensors.items()
        if not key.startswith(prefixes) and not any(fnmatchcase(key, known) for known in BUFFERS)
    ]
    alphas = tensors.get(ALPHAS)
    if alphas is not None and not _is_schedule(alphas, settings.noise):
        found.append(
            f"{source}: expected {ALPHAS} of {settings.noise.steps} betas from {settings.noise.start:g} to "
            f"{settings.noise.end:g}, as the settings have them, got others; fix: give the checkpoint's own settings"
        )
    return found


def _is_schedule(alphas: Tensor, noise: NoiseSettings) -> bool:
    roots = np.linspace(noise.start**0.5, noise.end**0.5, noise.steps)
    expected = np.cumprod(1 - roots**2)
    if alphas.is_complex():
        return False
    given = alphas.double().numpy()
    return given.shape == expected.shape and bool(np.abs(given - expected).max() <= ALPHAS_ERROR)
