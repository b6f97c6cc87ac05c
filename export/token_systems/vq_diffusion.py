"""`vq-diffusion`: a picture of a prompt, of a class or of nothing, unmasked token by token over the whole grid.

Source: VQ-Diffusion (arXiv 2111.14822), Improved VQ-Diffusion (arXiv 2205.16007) and their released scripts, which
truncate to bytes. Guidance and truncation are the scripts' for each kind of checkpoint.
"""

from x2i.models.random.token_models import random_picture_tokens
from x2i.models.token_transformers.vq_diffusion_checkpoint import NULL_CLASS
from x2i.runtime.processes.guidance import Guidance
from x2i.runtime.token_samplers.mask_replace import MaskReplace
from x2i.runtime.token_samplers.reveal_priors import REVEAL_COUNTS, REVEAL_LENGTH

from ..plan import ExportPlan
from ..system import Build, SystemSpec
from .mask_replace import OPTIONAL, REQUIRED, Networks, picture_build, read_parts

PLAIN, LEARNED_TEXT, LEARNED_CLASS = (1.0, 0.86), (5.0, 1.0), (1.5, 0.94)
"""Guidance and truncation: of checkpoints that were not trained with nothing to go by, and of those that were."""


def build_vq_diffusion(plan: ExportPlan) -> Build:
    """Raises CheckpointError for files that are not what they should be, PlanError for those that do not fit."""
    parts = read_parts(plan, random_picture_tokens)
    settings, reads_text = parts.networks.model.transformer.settings, parts.networks.config.prompt is not None
    guidance, truncation = _defaults(parts.networks)
    sampler = MaskReplace(
        classes=settings.classes,
        steps=settings.steps,
        truncation=truncation,
        strides=reads_text,
        priors=reads_text and settings.length == REVEAL_LENGTH and settings.steps in REVEAL_COUNTS,
    )
    conditional = reads_text or parts.networks.classes > 0
    return picture_build(plan, parts, sampler, Guidance(guidance, "log_probabilities", fixed=not conditional))


def _defaults(networks: Networks) -> tuple[float, float]:
    if networks.model.null_text is not None:
        return LEARNED_TEXT
    rows = networks.model.transformer.settings.class_rows
    return LEARNED_CLASS if rows is not None and rows > NULL_CLASS else PLAIN


SYSTEM = SystemSpec(build_vq_diffusion, required=REQUIRED, optional=OPTIONAL, stands_alone=True, base=None)
