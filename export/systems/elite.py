"""`elite`: one picture of a subject becomes words of the prompt and patches that every cross-attention reads.

Source: ELITE (arXiv 2302.13848) and its released scripts, which sample with LMS at guidance 5 and strength 0.8.
"""

from x2i.models.clip.injected_text import InjectedText
from x2i.models.clip.vision import VisionLevels
from x2i.models.context_attention import set_cross_attention_weights
from x2i.models.random.weights import random_elite
from x2i.models.subjects.elite import read_elite
from x2i.runtime.bundle.calls import GraphCall
from x2i.runtime.bundle.plan import Conditioner
from x2i.runtime.inputs.pictures.subject import SubjectInput
from x2i.runtime.inputs.strength import Injection
from x2i.runtime.inputs.text.word import WordInput
from x2i.runtime.processes.latents import SamplerChoice

from ..components.projection import projection_stage
from ..components.text import injected_text_component
from ..components.vision import LEVEL, patches_component, vision_component, words_component
from ..errors import PlanError
from ..plan import ExportPlan
from ..system import Build, SystemSpec, consume
from .base import TOKENIZER, base_components, base_plan, base_text, read_base, require_text
from .lora import fold_loras

PLACEHOLDER = "S"
INJECTION = Injection(strength=0.8, at_word=True, unconditional=False)
SAMPLING = SamplerChoice("lms", 50)
GUIDANCE = 5.0


def build_elite(plan: ExportPlan) -> Build:
    """Raises CheckpointError for parts that do not fit one another, PlanError for a base without its text side."""
    _check_files(plan)
    base = read_base(plan)
    require_text(base, plan)
    if plan.random_weights is not None:
        elite = random_elite(plan.random_weights, base.unet)
    else:
        elite = read_elite(plan.parts["encoder"], plan.parts["global"], plan.parts["local"], base.unet)
    set_cross_attention_weights(base.unet, elite.global_weights)
    base = fold_loras(base, plan)
    text = base_text(base, plan, takes_mask=False)
    tower = VisionLevels(elite.vision)
    patches = tower.grid**2
    conditioners = (
        Conditioner(_subject_stages(), (SubjectInput(tower.image_size, tower.grid),)),
        Conditioner(_text_stages(), (*text.inputs, WordInput(PLACEHOLDER, elite.global_mapper.levels))),
    )
    components = [
        vision_component(tower),
        words_component(elite.global_mapper, patches),
        patches_component(elite.local_mapper, patches),
        injected_text_component(InjectedText(text.encoder, text.prompt.clip_skip), text.prompt.window),
        *base_components(base, elite.local_weights),
    ]
    plan_data = base_plan(base, conditioners, SAMPLING, "diffusers", INJECTION, GUIDANCE)
    return Build(plan_data, {TOKENIZER: text.tokenizer_json}, consume(components), len(components), text.notes)


def _check_files(plan: ExportPlan) -> None:
    """Both files have the same names and shapes inside, so that one in the place of both would draw something else."""
    files = {part: path.resolve() for part, path in plan.parts.items() if part in ("global", "local")}
    if len(files) == 2 and files["global"] == files["local"]:
        raise PlanError(
            f"--part local: expected local_mapper.pt, got {plan.parts['local']}, which is the global one too"
        )


def _subject_stages() -> tuple[GraphCall, ...]:
    """The whole picture becomes words, the masked one becomes patches, projected at once."""
    subject, masked, levels = "subject.*", "object.*", f"{LEVEL}.*"
    return (
        GraphCall("encoder", {"pixels": "subject_pixels"}, {levels: subject}),
        GraphCall("global_mapper", {levels: subject}, {"words": "words"}),
        GraphCall("encoder", {"pixels": "object_pixels"}, {levels: masked}),
        GraphCall("local_mapper", {"mask": "mask", levels: masked}, {"local": "local"}),
        projection_stage("local", local=True),
    )


def _text_stages() -> tuple[GraphCall, ...]:
    inputs = {name: name for name in ("input_ids", "words", "word_index", "learned")}
    return GraphCall("text_encoder", inputs, {"context": "context"}), projection_stage("context")


SYSTEM = SystemSpec(
    build_elite,
    SAMPLING,
    required={
        "encoder": "the CLIP vision tower's folder, or a whole CLIP's",
        "global": "global_mapper.pt",
        "local": "local_mapper.pt",
    },
    optional={"tokenizer": "the CLIP tokenizer's folder, for a CompVis base"},
)
