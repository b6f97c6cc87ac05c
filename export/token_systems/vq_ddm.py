"""`vq-ddm`: a picture of nothing, or what a mask leaves open of one, by multinomial diffusion over a codec's tokens.

Source: UniD3's class of that process (arXiv 2211.14842), which stands for VQ-DDM (arXiv 2112.01799).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor
from x2i.models.codecs.token_codec import TokenCodec, read_token_codec
from x2i.models.errors import read_all
from x2i.models.random.sizes import chosen_sizes
from x2i.models.random.token_models import random_picture_tokens
from x2i.models.token_transformers.vq_ddm_checkpoint import read_vq_ddm, read_vq_ddm_settings
from x2i.models.token_transformers.vq_diffusion import TokenTransformer
from x2i.runtime.bundle.calls import GraphCall
from x2i.runtime.bundle.plan import Conditioner, Plan
from x2i.runtime.inputs.pictures.start import StartInput
from x2i.runtime.processes.guidance import Guidance
from x2i.runtime.processes.segment import Segment
from x2i.runtime.processes.tails import PictureTail
from x2i.runtime.processes.tokens import TokensProcess
from x2i.runtime.token_samplers.multinomial import MultinomialDiffusion, cosine_tables

from ..components.codec import picture_tokens_component, token_decoder_component
from ..components.token_denoiser import TRANSFORMER, token_denoiser_component
from ..errors import PlanError
from ..plan import ExportPlan
from ..system import Build, SystemSpec, consume

RANDOM = {"tiny": "tiny-nothing"}
"""The names of random weights, and those of VQ-Diffusion's networks that they stand for."""
SCHEDULE_ERROR = 1e-5
"""Between logarithms of one schedule in float32."""


@dataclass(frozen=True, slots=True)
class VqDdmParts:
    """The network, (height, width) of its tokens, and the codec whose tokens they are, where one was given."""

    transformer: TokenTransformer
    grid: tuple[int, int]
    codec: TokenCodec | None


def build_vq_ddm(plan: ExportPlan) -> Build:
    """Raises CheckpointError for parts that cannot be read or do not belong together, PlanError for a checkpoint of
    another schedule. Without a codec there are tokens alone."""
    parts = _random(plan.random_weights) if plan.random_weights is not None else _read(plan)
    transformer, codec = parts.transformer, parts.codec
    components = [token_denoiser_component(transformer)]
    if codec is not None:
        components += [picture_tokens_component(codec, parts.grid), token_decoder_component(codec, parts.grid)]
    return Build(vq_ddm_plan(parts), {}, consume(components), len(components))


def vq_ddm_plan(parts: VqDdmParts) -> Plan:
    """The runtime's plan for these parts."""
    settings = parts.transformer.settings
    sampler = MultinomialDiffusion(settings.classes, settings.steps)
    codec = None if parts.codec is None else parts.codec.vqgan.settings
    factor = 1 if codec is None else codec.factor
    height, width = parts.grid
    gumbel = codec is not None and codec.gumbel
    start = StartInput(
        classes=settings.classes,
        factor=factor,
        multiple=factor,
        takes=("tokens", "mask") if codec is None else ("image", "tokens", "mask"),
        signed=True,
        fixed=(height * factor, width * factor),
        codes=codec.codes if codec is not None and gumbel else None,
    )
    read = {"pixels": "start_pixels"} | ({"exponential": "code_noise"} if gumbel else {})
    stages = () if codec is None else (GraphCall("image_tokens", read, {"tokens": "start_tokens"}),)
    process = TokensProcess(
        segments=(Segment(TRANSFORMER, sampler.steps, {}),),
        sampler=sampler,
        grid=parts.grid,
        tails=() if codec is None else (PictureTail("decoder", "round"),),
        guidance=Guidance(1.0, "logits", fixed=True),
        factor=factor,
    )
    return Plan((Conditioner(stages, (start,)),), (process,))


def _random(name: str) -> VqDdmParts:
    made = random_picture_tokens(chosen_sizes(RANDOM, name))
    return VqDdmParts(made.model.transformer, made.config.grid, made.codec)


def _read(plan: ExportPlan) -> VqDdmParts:
    given = plan.parts
    if "codes" in given and "codec" not in given:
        raise PlanError("--part codes: expected the codec whose codes it maps, got none; give codec, or leave it out")
    settings, _ = read_vq_ddm_settings(given["config"])
    model, codec = read_all(
        lambda: read_vq_ddm(given["checkpoint"], given["config"]),
        lambda: read_token_codec(given["codec"], given.get("codes"), settings.classes) if "codec" in given else None,
    )
    _check_schedule(settings.steps, model.schedule, f"--part checkpoint {given['checkpoint']}")
    return VqDdmParts(model.transformer, model.grid, codec)


def _check_schedule(steps: int, stored: Mapping[str, Tensor], source: str) -> None:
    """Raises PlanError where a checkpoint was trained on another schedule than the sampler walks."""
    tables = cosine_tables(steps)
    own = {
        "log_alpha": tables.kept,
        "log_1_min_alpha": tables.renewed,
        "log_cumprod_alpha": tables.kept_so_far,
        "log_1_min_cumprod_alpha": tables.renewed_so_far,
    }
    wrong = [name for name in own if not np.allclose(stored[name].numpy(), own[name], rtol=0, atol=SCHEDULE_ERROR)]
    if wrong:
        raise PlanError(
            f"{source}: expected the cosine schedule of {steps} steps, got another {', '.join(wrong)}; give a "
            "checkpoint of that schedule"
        )


SYSTEM = SystemSpec(
    build_vq_ddm,
    required={
        "checkpoint": "the model, model.pth",
        "config": "its configuration, config.json",
    },
    optional={
        "codec": "the picture codec's checkpoint, with its YAML beside it; without it there are tokens alone",
        "codes": "the map of the codec's codes to the model's, where it knows only some",
    },
    reads_clip=False,
    stands_alone=True,
    base=None,
)
