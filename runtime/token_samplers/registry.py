"""All token samplers and their options. A new one is entered here, and nowhere else."""

from typing import Any, get_args

from .best_first import BestFirst, BestFirstOptions
from .joint.process import JointDiffusion, JointOptions
from .mask_replace import MaskReplace, MaskReplaceOptions
from .masked_decoding import MaskedDecoding, MaskedDecodingOptions
from .multinomial import MultinomialDiffusion

TokenSamplerRecord = MaskReplace | BestFirst | MaskedDecoding | MultinomialDiffusion | JointDiffusion
"""What a plan may walk tokens by."""
TOKEN_SAMPLERS: tuple[Any, ...] = get_args(TokenSamplerRecord)


class TokenSamplerOptions(MaskReplaceOptions, BestFirstOptions, MaskedDecodingOptions, JointOptions, total=False):
    """What token samplers may be told."""
