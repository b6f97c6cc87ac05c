"""`ediff-i`: an ensemble of denoisers that are experts for a range of noise each (eDiff-I, arXiv 2211.01324), over a
context of CLIP's text, T5's and a picture's embedding, each of which a run may leave out.

eDiff-I was never released: how the three enter the network is an assumption.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from x2i.models.context_attention import cross_attention_weights
from x2i.models.ediff_i.ensemble import Ensemble
from x2i.models.ediff_i.folder import EnsembleFiles, read_ensemble
from x2i.models.random.cascades.ediff_i import random_ensemble
from x2i.models.stable_diffusion.drawable import latent_size
from x2i.runtime.bundle.calls import GraphCall
from x2i.runtime.bundle.plan import Conditioner, Plan
from x2i.runtime.inputs.pictures.style import STYLE_EMBEDDING, STYLE_PIXELS, StyleInput
from x2i.runtime.inputs.text.contexts import CONDITIONS, KEPT, Condition, ContextsInput
from x2i.runtime.inputs.text.prompt import TextInput
from x2i.runtime.processes.guidance import Guidance
from x2i.runtime.processes.latents import Decoder, LatentsProcess, Pixels
from x2i.runtime.processes.segment import Segment
from x2i.runtime.samplers.schedule import Schedule

from ..components.decoder import decoder_component, decoder_plan
from ..components.denoiser import ADDED, denoiser_component, denoiser_context
from ..components.projection import projection_component, projection_stage
from ..errors import PlanError
from ..plan import ExportPlan
from ..sampling.defaults import DIFFUSERS_SAMPLING
from ..sampling.schedulers import read_sampling
from ..system import Build, SystemSpec, consume
from ..systems.base import TOKENIZER
from ..to_onnx import Component
from .ediff_i_networks import (
    ComposedContext,
    clip_states_component,
    composed_context_component,
    t5_states_component,
)
from .unclip_networks import image_embedding_component

T5_TOKENIZER = "t5_tokenizer.json"
LEVELS = "high", "mid", "low"
"""Names of experts that say where they stand, whatever order they are given in."""
GUIDANCE = 5.0


def build_ediff_i(plan: ExportPlan) -> Build:
    """Raises CheckpointError for parts that do not fit, PlanError for boundaries that do not."""
    if plan.random_weights is not None:
        ensemble = random_ensemble(plan.random_weights)
    else:
        ensemble = read_ensemble(
            EnsembleFiles(
                Path(str(plan.base)),
                _in_order(plan.named("expert")),
                plan.parts.get("t5"),
                plan.parts.get("clip-image"),
                plan.parts.get("projections"),
                plan.parts.get("scheduler"),
                plan.parts.get("vae"),
            )
        )
    sampling = read_sampling(ensemble.scheduler, "scheduler", as_written=True)
    segments = _segments(ensemble, plan, sampling.schedule)
    tokenizers = {TOKENIZER: ensemble.tokenizer.json}
    tokenizers |= {} if ensemble.t5 is None else {T5_TOKENIZER: ensemble.t5.encoder.tokenizer_json}
    process = LatentsProcess(
        segments=segments,
        sampler=sampling.sampler or DIFFUSERS_SAMPLING,
        decoder=_decoder(ensemble),
        schedule=sampling.schedule,
        guidance=Guidance(GUIDANCE),
    )
    components = _components(ensemble)
    made = Plan(_conditioners(ensemble), (process,))
    return Build(made, tokenizers, consume(components), len(components), ensemble.notes)


def _in_order(experts: Mapping[str, Path]) -> dict[str, Path]:
    """From the noisiest on: as their names say, or as they are given."""
    if set(experts) <= set(LEVELS):
        return {name: experts[name] for name in LEVELS if name in experts}
    return dict(experts)


def _conditions(ensemble: Ensemble) -> tuple[Condition, ...]:
    return tuple(name for name in CONDITIONS if name in ensemble.widths)


def _conditioners(ensemble: Ensemble) -> tuple[Conditioner, ...]:
    states = ["clip_states", "clip_pooled"]
    read = GraphCall("text_encoder", {"input_ids": "input_ids"}, {name: name for name in states})
    found = [Conditioner((read,), (TextInput(TOKENIZER, ensemble.window, ensemble.tokenizer.pad_id),))]
    if (t5 := ensemble.t5) is not None:
        read = GraphCall("t5_encoder", {name: name for name in t5.encoder.inputs}, {"t5_states": "t5_states"})
        found.append(Conditioner((read,), (TextInput(T5_TOKENIZER, t5.window, t5.encoder.pad_id),)))
        states.append("t5_states")
    if (vision := ensemble.vision) is not None:
        seen = GraphCall("image_encoder", {"pixels": STYLE_PIXELS}, {"image_embedding": STYLE_EMBEDDING})
        found.append(Conditioner((seen,), (StyleInput(vision.config.image_size, vision.config.projection_dim),)))
        states.append(STYLE_EMBEDDING)
    outputs = ["context", *([] if ensemble.vector is None else [ADDED])]
    composed = GraphCall("context", {name: name for name in (KEPT, *states)}, {name: name for name in outputs})
    projections = [projection_stage("context", f"{name}.", suffix=f"_{name}") for name in ensemble.experts]
    return (*found, Conditioner((composed, *projections), (ContextsInput(_conditions(ensemble)),)))


def _components(ensemble: Ensemble) -> list[Component]:
    text, t5, vision = ensemble.text, ensemble.t5, ensemble.vision
    width = text.config.hidden_size
    shapes = {"clip_states": (ensemble.window, width), "clip_pooled": (width,)}
    components = [clip_states_component(text, ensemble.window)]
    if t5 is not None:
        components.append(t5_states_component(t5))
        shapes["t5_states"] = t5.window, t5.encoder.width
    if vision is not None:
        components.append(image_embedding_component(vision))
        shapes[STYLE_EMBEDDING] = (vision.config.projection_dim,)
    context = ComposedContext(_conditions(ensemble), ensemble.projections, ensemble.vector)
    components.append(composed_context_component(context, shapes))
    if (vae := ensemble.vae) is not None:
        components.append(decoder_component(vae, float(vae.config.scaling_factor)))
    for name, unet in ensemble.experts.items():
        weights = cross_attention_weights(unet)
        # A LoRA of one expert would have to say of which it is.
        components.append(replace(projection_component(weights, suffix=f"_{name}"), lora=None))
        components.append(replace(denoiser_component(unet, name=f"denoiser_{name}"), lora=None))
    return components


def _decoder(ensemble: Ensemble) -> Decoder | Pixels:
    """The VAE's, or none: experts that draw pixels have three channels."""
    size = latent_size(ensemble.config)
    if ensemble.vae is not None:
        return decoder_plan(ensemble.vae, size, "diffusers")
    height, width = (size, size) if isinstance(size, int) else size
    return Pixels((height, width))


