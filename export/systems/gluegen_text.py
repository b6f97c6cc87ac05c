"""`gluegen-text`: GlueGen's multilingual text path, XLM-R -> GlueNet translator -> Stable Diffusion v1.

Source: GlueGen (arXiv 2303.10056) and its released scripts, which run CompVis samplers and truncate to bytes.
"""

from transformers import XLMRobertaModel
from x2i.models.random.weights import random_gluegen_text
from x2i.models.stable_diffusion.base import StableDiffusion
from x2i.models.translators.gluenet import GlueNetConditioner, Translator, read_tensor_norm, read_translator
from x2i.models.translators.xlmr import read_xlmr, xlmr_tokenizer_json
from x2i.runtime.bundle.calls import GraphCall
from x2i.runtime.bundle.plan import Conditioner
from x2i.runtime.inputs.text.prompt import TextInput
from x2i.runtime.inputs.text.windows import WindowsInput

from ..components.projection import projection_stage
from ..components.text import translator_component, xlmr_component
from ..errors import PlanError
from ..plan import ExportPlan
from ..sampling.defaults import COMPVIS_SAMPLING
from ..system import Build, SystemSpec, consume
from .base import TOKENIZER, base_components, base_plan, read_base
from .lora import fold_loras


def build_gluegen_text(plan: ExportPlan) -> Build:
    """Reads all parts, then raises PlanError with every width and length that does not fit its neighbour."""
    base = fold_loras(read_base(plan, reads_text=False), plan)
    if plan.random_weights is not None:
        encoder, tokenizer, conditioners = random_gluegen_text(plan.random_weights)
    else:
        encoder, tokenizer = read_xlmr(plan.parts["encoder"]), xlmr_tokenizer_json(plan.parts["encoder"])
        translators = {language: read_translator(path) for language, path in plan.named("translator").items()}
        tokens = next(iter(translators.values())).tokens
        norm = read_tensor_norm(plan.parts["tensor-norm"], tokens)
        conditioners = {language: GlueNetConditioner(t, norm) for language, t in translators.items()}
    tokens = next(iter(conditioners.values())).translator.tokens
    problems = _misfits(base, encoder, {name: c.translator for name, c in conditioners.items()}, tokens)
    if problems:
        raise PlanError(*problems)
    conditioner = Conditioner(
        (
            GraphCall(
                "encoder", {"input_ids": "input_ids", "attention_mask": "attention_mask"}, {"features": "features"}
            ),
            GraphCall("translator.{language}", {"features": "features"}, {"context": "context"}),
            projection_stage("context"),
        ),
        (TextInput(TOKENIZER, tokens, encoder.config.pad_token_id), WindowsInput("context")),
    )
    width = encoder.config.hidden_size
    components = [
        xlmr_component(encoder, tokens),
        *(translator_component(language, c, tokens, width) for language, c in conditioners.items()),
        *base_components(base),
    ]
    plan_data = base_plan(base, (conditioner,), COMPVIS_SAMPLING, "compvis")
    return Build(plan_data, {TOKENIZER: tokenizer}, consume(components), len(components), base.notes)


def _misfits(
    base: StableDiffusion, encoder: XLMRobertaModel, translators: dict[str, Translator], tokens: int
) -> list[str]:
    context, features = base.unet.config.cross_attention_dim, encoder.config.hidden_size
    problems = []
    for language, translator in translators.items():
        expected, got = (tokens, features, context), (translator.tokens, translator.width, translator.width_out)
        if got != expected:
            problems.append(
                f"translator:{language}: expected {expected[0]} tokens of {expected[1]} (the encoder's width) to "
                f"{expected[2]} (the UNet's context), got {got[0]} tokens of {got[1]} to {got[2]}"
            )
    positions = encoder.config.max_position_embeddings - encoder.config.pad_token_id - 1
    if positions < tokens:
        problems.append(f"encoder: expected room for {tokens} tokens, got {positions} positions")
    return problems


SYSTEM = SystemSpec(
    build_gluegen_text,
    COMPVIS_SAMPLING,
    required={
        "encoder": "the XLM-R folder",
        "translator:LANGUAGE": "a GlueNet translator's checkpoint, one for each language",
        "tensor-norm": "the per-position norms of CLIP's text features",
    },
    reads_clip=False,
)
