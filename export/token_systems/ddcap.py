"""`ddcap`: a picture's caption, all of its words at once, by discrete diffusion.

Source: DDCap (arXiv 2211.11694); its guidance scale is the 1.06 of its evaluation.
"""

from x2i.models.errors import read_all
from x2i.models.random.captioner import random_ddcap
from x2i.models.token_transformers.ddcap import DdcapSizes
from x2i.models.token_transformers.ddcap_checkpoint import read_ddcap
from x2i.models.token_transformers.gpt2_tokenizer import GPT2_END, read_gpt2_tokenizer
from x2i.runtime.bundle.calls import GraphCall
from x2i.runtime.bundle.plan import Conditioner, Plan
from x2i.runtime.inputs.pictures.image import SeenImageInput
from x2i.runtime.processes.guidance import Guidance
from x2i.runtime.processes.segment import Segment
from x2i.runtime.processes.tails import TextTail
from x2i.runtime.processes.tokens import TokensProcess
from x2i.runtime.token_samplers.best_first import BestFirst

from ..components.captioner import caption_component, picture_component, picture_projection_component
from ..components.projection import KEYS, VALUES, pattern, projection_stage
from ..errors import PlanError
from ..plan import ExportPlan
from ..system import Build, SystemSpec, consume

GUIDANCE = Guidance(1.06, "log_probabilities")
DETOKENIZER = "detokenizer.json"


def build_ddcap(plan: ExportPlan) -> Build:
    """Raises CheckpointError for a part that cannot be read, PlanError for another checkpoint's tokenizer."""
    if plan.random_weights is not None:
        model, tokenizer = random_ddcap(plan.random_weights)
    else:
        model, tokenizer = read_all(
            lambda: read_ddcap(plan.parts["checkpoint"], plan.parts.get("config")),
            lambda: read_gpt2_tokenizer(plan.parts["tokenizer"]),
        )
    if tokenizer.size != model.sizes.vocab:
        raise PlanError(
            f"--part tokenizer: expected {model.sizes.vocab} ids, the checkpoint's vocabulary, got {tokenizer.size}; "
            "give the tokenizer that it was trained with"
        )
    picture = picture_component(model)
    projection = picture_projection_component(model, picture)
    components = [picture, projection, caption_component(model, projection)]
    return Build(caption_plan(model.sizes), {DETOKENIZER: tokenizer.json}, consume(components), len(components))


def caption_plan(sizes: DdcapSizes) -> Plan:
    """The runtime's plan for a model of these sizes."""
    see = GraphCall("image_encoder", {"pixels": "image_pixels"}, {name: name for name in ("context", "length_logits")})
    sampler = BestFirst(sizes.steps, sizes.tokens, sizes.mask_id)
    key_values = {pattern(kind): pattern(kind) for kind in (KEYS, VALUES)}
    process = TokensProcess(
        segments=(Segment("transformer", sampler.steps - 1, key_values),),
        sampler=sampler,
        grid=(1, sizes.tokens),
        tails=(TextTail(DETOKENIZER, end=GPT2_END, tidy=True),),
        guidance=GUIDANCE,
    )
    picture = SeenImageInput(sizes.patch * sizes.grid)
    return Plan((Conditioner((see, projection_stage("context")), (picture,)),), (process,))


SYSTEM = SystemSpec(
    build_ddcap,
    required={
        "checkpoint": "DDCap's checkpoint, ...-best.pt or ...-009.pt",
        "tokenizer": "the folder of GPT-2's tokenizer, vocab.json and merges.txt",
    },
    optional={
        "config": "GPT-2's settings as transformers writes them, where its heads are not 64 wide; else the config.json "
        "beside the checkpoint, if there is one"
    },
    reads_clip=False,
    stands_alone=True,
    base=None,
)