def _segments(ensemble: Ensemble, plan: ExportPlan, schedule: Schedule) -> tuple[Segment, ...]:
    """Each expert from its boundary downwards. Raises PlanError for boundaries that do not part the experts' ranges."""
    names = list(ensemble.experts)
    bounds = plan.boundaries
    if plan.random_weights is not None and not bounds:
        bounds = tuple(schedule.train_steps * left / len(names) for left in range(len(names) - 1, 0, -1))
    problems = []
    if len(bounds) != len(names) - 1:
        problems.append(
            f"--boundaries: expected {len(names) - 1} timesteps between {len(names)} experts ({', '.join(names)}), got "
            f"{len(bounds)}; give the timestep from which downwards each but the first is in charge"
        )
    elif list(bounds) != sorted(set(bounds), reverse=True):
        problems.append(
            f"--boundaries: expected falling timesteps, got {_said(bounds)}, whose ranges overlap; order them from the "
            "noisiest expert's end on"
        )
    elif not all(0 < bound < schedule.train_steps for bound in bounds):
        problems.append(
            f"--boundaries: expected timesteps between 0 and {schedule.train_steps}, got {_said(bounds)}, which leave "
            "an expert without any; take that expert out"
        )
    if problems:
        raise PlanError(*problems)
    added = {} if ensemble.vector is None else {ADDED: ADDED}
    return tuple(
        Segment(f"denoiser_{name}", begin, added | denoiser_context(slots=f"{name}."), below=number > 0)
        for number, (name, begin) in enumerate(zip(names, (schedule.train_steps, *bounds), strict=True))
    )


def _said(bounds: tuple[float, ...]) -> str:
    return ", ".join(f"{bound:g}" for bound in bounds)


SYSTEM = SystemSpec(
    build_ediff_i,
    required={"expert:NAME": "a UNet's folder in diffusers' layout, one for each range of noise, the noisiest first"},
    optional={
        "t5": "T5's folder, with its tokenizer",
        "clip-image": "the folder of CLIP's vision tower with its projection",
        "projections": "the file of the projections to the context, context_projections.safetensors",
        "scheduler": "the folder of the scheduler's settings",
        "vae": "the VAE's folder or file, for experts of latents",
    },
    stands_alone=True,
    base="a folder with CLIP's text_encoder and tokenizer in diffusers' layout",
)
