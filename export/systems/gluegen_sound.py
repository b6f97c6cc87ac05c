"""`gluegen-sound`: GlueGen's sound path, AudioCLIP's audio branch -> GlueNet translator -> Stable Diffusion v1.

Source: GlueGen (arXiv 2303.10056) and its released script, which always samples with DDIM and truncates to bytes.
"""

from x2i.models.errors import read_all
from x2i.models.random.weights import random_gluegen_sound
from x2i.models.sound.audioclip_checkpoint import read_audioclip
from x2i.models.translators.gluenet import read_tensor_norm
from x2i.models.translators.gluenet_sound import SoundConditioner, read_sound_translator, read_unconditional
from x2i.runtime.bundle.calls import GraphCall
from x2i.runtime.bundle.plan import Conditioner
from x2i.runtime.inputs.sound import MixInput, SoundInput
from x2i.runtime.processes.latents import SamplerChoice

from ..components.projection import projection_stage
from ..components.sound import audio_component, sound_translator_component
from ..errors import PlanError
from ..plan import ExportPlan
from ..sampling.defaults import COMPVIS_SAMPLING
from ..system import Build, SystemSpec, consume
from .base import base_components, base_plan, read_base
from .lora import fold_loras

SAMPLING = SamplerChoice("ddim", 50, COMPVIS_SAMPLING.aliases)


def build_gluegen_sound(plan: ExportPlan) -> Build:
    """Raises CheckpointError for a part that cannot be read, PlanError with every size that does not fit another."""
    base = fold_loras(read_base(plan, reads_text=False), plan)
    context = base.unet.config.cross_attention_dim
    if plan.random_weights is not None:
        encoder, conditioner, unconditional = random_gluegen_sound(plan.random_weights)
        translator = conditioner.translator
    else:
        parts = plan.parts
        encoder, translator = read_all(
            lambda: read_audioclip(parts["encoder"]), lambda: read_sound_translator(parts["translator"])
        )
        tokens = translator.tokens_out
        norm, unconditional = read_all(
            lambda: read_tensor_norm(parts["tensor-norm"], tokens),
            lambda: read_unconditional(parts["uncond"], tokens, translator.width_out),
        )
        conditioner = SoundConditioner(translator, norm)
    settings = encoder.settings
    expected = (settings.features, context)
    got = (translator.tokens * translator.width, translator.width_out)
    if got != expected:
        raise PlanError(
            f"translator: expected one from {expected[0]} features (the encoder's) to a width of {expected[1]} (the "
            f"UNet's context), got one from {got[0]} to {got[1]}"
        )
    hear = GraphCall("audio_encoder", {"waveform": "waveform"}, {"features": "features"})
    translate = GraphCall("translator", {"features": "features"}, {"context": "context"})
    conditioners = (
        Conditioner((hear, translate), (SoundInput(settings.rate, settings.frames),)),
        # A second bundle's prompt may be mixed in between.
        Conditioner((projection_stage("context"),), (MixInput("context", translator.tokens_out),)),
    )
    components = [
        audio_component(encoder),
        sound_translator_component(conditioner, unconditional),
        *base_components(base),
    ]
    plan_data = base_plan(base, conditioners, SAMPLING, "compvis")
    return Build(plan_data, {}, consume(components), len(components), base.notes)


SYSTEM = SystemSpec(
    build_gluegen_sound,
    SAMPLING,
    required={
        "encoder": "AudioCLIP's checkpoint",
        "translator": "GlueNet's sound translator",
        "tensor-norm": "the per-position norms of CLIP's text features",
        "uncond": "the unconditional context, null_cond_tensor.pt",
    },
    reads_clip=False,
)
