"""`frido`: a picture of a prompt, or of a layout, drawn from coarse latents to fine ones (arXiv 2208.13753).

Both levels are drawn by one UNet. The coarse one is finished first, and its mean over blocks of two by two cells guides
the fine one; the decoder reads the codes of both.
"""

import math
from pathlib import Path

from x2i.models.frido.checkpoint import Frido, read_frido
from x2i.models.random.cascades.frido import random_frido, random_word_pieces
from x2i.models.text_encoders.word_pieces import word_piece_tokenizer
from x2i.runtime.bundle.calls import GraphCall
from x2i.runtime.bundle.plan import UNCONDITIONAL, Conditioner, Plan
from x2i.runtime.inputs.layout.boxes import LAYOUT_TOKENS, LayoutInput
from x2i.runtime.inputs.layout.rules import LayoutRules
from x2i.runtime.inputs.text.prompt import TextInput
from x2i.runtime.processes.guidance import Guidance
from x2i.runtime.processes.latents import Decoder, LatentsProcess, SamplerChoice, Unfinished
from x2i.runtime.processes.segment import Segment
from x2i.runtime.samplers.schedule import Schedule
from x2i.runtime.samplers.settings import SamplerSettings

from ..components.projection import KEYS, VALUES, pattern
from ..errors import PlanError
from ..plan import ExportPlan
from ..system import Build, SystemSpec, consume
from ..systems.base import TOKENIZER
from .frido_networks import (
    FINISHED,
    SCALES,
    SHIFTS,
    cells_multiple,
    guides_component,
    keys_component,
    layout_context_component,
    level_component,
    levels_decoder_component,
    pooled_component,
    prompt_context_component,
)

STEPS, ETA = 200, 1.0
TEXT_GUIDANCE, LAYOUT_GUIDANCE = 1.5, 1.0
"""Those by which the authors drew what they published."""
COARSE, POOLED = "coarse", "pooled"
"""The slots of the coarse level as it was drawn, and of its mean, which the fine level and the decoder read."""
DENOISERS = "coarse_denoiser", "denoiser"
CONTEXT = {"context": "context"}
PAIRS, MAPS = ({pattern(kind): pattern(kind) for kind in kinds} for kinds in ((KEYS, VALUES), (SCALES, SHIFTS)))
"""What both levels' cross-attentions read, and what the fine level's norms do: once a picture."""
PROJECTION = GraphCall("projection", CONTEXT, PAIRS)


def build_frido(plan: ExportPlan) -> Build:
    """Raises CheckpointError for files that are not Frido's, PlanError for a prompt's model without a tokenizer, or a
    layout's with one."""
    if plan.random_weights is not None:
        frido = random_frido(plan.random_weights)
        tokenizer = random_word_pieces(frido.encoder.settings.classes) if frido.task == "text" else None
    else:
        frido = read_frido(plan.parts["checkpoint"], plan.parts["config"])
        tokenizer = _tokenizer(frido, plan.parts.get("tokenizer"))
    reads = layout_context_component if tokenizer is None else prompt_context_component
    components = [
        reads(frido.encoder),
        keys_component(frido.unet),
        level_component(frido.unet, 0, DENOISERS[0]),
        pooled_component(frido.unet),
        guides_component(frido.unet, 1),
        level_component(frido.unet, 1, DENOISERS[1]),
        levels_decoder_component(frido.decoder),
    ]
    conditioner = _layout(frido) if tokenizer is None else _prompt(frido, tokenizer[1])
    tokenizers = {} if tokenizer is None else {TOKENIZER: tokenizer[0]}
    return Build(_plan(frido, conditioner), tokenizers, consume(components), len(components))


def _tokenizer(frido: Frido, path: Path | None) -> tuple[str, int] | None:
    """A prompt's tokenizer and its padding, None of a layout."""
    if (frido.task == "text") != (path is not None):
        wanted = "BERT's vocab.txt, or the folder of bert-base-uncased's tokenizer" if path is None else "none"
        got = "nothing" if path is None else str(path)
        raise PlanError(f"--part tokenizer: expected {wanted} for a model that draws of a {frido.task}, got {got}")
    return None if path is None else word_piece_tokenizer(path, frido.encoder.settings.classes)


def _prompt(frido: Frido, pad_id: int) -> Conditioner:
    text = TextInput(TOKENIZER, frido.encoder.settings.positions, pad_id)
    return Conditioner((GraphCall("text_encoder", {"input_ids": "input_ids"}, CONTEXT), PROJECTION), (text,))


def _layout(frido: Frido) -> Conditioner:
    """How many categories, objects and places a model was trained to read its files do not say: those of the reference
    are assumed, or fewer where its encoder knows fewer, and a layout may name others."""
    encoder, reference = frido.encoder.settings, LayoutRules()
    rules = LayoutRules(
        classes=max(1, min(reference.classes, encoder.classes // 2)),
        objects=max(1, min(reference.objects, (encoder.positions - 2) // 3)),
        places=min(reference.sections, math.isqrt(encoder.classes)) ** 2,
    )
    layout = LayoutInput(rules, encoder.classes, encoder.positions)
    inputs = {LAYOUT_TOKENS: LAYOUT_TOKENS, "unconditional": UNCONDITIONAL}
    return Conditioner((GraphCall("layout_encoder", inputs, CONTEXT), PROJECTION), (layout,))


def _plan(frido: Frido, conditioner: Conditioner) -> Plan:
    coarse, fine = frido.unet.settings.levels
    factor = frido.decoder.settings.factor
    size = (frido.side * factor,) * 2
    multiple = cells_multiple(frido.unet.settings) * factor
    schedule = Schedule(frido.noise.steps, frido.noise.start, frido.noise.end)
    # Their DDIM is CompVis': it ends at the first level of the schedule, and draws at its last step, too.
    sampler = SamplerChoice("ddim", STEPS, {"ddim": "ddim_compvis"}, SamplerSettings(eta=ETA))
    guidance = Guidance(TEXT_GUIDANCE if frido.task == "text" else LAYOUT_GUIDANCE)
    between = GraphCall("pooled", {"drawn": COARSE}, {"pooled": POOLED}), GraphCall("guides", {FINISHED: POOLED}, MAPS)
    first = LatentsProcess(
        segments=(Segment(DENOISERS[0], schedule.train_steps, PAIRS),),
        sampler=sampler,
        decoder=Unfinished(coarse, factor, size, multiple),
        schedule=schedule,
        guidance=guidance,
        writes=COARSE,
    )
    last = LatentsProcess(
        segments=(Segment(DENOISERS[1], schedule.train_steps, PAIRS | MAPS),),
        sampler=sampler,
        decoder=Decoder("decoder", fine, factor, size, multiple, "truncate", context={FINISHED: POOLED}),
        schedule=schedule,
        guidance=guidance,
    )
    return Plan((conditioner, Conditioner(between)), (first, last))


SYSTEM = SystemSpec(
    build_frido,
    required={
        "checkpoint": "the checkpoint, checkpoints/model.ckpt",
        "config": "its settings, the YAML beside it",
    },
    optional={
        "tokenizer": "for prompts: BERT's vocab.txt, or the folder of bert-base-uncased's tokenizer",
    },
    reads_clip=False,
    stands_alone=True,
    base=None,
)
