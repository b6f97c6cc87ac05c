"""Which published settings of a UNet and a VAE are drawn, and whether the parts of a base fit one another.

The measure is diffusers' StableDiffusionPipeline: what it hands to its parts is handed over here, and nothing else. A
setting that is not listed is either carried by the module that is built from it, or changes nothing of a picture.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ..clip.published_tokenizer import PublishedTokenizer

Settings = Mapping[str, Any]
"""A published configuration."""
SAMPLE_SIZE = 64
"""Latents on a side where a configuration states none, or one of diffusers before 0.9 states fewer."""
UNET_BLOCKS = {
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
    "mid_block_type": ("UNetMidBlock2DCrossAttn", "UNetMidBlock2D", None),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D", "AttnUpBlock2D"),
}
VAE_BLOCKS = {
    "down_block_types": ("DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
    "up_block_types": ("UpDecoderBlock2D", "AttnUpDecoderBlock2D"),
}
# Settings by which a UNet reads more than latents, time and a text's states, or reads these in another way.
UNET_OFF = (
    "class_embed_type",
    "num_class_embeds",
    "class_embeddings_concat",
    "addition_embed_type",
    "encoder_hid_dim",
    "encoder_hid_dim_type",
    "dual_cross_attention",
)
# Settings that are one whole number, and those that are one or a list of one for each block.
UNET_COUNTS = (
    ("in_channels", "out_channels", "norm_num_groups"),
    (
        "block_out_channels",
        "layers_per_block",
        "cross_attention_dim",
    ),
)
VAE_COUNTS = ("latent_channels", "norm_num_groups", "layers_per_block"), ("block_out_channels",)
TINY = "AutoencoderTiny"
"""The class of a VAE of a few convolutions, such as TAESD."""
TINY_COUNTS = (
    ("in_channels", "out_channels", "latent_channels", "upsampling_scaling_factor"),
    ("encoder_block_out_channels", "decoder_block_out_channels", "num_encoder_blocks", "num_decoder_blocks"),
)
LEAST_SCALE = 4
"""Sines and cosines of a guidance scale, of two rates at least."""
PICTURE_CHANNELS = {1: "grey", 3: "RGB"}
PIPELINE_IGNORES = ("shift_factor", "latents_mean", "latents_std")
"""Settings of a VAE that other pipelines apply to latents, and StableDiffusionPipeline does not."""
INPAINTING_CHANNELS = 9
# What the channels of a UNet's input are besides the VAE's four, by their number.
_OTHER_TASKS = {
    5: "depth beside the latents",
    7: "a small picture beside the latents, for upscaling",
    8: "a picture's latents beside the noise, as instruct-pix2pix does",
    INPAINTING_CHANNELS: "a mask and a masked picture beside the latents, for inpainting",
}


def latent_size(unet: Settings) -> Any:
    """The UNet's default latent size, as the pipeline takes it: a whole number, or a list of height and width.

    Source: `StableDiffusionPipeline.__init__`, which raises what configurations before diffusers 0.9 state below 64;
    where none is stated, 64, as Optimum takes.
    """
    size = unet.get("sample_size")
    version = re.match(r"0\.(\d+)(?:\.|$)", str(unet.get("_diffusers_version", "")))
    old = version is not None and int(version[1]) < 9
    if size is None or (old and _is_count(size) and size < SAMPLE_SIZE):
        return SAMPLE_SIZE
    return size


def size_notes(unet: Settings, source: str) -> list[str]:
    """One line where the default size is not the one that a UNet's configuration states."""
    stated, taken = unet.get("sample_size"), latent_size(unet)
    if taken == stated:
        return []
    why = "none is stated" if stated is None else f"diffusers takes {stated} of before 0.9 so"
    return [f"{source}: sample_size is {taken} latents; {why}"]


