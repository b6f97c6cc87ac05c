"""`muse`: Muse (arXiv 2301.00704) as it was published, aMUSEd (arXiv 2401.01808): a picture from a prompt, redrawn from
another one, or completed where a mask says so."""

from pathlib import Path
from typing import Any, cast

from x2i.models.errors import CheckpointError
from x2i.models.muse.amused import Amused, read_amused
from x2i.models.random.amused import random_amused
from x2i.runtime.bundle.calls import GraphCall
from x2i.runtime.bundle.plan import Conditioner, Plan
from x2i.runtime.inputs.micro import MicroConditions
from x2i.runtime.inputs.pictures.start import StartInput
from x2i.runtime.inputs.sampling import MOST_STEPS
from x2i.runtime.inputs.text.prompt import TextInput
from x2i.runtime.processes.guidance import Guidance
from x2i.runtime.processes.segment import Segment
from x2i.runtime.processes.tails import PictureTail
from x2i.runtime.processes.tokens import TokensProcess
from x2i.runtime.token_samplers.masked_decoding import MaskedDecoding

from ..components.muse import (
    pixels_per_token,
    projected_text_component,
    uvit_component,
    uvit_context,
    uvit_projection_component,
    vq_picture_component,
    vq_tokens_component,
)
from ..plan import ExportPlan
from ..system import Build, SystemSpec, consume
from ..systems.base import TOKENIZER

GUIDANCE = 10.0
"""That of diffusers' pipelines."""


def build_muse(plan: ExportPlan) -> Build:
    """Raises CheckpointError for a folder that is not aMUSEd's."""
    amused = _read(plan)
    window = amused.tokenizer.window
    assert window is not None, "a tokenizer without a window is refused when it is read"
    text = projected_text_component(amused.text, window)
    projection = uvit_projection_component(amused.transformer, text)
    components = [
        text,
        projection,
        uvit_component(amused.transformer, projection),
        vq_picture_component(amused.vq),
        vq_tokens_component(amused.vq),
    ]
    return Build(_plan(amused, window), {TOKENIZER: amused.tokenizer.json}, consume(components), len(components))


def _read(plan: ExportPlan) -> Amused:
    if plan.random_weights is not None:
        return random_amused(plan.random_weights)
    assert plan.base is not None
    folder = Path(plan.base)
    if not folder.is_dir():
        raise CheckpointError(f"--base {folder}: expected a folder of aMUSEd, got none there; fix: download it first")
    return read_amused(folder)


def _plan(amused: Amused, window: int) -> Plan:
    config, factor = amused.transformer.config, pixels_per_token(amused.vq)
    multiple = factor * (2 if config.downsample else 1)
    start = StartInput(
        classes=config.codebook_size,
        factor=factor,
        multiple=multiple,
        takes=("image", "mask", "strength", "tokens"),
        mask_id=amused.mask_id,
    )
    side = max(config.sample_size * factor // multiple, 1) * multiple // factor
    process = TokensProcess(
        segments=(Segment("transformer", MOST_STEPS, uvit_context()),),
        sampler=MaskedDecoding(config.codebook_size, amused.mask_id, mask_schedule=cast(Any, amused.mask_schedule)),
        grid=(side, side),
        tails=(PictureTail("decoder"),),
        guidance=Guidance(GUIDANCE, "logits"),
        factor=factor,
        any_grid=True,
        size_multiple=multiple,
        takes_timestep=False,
    )
    encoded = GraphCall("image_tokens", {"pixels": "start_pixels"}, {"tokens": "start_tokens"})
    read = GraphCall("text_encoder", {"input_ids": "input_ids"}, {"context": "context", "pooled": "pooled"})
    context = {name: name for name in ("context", "pooled", "micro")}
    conditioners = (
        Conditioner((encoded,), (start,)),
        Conditioner(
            (read, GraphCall("projection", context, uvit_context())),
            (TextInput(TOKENIZER, window, amused.tokenizer.pad_id), MicroConditions()),
        ),
    )
    return Plan(conditioners, (process,))


SYSTEM = SystemSpec(build_muse, stands_alone=True, base="a folder of aMUSEd in diffusers' layout, such as amused-256")
