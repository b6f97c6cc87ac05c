"""`m-vader`: M-VADER (arXiv 2212.02936), Stable Diffusion on a context of texts and pictures, each with its weight.

Its authors published neither code nor weights. The encoder is MAGMA's, as that was published; that the context is the
language model's last states, how its elements are encoded together and what their weights do are assumptions.
"""

from functools import partial
from pathlib import Path

from x2i.models.errors import read_all
from x2i.models.m_vader.encoder import SequenceEncoder, read_sequence_encoder
from x2i.models.random.cascades.m_vader import random_sequence_encoder
from x2i.models.stable_diffusion.base import StableDiffusion
from x2i.runtime.bundle.calls import GraphCall
from x2i.runtime.bundle.plan import Conditioner
from x2i.runtime.inputs.text.items import ItemsInput
from x2i.runtime.items.sequence import CONTEXT, ITEM_EMBEDS, ITEM_IDS, ITEM_PIXELS

from ..components.projection import projection_stage
from ..errors import PlanError
from ..plan import ExportPlan
from ..system import Build, SystemSpec, consume
from ..systems.base import TOKENIZER, base_components, base_plan, read_base
from ..systems.lora import fold_loras
from .m_vader_networks import image_prefix_component, language_model_component, token_embeddings_component

ITEM_STATES = "item_states"
"""The slot of what the language model made of one sequence."""


def build_m_vader(plan: ExportPlan) -> Build:
    """Raises CheckpointError for a folder that is not M-VADER's, and PlanError for parts that do not fit."""
    base, encoder = _read(plan)
    base = fold_loras(base, plan)
    model, prefix = encoder.language_model, encoder.image_prefix
    settings = model.settings
    items = ItemsInput(
        TOKENIZER,
        settings.width,
        prefix.size,
        prefix.length,
        settings.positions,
        settings.end,
        **plan.composition,
    )
    conditioners = (
        Conditioner(
            (
                GraphCall("token_embeddings", {"input_ids": ITEM_IDS}, {"embeds": "item_words"}),
                GraphCall("image_prefix", {"pixels": ITEM_PIXELS}, {"embeds": "item_patches"}),
                GraphCall("language_model", {"embeds": ITEM_EMBEDS}, {"context": ITEM_STATES}),
            ),
            (items,),
        ),
        Conditioner((projection_stage(CONTEXT),)),
    )
    words, pictures = token_embeddings_component(model.wte), image_prefix_component(prefix)
    examples = {part.name: part.run(part.example(part.proof | {"tokens": 20}))["embeds"] for part in (words, pictures)}
    components = [
        words,
        pictures,
        language_model_component(model, examples),
        *base_components(base, weighted=True),
    ]
    drawn = base_plan(base, conditioners, None, base.layout, weighted=True)
    return Build(drawn, {TOKENIZER: encoder.tokenizer_json}, consume(components), len(components), base.notes)


def _read(plan: ExportPlan) -> tuple[StableDiffusion, SequenceEncoder]:
    """The base and the encoder, of one width; every problem of both at once."""
    if plan.random_weights is not None:
        base = read_base(plan, reads_text=False)
        return base, random_sequence_encoder(plan.random_weights, base.unet.config.cross_attention_dim)
    read: tuple[StableDiffusion, SequenceEncoder] = read_all(
        partial(read_base, plan, reads_text=False), partial(read_sequence_encoder, Path(str(plan.base)), plan.parts)
    )
    base, encoder = read
    width, made = base.unet.config.cross_attention_dim, encoder.language_model.settings.width
    if width != made:
        raise PlanError(
            f"language model: expected vectors of the UNet's cross_attention_dim {width}, got n_embd {made}; give the "
            "language model that this UNet was trained with"
        )
    return read


SYSTEM = SystemSpec(
    build_m_vader,
    optional={
        "language-model": "the folder of GPT-J with MAGMA's adapters, instead of the base's language_model",
        "image-encoder": "the folder of CLIP's vision tower, instead of the base's image_encoder",
        "image-prefix": "a file of the layers behind that tower, instead of the base's image_prefix.safetensors",
        "tokenizer": "the folder of the language model's tokenizer, instead of the base's",
    },
    reads_clip=False,
    composes=True,
    base="a folder of M-VADER: unet, vae, scheduler, language_model, image_encoder, image_prefix.safetensors and "
    "tokenizer",
)