def unet_problems(unet: Settings, source: str) -> list[str]:
    """One line for each setting of a UNet2DConditionModel that cannot be drawn; `source` names the configuration."""
    problems = [
        f"{source}: expected {name} unset, got {unet[name]!r}; {_OTHER_MODEL}"
        for name in UNET_OFF
        if unet.get(name) not in (None, False)
    ]
    problems += _count_problems(unet, *UNET_COUNTS, source) + _block_problems(unet, UNET_BLOCKS, source)
    scale = unet.get("time_cond_proj_dim")
    if scale is not None and not (_is_count(scale) and scale >= LEAST_SCALE):
        problems.append(
            f"{source}: expected time_cond_proj_dim as a whole number from {LEAST_SCALE} on, got {scale!r}; "
            f"{_AS_PUBLISHED}"
        )
    crossed = unet.get("only_cross_attention")
    if any(crossed) if isinstance(crossed, list | tuple) else crossed:
        problems.append(f"{source}: expected only_cross_attention false, got {crossed!r}; {_OTHER_MODEL}")
    widths = unet.get("cross_attention_dim")
    if isinstance(widths, list | tuple) and len(set(map(repr, widths))) != 1:
        problems.append(f"{source}: expected one cross_attention_dim, got {widths!r}; {_OTHER_MODEL}")
    blocks = [*_listed(unet.get("down_block_types")), *_listed(unet.get("up_block_types"))]
    reads = any("CrossAttn" in str(block) for block in [*blocks, unet.get("mid_block_type", "CrossAttn")])
    if blocks and not reads:
        problems.append(f"{source}: expected a block with cross-attention, which reads the prompt, got {blocks}")
    size = latent_size(unet)
    sides = size if isinstance(size, list | tuple) and len(size) == 2 else [size]
    if not all(map(_is_count, sides)):
        problems.append(
            f"{source}: expected sample_size as latents on a side, or height and width, got {size!r}; {_AS_PUBLISHED}"
        )
    return problems


def vae_problems(vae: Settings, source: str) -> list[str]:
    """One line for each setting of an AutoencoderKL or a tiny one that cannot be drawn; `source` names the
    configuration."""
    tiny = vae.get("_class_name") == TINY
    single, listed = TINY_COUNTS if tiny else VAE_COUNTS
    problems = _count_problems(vae, single, listed, source)
    problems += _width_problems(vae, source) if tiny else _block_problems(vae, VAE_BLOCKS, source)
    channels = vae.get("out_channels", 3)
    if not isinstance(channels, int) or channels not in PICTURE_CHANNELS:
        drawn = " or ".join(f"{number} ({name})" for number, name in PICTURE_CHANNELS.items())
        problems.append(f"{source}: expected out_channels {drawn}, got {channels!r}; fix: give a VAE of pictures")
    scale = vae.get("scaling_factor", 1.0)
    if not isinstance(scale, int | float) or isinstance(scale, bool) or not 0 < scale < float("inf"):
        problems.append(f"{source}: expected scaling_factor as a positive number, got {scale!r}; {_AS_PUBLISHED}")
    return problems


def channel_problems(unet: Settings, vae: Settings, source: str, inpainting: bool = False) -> list[str]:
    """One line where the UNet's latents are not the VAE's, or it gives others than it takes; a UNet for `inpainting`
    takes a mask and a masked picture's latents, too."""
    read, latents = unet.get("in_channels", 4), vae.get("latent_channels", 4)
    given = unet.get("out_channels", 4)
    if inpainting:
        if given == latents and isinstance(latents, int) and read == 2 * latents + 1:
            return []
        return [
            f"{source}: expected a UNet with in_channels 9 and out_channels 4 for --inpainting, and a VAE with "
            f"latent_channels 4, got {read!r}, {given!r} and {latents!r}; fix: leave --inpainting out, or give a base "
            "for inpainting"
        ]
    if read == given == latents:
        return []
    task, fix = "", "give a text-to-image base, or its own VAE"
    if latents != read and isinstance(read, int) and read in _OTHER_TASKS:
        task = f"; it reads {_OTHER_TASKS[read]}"
        fix = f"add --inpainting, or {fix}" if read == INPAINTING_CHANNELS else fix
    return [
        f"{source}: expected one number of channels in latents, got a UNet with in_channels {read!r} and out_channels "
        f"{given!r}, and a VAE with latent_channels {latents!r}{task}; fix: {fix}"
    ]


