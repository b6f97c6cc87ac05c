"""`gluegen-text`: GlueGen's text paths, a text encoder -> GlueNet translator -> Stable Diffusion v1, unchanged.

Source: GlueGen (arXiv 2303.10056) and its released scripts, which run CompVis samplers and truncate to bytes. What was
released reads XLM-R, with a translator a language. A stronger encoder, such as T5, is the paper's third use, of which
the embedder was not released: assumed is that it does as XLM-R's does, so that the encoder is handed the mask of the
padding, keeps the states of all positions, zeroes none, and has them divided by 3.
"""

from functools import partial

from x2i.models.errors import read_all
from x2i.models.random.weights import random_gluegen_text
from x2i.models.stable_diffusion.base import StableDiffusion
from x2i.models.text_encoders.prompt_encoder import PromptEncoder, read_prompt_encoder
from x2i.models.translators.gluenet import GlueNetConditioner, read_tensor_norm, read_translator
from x2i.runtime.bundle.calls import GraphCall
from x2i.runtime.bundle.plan import Conditioner
from x2i.runtime.inputs.text.prompt import TextInput
from x2i.runtime.inputs.text.windows import WindowsInput

from ..components.projection import projection_stage
from ..components.text import prompt_encoder_component, translator_component
from ..errors import PlanError
from ..plan import ExportPlan
from ..sampling.defaults import COMPVIS_SAMPLING
from ..system import Build, SystemSpec, consume
from .base import TOKENIZER, base_components, base_plan, read_base
from .lora import fold_loras

Translators = dict[str, GlueNetConditioner]


def build_gluegen_text(plan: ExportPlan) -> Build:
    """Reads all parts, then raises PlanError with every width and length that does not fit its neighbour."""
    base = fold_loras(read_base(plan, reads_text=False), plan)
    variant = plan.random_weights
    encoder, conditioners = _read_parts(plan) if variant is None else random_gluegen_text(variant)
    tokens = _tokens(conditioners)
    if problems := _misfits(plan, base, encoder, conditioners, tokens):
        raise PlanError(*problems)
    conditioner = Conditioner(
        (
            GraphCall("encoder", {name: name for name in encoder.inputs}, {"features": "features"}),
            GraphCall("translator.{language}", {"features": "features"}, {"context": "context"}),
            projection_stage("context"),
        ),
        (TextInput(TOKENIZER, tokens, encoder.pad_id), WindowsInput("context")),
    )
    components = [
        prompt_encoder_component(encoder, tokens),
        *(translator_component(language, c, tokens, encoder.width) for language, c in conditioners.items()),
        *base_components(base),
    ]
    plan_data = base_plan(base, (conditioner,), COMPVIS_SAMPLING, "compvis")
    return Build(plan_data, {TOKENIZER: encoder.tokenizer_json}, consume(components), len(components), base.notes)


def _read_parts(plan: ExportPlan) -> tuple[PromptEncoder, Translators]:
    paths = plan.named("translator")
    encoder, *read = read_all(
        partial(read_prompt_encoder, plan.parts["encoder"]),
        *(partial(read_translator, path) for path in paths.values()),
    )
    norm = plan.parts.get("tensor-norm")
    if norm is None and encoder.kind == RELEASED:
        raise PlanError(
            f"--part tensor-norm: expected {TENSOR_NORM}, which the translators released for XLM-R leave to it, got "
            "nothing; give GlueGen's tensor_norm"
        )
    norms = None if norm is None else read_tensor_norm(norm, read[0].tokens)
    return encoder, {name: GlueNetConditioner(each, norms) for name, each in zip(paths, read, strict=True)}


def _tokens(conditioners: Translators) -> int:
    return next(iter(conditioners.values())).translator.tokens


def _misfits(
    plan: ExportPlan, base: StableDiffusion, encoder: PromptEncoder, conditioners: Translators, tokens: int
) -> list[str]:
    context, folder = base.unet.config.cross_attention_dim, plan.parts.get("encoder")
    expected = tokens, encoder.width, context
    problems = []
    for name, translator in ((name, each.translator) for name, each in conditioners.items()):
        got = translator.tokens, translator.width, translator.width_out
        if got != expected:
            problems.append(
                f"--part translator:{name}: expected {tokens} tokens of {encoder.width} (the width of the encoder "
                f"{folder}, {encoder.kind}) to {context} (the UNet's context), got {got[0]} tokens of {got[1]} to "
                f"{got[2]}; give the translator that was trained for this encoder and this base"
            )
    if encoder.positions is not None and encoder.positions < tokens:
        problems.append(
            f"--part encoder: expected room for the translator's {tokens} tokens, got {encoder.positions} positions; "
            "give the encoder that the translator was trained for"
        )
    return problems


RELEASED = "xlm-roberta"
TENSOR_NORM = "the per-position norms of CLIP's text features"
SYSTEM = SystemSpec(
    build_gluegen_text,
    COMPVIS_SAMPLING,
    required={
        "encoder": "the text encoder's folder: XLM-R, T5, mT5, UMT5, BERT, RoBERTa or CLIP",
        "translator:LANGUAGE": "a GlueNet translator's checkpoint, one for each language (or one called T5)",
    },
    optional={"tensor-norm": f"{TENSOR_NORM}, for translators that were trained towards their directions"},
    reads_clip=False,
)
