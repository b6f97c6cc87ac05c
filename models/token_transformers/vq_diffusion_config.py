"""The configuration of VQ-Diffusion and of those who share its code: what the transformer is, and what steers it.

It is the YAML file of a training run. Settings of training, memory and file places change nothing here; any other
setting that is not known, or that the transformer of this room does not have, is refused by its name.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from ..readers.config_reader import ConfigReader
from ..readers.given_files import given_yaml
from .vq_diffusion import TokenTransformerSettings

TRAINING = (
    "auxiliary_loss_weight",
    "adaptive_auxiliary_loss",
    "mask_weight",
    "contrastive_intra_loss_weight",
    "contrastive_inter_loss_weight",
    "intra_mode",
    "inter_mode",
    "intra_neg_sample",
)
"""Settings of the losses; the contrastive ones are CDCD's."""
KINDS = {"selfcross": "text", "selfcondition": "class", "self": "nothing"}
"""What a transformer is conditioned by, by its `attn_type`."""
SPECIAL_TOKENS = 256
"""Tokens of CLIP's vocabulary above its `end_idx`."""


@dataclass(frozen=True, slots=True)
class PromptSettings:
    """CLIP's text encoder as the configuration has it: `end_idx` + 256 tokens, `window` of them a prompt, `width`."""

    end_idx: int
    window: int
    width: int

    @property
    def vocabulary(self) -> int:
        """Rows of the token embedding."""
        return self.end_idx + SPECIAL_TOKENS


@dataclass(frozen=True, slots=True)
class VqDiffusionConfig:
    """`grid` is (height, width) of the tokens; `prompt` is None where no text is read; `learned_null` says that a
    trained vector stands for no text. `codec` are the settings of the codec's own class, which are not checked here."""

    transformer: TokenTransformerSettings
    grid: tuple[int, int]
    prompt: PromptSettings | None
    learned_null: bool
    codec: dict[str, Any]
    source: str


def read_vq_diffusion_config(path: Path, besides: tuple[str, ...] = ()) -> VqDiffusionConfig:
    """The settings of the file at `path`; `besides` are sections of its model that the caller reads itself.

    Raises CheckpointError that lists every setting that is absent, odd, unknown or another model's.
    """
    top = ConfigReader(given_yaml(path), str(path), model="VQ-Diffusion")
    model = top.section("model").section("params")
    model.skip("content_info", "condition_info", *besides)
    diffusion = model.section("diffusion_config").section("params")
    transformer, grid = transformer_settings(diffusion)
    learned_null = diffusion.only("learnable_cf", True, False, absent=False)
    prompt = None
    if transformer.context_width is not None:
        prompt = _prompt(model, diffusion, transformer.context_width)
    elif transformer.class_rows is not None:
        classes = diffusion.section("condition_emb_config").section("params")
        classes.only("identity", True, absent=False)
        classes.skip("num_embed", "embed_dim")
        classes.close()
    diffusion.close()
    codec = model.section("content_codec_config").mapping("params")
    model.close()
    if top.problems:
        raise CheckpointError(*top.problems)
    return VqDiffusionConfig(transformer, grid, prompt, learned_null, codec, str(path))


def transformer_settings(diffusion: ConfigReader) -> tuple[TokenTransformerSettings, tuple[int, int]]:
    """What `diffusion_config` says of transformer and schedule, and the tokens' (height, width).

    What it says of the condition is left to the caller, who closes the section. Problems go to the section's list.
    """
    diffusion.only("alpha_init_type", "alpha1", absent="cos")
    diffusion.skip(*TRAINING)
    params = diffusion.section("transformer_config").section("params")
    stated = params.only("attn_type", *KINDS, absent="selfcross")
    kind = KINDS.get(stated, "nothing") if isinstance(stated, str) else "nothing"
    params.only("block_activate", "GELU2", absent=None)
    params.only("timestep_type", "adalayernorm", absent="adalayernorm")
    params.skip("attn_pdrop", "resid_pdrop", "checkpoint", "condition_seq_len", "diffusion_step", "content_emb_config")
    height, width = _pair(params, "content_spatial_size")
    settings = TokenTransformerSettings(
        classes=1,
        steps=diffusion.count("diffusion_step"),
        length=params.count("content_seq_len"),
        position_grid=(1, 1),
        width=params.count("n_embd"),
        layers=params.count("n_layer"),
        heads=params.count("n_head"),
        mlp_factor=params.count("mlp_hidden_times") if "mlp_hidden_times" in params else 4,
        convolutional=params.only("mlp_type", "fc", "conv_mlp", absent="fc") == "conv_mlp",
        context_width=params.count("condition_dim") if kind == "text" else None,
        class_rows=params.count("class_number") if kind == "class" else None,
    )
    if kind == "class":
        params.only("class_type", "adalayernorm", absent="adalayernorm")
    params.close()
    settings = _embedding(diffusion.section("content_emb_config").section("params"), settings)
    params.problems += _misfits(settings, (height, width), params.where)
    return settings, (height, width)


def _embedding(params: ConfigReader, settings: TokenTransformerSettings) -> TokenTransformerSettings:
    """The settings with what the content embedding adds: the classes, and the position table."""
    params.only("pos_emb_type", "embedding", absent="embedding")
    params.only("embed_dim", settings.width, absent=None)
    params.skip("trainable")
    table = _pair(params, "spatial_size")
    classes = params.count("num_embed")
    params.close()
    return replace(settings, classes=classes, position_grid=table)


def _prompt(model: ConfigReader, diffusion: ConfigReader, width: int) -> PromptSettings:
    codec = model.section("condition_codec_config").section("params")
    codec.only("add_start_and_end", True, absent=False)
    codec.only("pad_value", 0, absent=0)
    codec.only("clip_embedding", False, absent=False)
    codec.skip("with_mask")
    tokenizer = codec.section("tokenizer_config").section("params")
    settings = PromptSettings(tokenizer.count("end_idx"), codec.count("context_length"), width)
    tokenizer.close()
    codec.close()
    encoder = diffusion.section("condition_emb_config").section("params")
    encoder.only("num_embed", settings.vocabulary, absent=None)
    encoder.only("embed_dim", width, absent=None)
    encoder.only("normalize", True, absent=True)
    for key in ("pick_last_embedding", "keep_seq_len_dim", "additional_last_embedding"):
        encoder.only(key, False, absent=False)
    encoder.skip("clip_name")
    encoder.close()
    return settings


def _pair(section: ConfigReader, key: str) -> tuple[int, int]:
    """(height, width); the authors write one number for a square."""
    value = section.raw(key)
    if isinstance(value, int) and not isinstance(value, bool):
        side = section.count(key)
        return side, side
    sides = section.counts(key)
    if len(sides) != 2:
        section.note(f"{key} as two positive whole numbers", value)
        return 1, 1
    return sides[0], sides[1]


def _misfits(settings: TokenTransformerSettings, grid: tuple[int, int], where: str) -> list[str]:
    """Sizes that no transformer can have together."""
    length, places = settings.length, math.prod(settings.position_grid)
    found = []
    if math.prod(grid) != length:
        found.append(f"content_seq_len {math.prod(grid)} for a grid of {grid[0]} x {grid[1]}, got {length}")
    if length > places:
        found.append(f"a position table of {length} places or more, got {places}")
    if settings.width % settings.heads:
        found.append(f"a width that {settings.heads} heads divide, got {settings.width}")
    if settings.convolutional and math.isqrt(length) ** 2 != length:
        found.append(f"tokens in a square for convolutions, got {length}")
    return [f"{where}: expected {each}; fix: give the checkpoint's own settings" for each in found]