def text_problems(
    unet: Settings, text_encoder: Settings, tokenizer: PublishedTokenizer | None, source: str
) -> list[str]:
    """One line for each way in which UNet, text encoder and tokenizer do not fit: width, vocabulary, length."""
    problems = []
    width, given = cross_attention_width(unet), text_encoder.get("hidden_size", 512)
    if width != given:
        problems.append(
            f"{source}: expected a text encoder of hidden_size {width!r}, the UNet's cross_attention_dim, got one of "
            f"{given!r}; fix: give the text encoder that the UNet was trained with"
        )
    rows, positions = text_encoder.get("vocab_size", 49408), text_encoder.get("max_position_embeddings", 77)
    if tokenizer is not None and _is_count(rows) and tokenizer.size > rows:
        problems.append(
            f"{source}: expected tokens below the text encoder's vocab_size of {rows}, got ids up to "
            f"{tokenizer.size - 1} in {tokenizer.source}, which have no row of its embeddings; fix: give the tokenizer "
            "and the text encoder of one checkpoint"
        )
    if tokenizer is not None and tokenizer.window is not None and _is_count(positions) and tokenizer.window > positions:
        problems.append(
            f"{source}: expected a model_max_length of at most the text encoder's {positions} positions, got "
            f"{tokenizer.window} in {tokenizer.source}; fix: give the tokenizer and the text encoder of one checkpoint"
        )
    return problems


def cross_attention_width(unet: Settings) -> Any:
    """The width of the states that the UNet's cross-attention reads, of which all layers have the same."""
    width = unet.get("cross_attention_dim", 1280)
    return width[0] if isinstance(width, list | tuple) and width else width


def ignored_notes(vae: Settings, source: str) -> list[str]:
    """One line where a VAE has settings for other pipelines than StableDiffusionPipeline."""
    present = [name for name in PIPELINE_IGNORES if vae.get(name) not in (None, 0.0)]
    if not present:
        return []
    return [f"{source}: {', '.join(present)} not applied, as diffusers' StableDiffusionPipeline does not"]


def _count_problems(settings: Settings, single: Iterable[str], listed: Iterable[str], source: str) -> list[str]:
    wrong = [name for name in single if name in settings and not _is_count(settings[name])]
    wrong += [
        name
        for name in listed
        if name in settings and not (settings[name] and all(map(_is_count, _listed(settings[name]))))
    ]
    return [
        f"{source}: expected {name} in positive whole numbers, got {settings[name]!r}; {_AS_PUBLISHED}"
        for name in wrong
    ]


def _width_problems(tiny: Settings, source: str) -> list[str]:
    """A tiny autoencoder's blocks hand one another their states as they are."""
    names = ("encoder_block_out_channels", "decoder_block_out_channels")
    return [
        f"{source}: expected one width in {name}, got {tiny[name]!r}; {_AS_PUBLISHED}"
        for name in names
        if len(set(map(repr, _listed(tiny.get(name))))) > 1
    ]


def _block_problems(settings: Settings, drawn: Mapping[str, tuple[Any, ...]], source: str) -> list[str]:
    problems = []
    for name, known in drawn.items():
        if name not in settings:
            continue
        given = settings[name] if name == "mid_block_type" else _listed(settings[name])
        each = [given] if name == "mid_block_type" else given
        # Older names of the same blocks.
        strange = [block for block in each if str(block).removeprefix("UNetRes") not in map(str, known)]
        if strange:
            listed = ", ".join(map(str, known))
            problems.append(
                f"{source}: expected {name} of {listed}, got {', '.join(map(str, strange))}; {_OTHER_MODEL}"
            )
    return problems


def _listed(value: Any) -> Iterable[Any]:
    return value if isinstance(value, list | tuple) else [] if value is None else [value]


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


_OTHER_MODEL = "fix: give a Stable Diffusion 1 or 2 base; this one is another model"
_AS_PUBLISHED = "fix: give the folder as it was published"
