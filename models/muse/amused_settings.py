"""Which published settings of aMUSEd's parts are drawn, and whether the parts of a folder fit one another.

The measure is diffusers' AmusedPipeline. A setting that the class of a part has and that is not looked at here is
carried by the module that is built from it; one that it does not have is refused by name.
"""

import inspect
from collections.abc import Mapping
from typing import Any

from ..clip.published_tokenizer import PublishedTokenizer
from ..readers.config_reader import ConfigReader

Settings = Mapping[str, Any]
MICRO_CONDITIONS = 5
"""Width, height, two edges of the crop, and the score of the looks."""
MASK_SCHEDULES = "cosine", "linear"
PIPELINES = "AmusedPipeline", "AmusedImg2ImgPipeline", "AmusedInpaintPipeline"
ENCODER_BLOCKS = "DownEncoderBlock2D", "AttnDownEncoderBlock2D"
DECODER_BLOCKS = "UpDecoderBlock2D", "AttnUpDecoderBlock2D"


def with_defaults(kind: type, settings: Settings) -> dict[str, Any]:
    """The settings of a part, those that the file leaves out as diffusers' class `kind` has them."""
    parameters = inspect.signature(kind.__init__).parameters.values()  # type: ignore[misc]
    return {p.name: p.default for p in parameters if p.default is not p.empty} | dict(settings)


def transformer_problems(settings: Settings, source: str) -> list[str]:
    """One line for each setting of a UVit2DModel that cannot be drawn; `source` names the configuration."""
    reader = ConfigReader(settings, source, model="aMUSEd")
    counts = {
        name: reader.count(name)
        for name in (
            "hidden_size",
            "cond_embed_dim",
            "micro_cond_encode_dim",
            "micro_cond_embed_dim",
            "encoder_hidden_size",
            "vocab_size",
            "codebook_size",
            "in_channels",
            "block_out_channels",
            "num_res_blocks",
            "block_num_heads",
            "num_hidden_layers",
            "num_attention_heads",
            "intermediate_size",
            "sample_size",
        )
    }
    for name in ("use_bias", "ln_elementwise_affine"):
        reader.only(name, True, False, absent=True)
    halved = reader.only("downsample", True, False, absent=False)
    reader.only("upsample", halved, absent=False)
    reader.number("layer_norm_eps")
    # Of training.
    reader.skip("hidden_dropout", "attention_dropout", "_class_name", "_diffusers_version", "_name_or_path")
    reader.close()
    problems = reader.problems
    for width, heads in (("hidden_size", "num_attention_heads"), ("block_out_channels", "block_num_heads")):
        if counts[width] % counts[heads]:
            problems.append(
                f"{source}: expected {width} as a multiple of {heads}, got {counts[width]} and {counts[heads]}; {_FIX}"
            )
    if counts["micro_cond_embed_dim"] != MICRO_CONDITIONS * counts["micro_cond_encode_dim"]:
        problems.append(
            f"{source}: expected micro_cond_embed_dim {MICRO_CONDITIONS} times micro_cond_encode_dim, one for each of "
            f"the micro conditions, got {counts['micro_cond_embed_dim']} and {counts['micro_cond_encode_dim']}; {_FIX}"
        )
    return problems


def vq_problems(settings: Settings, source: str) -> list[str]:
    """One line for each setting of a VQModel that cannot be drawn; `source` names the configuration."""
    reader = ConfigReader(settings, source, model="aMUSEd")
    for name in ("layers_per_block", "latent_channels", "num_vq_embeddings", "norm_num_groups"):
        reader.count(name)
    if reader.raw("vq_embed_dim") is not None:
        reader.count("vq_embed_dim")
    levels = len(reader.counts("block_out_channels"))
    for name in ("in_channels", "out_channels"):
        reader.only(name, 3, absent=3)
    for name, known in (("down_block_types", ENCODER_BLOCKS), ("up_block_types", DECODER_BLOCKS)):
        blocks = reader.raw(name)
        if not isinstance(blocks, list | tuple) or len(blocks) != levels or not set(map(str, blocks)) <= set(known):
            reader.problems.append(
                f"{source}: expected {name} of {' or '.join(known)}, one for each of {levels} widths, got {blocks!r}; "
                f"{_FIX}"
            )
    reader.only("norm_type", "group", absent="group")
    reader.only("act_fn", "silu", "swish", "mish", "gelu", "relu", absent="silu")
    reader.only("mid_block_add_attention", True, False, absent=True)
    reader.only("lookup_from_codebook", True, absent=False)
    # The pipeline scales no codes, decodes any size, and float32 needs no other precision.
    reader.skip("sample_size", "scaling_factor", "force_upcast", "_class_name", "_diffusers_version", "_name_or_path")
    reader.close()
    return reader.problems


def scheduler_problems(settings: Settings, source: str) -> list[str]:
    """One line for each setting of an AmusedScheduler that cannot be drawn; `source` names the configuration."""
    reader = ConfigReader(settings, source, model="aMUSEd")
    reader.only("_class_name", "AmusedScheduler", absent="AmusedScheduler")
    reader.count("mask_token_id")
    reader.only("masking_schedule", *MASK_SCHEDULES, absent=MASK_SCHEDULES[0])
    reader.skip("_diffusers_version")
    reader.close()
    return reader.problems


def fit_problems(
    transformer: Settings,
    vq: Settings,
    scheduler: Settings,
    text: Settings,
    tokenizer: PublishedTokenizer,
    source: str,
) -> list[str]:
    """One line for each way in which the parts of the folder `source` do not fit; each part by itself is right."""
    pairs = {
        "the transformer's codebook_size and the VQ model's num_vq_embeddings": (
            transformer["codebook_size"],
            vq["num_vq_embeddings"],
        ),
        "the transformer's encoder_hidden_size and the text encoder's hidden_size": (
            transformer["encoder_hidden_size"],
            text.get("hidden_size", 512),
        ),
        "the transformer's cond_embed_dim and the text encoder's projection_dim": (
            transformer["cond_embed_dim"],
            text.get("projection_dim", 512),
        ),
    }
    problems = [
        f"{source}: expected {what} to be equal, got {one!r} and {other!r}; fix: give the parts of one checkpoint"
        for what, (one, other) in pairs.items()
        if one != other
    ]
    mask, rows = scheduler["mask_token_id"], transformer["vocab_size"]
    if not transformer["codebook_size"] <= mask < rows:
        problems.append(
            f"{source}: expected the scheduler's mask_token_id from the transformer's codebook_size "
            f"{transformer['codebook_size']} to below its vocab_size {rows}, got {mask}; {_FIX}"
        )
    pieces = text.get("vocab_size", 49408)
    if tokenizer.size > pieces:
        problems.append(
            f"{source}: expected tokens below the text encoder's vocab_size of {pieces}, got ids up to "
            f"{tokenizer.size - 1} in {tokenizer.source}; fix: give the tokenizer of the checkpoint"
        )
    positions = text.get("max_position_embeddings", 77)
    if tokenizer.window is None or tokenizer.window > positions:
        problems.append(
            f"{source}: expected a model_max_length of at most the text encoder's {positions} positions, got "
            f"{tokenizer.window} in {tokenizer.source}; fix: give the tokenizer of the checkpoint"
        )
    return problems


_FIX = "fix: give the folder as it was published"
