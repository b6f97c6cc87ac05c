"""`unclip`: unCLIP (arXiv 2204.06125) as Karlo published it: a prior imagines a picture's embedding, a decoder draws a
small picture of it, and super resolution enlarges it. Variations of a picture begin with its own embedding."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from x2i.models.random.cascades.unclip import random_karlo
from x2i.models.unclip.karlo import Karlo, read_karlo
from x2i.models.unclip.karlo_settings import SCHEDULER
from x2i.runtime.bundle.calls import GraphCall
from x2i.runtime.bundle.plan import UNCONDITIONAL, Conditioner, Plan
from x2i.runtime.inputs.pictures.variation import VariationInput
from x2i.runtime.inputs.stages import PriorStage, SuperResolutionStage
from x2i.runtime.inputs.text.prompt import TextInput
from x2i.runtime.processes.guidance import Guidance
from x2i.runtime.processes.latents import LatentsProcess, Pixels, SamplerChoice
from x2i.runtime.processes.segment import Segment
from x2i.runtime.processes.vectors import VectorsProcess
from x2i.runtime.samplers.schedule import Schedule
from x2i.runtime.samplers.settings import SamplerSettings

from ..plan import ExportPlan
from ..system import Build, SystemSpec, consume
from ..systems.base import TOKENIZER
from .unclip_networks import (
    TEXTS,
    decoder_context_component,
    enlarged_component,
    image_embedding_component,
    pixel_decoder_component,
    prior_components,
    prompt_states_component,
    super_resolution_component,
)

PRIOR_STEPS, DECODER_STEPS, SUPER_RESOLUTION_STEPS = 25, 25, 7
PRIOR_GUIDANCE, DECODER_GUIDANCE = 4.0, 8.0
"""Those of Karlo's pipelines."""
EMBEDDING = "image_embedding"
"""The slot that the prior, or a picture, fills."""
DRAWN, ENLARGED = "drawn", "enlarged"


def build_unclip(plan: ExportPlan) -> Build:
    """Raises CheckpointError for a folder that is not Karlo's."""
    karlo = random_karlo(plan.random_weights) if plan.random_weights is not None else read_karlo(Path(str(plan.base)))
    window = karlo.text.config.max_position_embeddings
    context = decoder_context_component(karlo.text_proj, karlo.text, window)
    small, large = karlo.decoder.config.sample_size, karlo.super_res_first.config.sample_size
    components = [
        prompt_states_component(karlo.text, window),
        *([] if karlo.vision is None else [image_embedding_component(karlo.vision)]),
        *([] if karlo.prior is None else prior_components(karlo.prior, karlo.text, window)),
        context,
        pixel_decoder_component(karlo.decoder, context),
        enlarged_component(small, large),
        super_resolution_component(karlo.super_res_first, "super_resolution"),
        super_resolution_component(karlo.super_res_last, "super_resolution_last"),
    ]
    return Build(_plan(karlo, window), {TOKENIZER: karlo.tokenizer.json}, consume(components), len(components))


def _plan(karlo: Karlo, window: int) -> Plan:
    varies = karlo.vision is not None
    text = TextInput(TOKENIZER, window, karlo.tokenizer.pad_id, blank=varies)
    read = GraphCall("text_encoder", {"input_ids": "input_ids"}, {name: name for name in TEXTS[:2]})
    conditioners = [Conditioner((read,), (text,))]
    if karlo.vision is not None:
        variation = VariationInput(
            karlo.vision.config.image_size, karlo.vision.config.projection_dim, prompts=karlo.prior is not None
        )
        seen = GraphCall("image_encoder", {"pixels": "image_pixels"}, {EMBEDDING: EMBEDDING})
        conditioners.append(Conditioner((seen,), (variation,)))
    inputs = (EMBEDDING, UNCONDITIONAL, *TEXTS)
    made = GraphCall(
        "decoder_context", {name: name for name in inputs}, {name: name for name in ("context", "added", "read")}
    )
    enlarged = GraphCall("enlarged", {"small": DRAWN}, {"enlarged": ENLARGED})
    conditioners += [Conditioner((made,)), Conditioner((enlarged,))]
    prior = () if karlo.prior is None else (_prior(karlo.prior, karlo.schedulers["prior"]),)
    return Plan(tuple(conditioners), (*prior, _decoder(karlo), _super_resolution(karlo)))


def _prior(prior: Any, scheduler: Mapping[str, Any]) -> VectorsProcess:
    schedule, settings = _sampling(scheduler)
    return VectorsProcess(
        segments=(Segment("prior", schedule.train_steps, {name: name for name in TEXTS}),),
        sampler=SamplerChoice("unclip", PRIOR_STEPS, settings=settings),
        width=prior.config.embedding_dim,
        writes=EMBEDDING,
        schedule=schedule,
        guidance=Guidance(PRIOR_GUIDANCE),
        stage=PriorStage(),
        tail="prior_tail",
    )


def _decoder(karlo: Karlo) -> LatentsProcess:
    schedule, settings = _sampling(karlo.schedulers["decoder"])
    size = karlo.decoder.config.sample_size
    return LatentsProcess(
        segments=(Segment("denoiser", schedule.train_steps, {name: name for name in ("context", "added", "read")}),),
        sampler=SamplerChoice("unclip", DECODER_STEPS, settings=settings),
        decoder=Pixels((size, size), fixed=True),
        schedule=schedule,
        guidance=Guidance(DECODER_GUIDANCE, unguided=("variance",)),
        writes=DRAWN,
        learned_variance=True,
    )


def _super_resolution(karlo: Karlo) -> LatentsProcess:
    """The last step, at timestep 0, has a network of its own."""
    schedule, settings = _sampling(karlo.schedulers["super_res"])
    size = karlo.super_res_first.config.sample_size
    return LatentsProcess(
        segments=tuple(
            Segment(graph, start, {"enlarged": ENLARGED})
            for graph, start in (("super_resolution", schedule.train_steps), ("super_resolution_last", 0))
        ),
        sampler=SamplerChoice("unclip", SUPER_RESOLUTION_STEPS, settings=settings),
        decoder=Pixels((size, size), fixed=True),
        schedule=schedule,
        guidance=Guidance(1.0),
        stage=SuperResolutionStage(),
    )


def _sampling(scheduler: Mapping[str, Any]) -> tuple[Schedule, SamplerSettings]:
    """A scheduler's settings, its defaults filled in."""
    values = SCHEDULER | dict(scheduler)
    schedule = Schedule(
        train_steps=values["num_train_timesteps"],
        beta_schedule=values["beta_schedule"],
        prediction_type=values["prediction_type"],
    )
    settings = SamplerSettings(
        clip_sample=values["clip_sample"],
        clip_sample_range=float(values["clip_sample_range"]),
        variance_type=values["variance_type"],
    )
    return schedule, settings


SYSTEM = SystemSpec(
    build_unclip, stands_alone=True, base="a folder of Karlo in diffusers' layout, such as karlo-v1-alpha"
)
