"""`cdcd`: pictures by VQ-Diffusion's process, trained to tell their conditions apart: of prompts, or of classes.

Source: CDCD (arXiv 2206.07771) and its released scripts, which truncate to bytes and guide nothing. The losses by which
it differs are of training alone.
"""

from x2i.models.random.token_models import random_picture_tokens
from x2i.runtime.processes.guidance import Guidance
from x2i.runtime.token_samplers.mask_replace import MaskReplace

from ..plan import ExportPlan
from ..system import Build, SystemSpec
from .mask_replace import OPTIONAL, REQUIRED, picture_build, read_parts

TRUNCATION = 0.86


def build_cdcd(plan: ExportPlan) -> Build:
    """Raises CheckpointError for files that are not what they should be, PlanError for those that do not fit."""
    parts = read_parts(plan, random_picture_tokens)
    settings = parts.networks.model.transformer.settings
    sampler = MaskReplace(
        classes=settings.classes,
        steps=settings.steps,
        truncation=TRUNCATION,
        strides=parts.networks.config.prompt is not None,
    )
    return picture_build(plan, parts, sampler, Guidance(1.0, "log_probabilities", fixed=True))


SYSTEM = SystemSpec(build_cdcd, required=REQUIRED, optional=OPTIONAL, stands_alone=True, base=None)
