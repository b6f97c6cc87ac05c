"""Frido's YAML: what is drawn from, and the sizes of its three networks."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..codecs.vqgan_checkpoint import pyramid_settings
from ..errors import refuse
from ..readers.config_reader import ConfigReader
from ..readers.given_files import given_yaml
from .codec import CodecSettings
from .condition import EncoderSettings
from .unet import UnetSettings

Task = Literal["text", "layout"]
LAYOUT_KEY = "objects_bbox"
"""What a configuration calls a layout; scene graphs and labels have other names."""
LEVELS = 2
"""Of every release: the order of more in the decoder is not known."""
TRAINING = ("base_learning_rate", "adopted_scale_factor", "noise_mix_ratio", "first_stage_key", "num_timesteps_cond",
            "log_every_t", "loss_type", "cond_stage_trainable", "scale_by_std", "scale_factor", "monitor", "ckpt_path",
            "ignore_keys", "load_only_unet", "scheduler_config", "v_posterior", "l_simple_weight",
            "original_elbo_weight", "learn_logvar", "logvar_init", "concat_mode", "cond_stage_forward",
            "clip_denoised")  # fmt: skip


@dataclass(frozen=True, slots=True)
class NoiseSettings:
    """`steps` betas, evenly spaced in their square roots from `start` to `end`."""

    steps: int
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class FridoSettings:
    """What a configuration says. `side` is the usual side of the latents, in cells."""

    task: Task
    side: int
    noise: NoiseSettings
    unet: UnetSettings
    codec: CodecSettings
    encoder: EncoderSettings


def read_frido_settings(path: Path) -> FridoSettings:
    """The settings of a published YAML; raises CheckpointError with every one that is absent, odd, unknown, or of
    another kind of model."""
    whole = ConfigReader(given_yaml(path), str(path), model="Frido")
    model = whole.section("model")
    _check_target(model, "FridoDiffusion")
    read = model.section("params")
    read.skip(*TRAINING)
    read.only("conditioning_key", "crossattn", absent=None)
    read.only("parameterization", "eps", absent="eps")
    read.only("beta_schedule", "linear", absent="linear")
    read.only("use_ema", True, absent=True)
    read.only("given_betas", None, absent=None)
    settings = FridoSettings(
        task=_task(read),
        side=read.count("image_size"),
        noise=NoiseSettings(read.count("timesteps"), read.number("linear_start"), read.number("linear_end")),
        unet=_unet(read.section("unet_config")),
        codec=_codec(read.section("first_stage_config")),
        encoder=_encoder(read.section("cond_stage_config")),
    )
    channels = read.count("channels")
    read.close()
    if not read.problems:
        read.problems.extend(_neighbour_problems(settings, channels, str(path)))
    refuse(read.problems)
    return settings


def _task(read: ConfigReader) -> Task:
    """What the encoder's tokens stand for: a prompt's where it has a tokenizer of its own."""
    encoder = read.section("cond_stage_config").section("params")
    reads_text = encoder.only("use_tokenizer", True, False, absent=True)
    key = read.raw("cond_stage_key")
    if reads_text is False and key != LAYOUT_KEY:
        read.note(f"cond_stage_key {LAYOUT_KEY!r} of a model without a tokenizer, which is what is drawn here", key)
    return "layout" if reads_text is False else "text"


def _unet(section: ConfigReader) -> UnetSettings:
    _check_target(section, "PyUNetModel")
    read = section.section("params")
    for key in ("use_split_head", "use_SPADE_norm", "use_spatial_transformer"):
        read.only(key, True, absent=False)
    for key in ("use_scale_shift_norm", "resblock_updown", "use_stage_expert", "use_mscond", "use_fp16"):
        read.only(key, False, absent=False)
    read.only("conv_resample", True, absent=True)
    read.only("legacy", True, absent=True)
    read.only("dims", 2, absent=2)
    # With the spatial transformer every attention has one head, whatever these say.
    read.skip("num_heads", "num_head_channels", "num_heads_upsample", "use_new_attention_order")
    read.skip("use_checkpoint", "dropout", "image_size")
    levels = tuple(read.counts("split_embed_dim_list"))
    for key in ("in_channels", "out_channels"):
        read.only(key, sum(levels), absent=None)
    read.only("num_stage", len(levels), absent=None)
    settings = UnetSettings(
        levels=levels,
        width=read.count("model_channels"),
        multipliers=tuple(read.counts("channel_mult")),
        blocks=read.count("num_res_blocks"),
        attended=tuple(read.counts("attention_resolutions")),
        depth=read.count("transformer_depth") if "transformer_depth" in read else 1,
        context_width=read.count("context_dim"),
    )
    read.close()
    if settings.misfit is not None:
        widths = [settings.width * each for each in settings.multipliers]
        read.note(f"widths, of model_channels and channel_mult, that are {settings.misfit}", widths)
    if len(levels) != LEVELS:
        read.note(f"split_embed_dim_list of {LEVELS} levels, as every release has them", list(levels))
    return settings


def _codec(section: ConfigReader) -> CodecSettings:
    _check_target(section, "VQModelInterface")
    read = section.section("params")
    read.skip("edconfig", "lossconfig", "ckpt_path", "ignore_keys", "image_key", "colorize_nlabels", "monitor")
    read.only("remap", None, absent=None)
    decoder = read.section("ddconfig")
    settings = CodecSettings(
        tuple(read.counts("embed_dim")), tuple(read.counts("n_embed")), pyramid_settings(decoder, "out_ch")
    )
    read.close()
    if settings.decoder.channels != 3:
        decoder.note("out_ch 3, as coloured pictures have", settings.decoder.channels)
    return settings


def _encoder(section: ConfigReader) -> EncoderSettings:
    _check_target(section, "BERTEmbedder")
    read = section.section("params")
    read.skip("use_tokenizer", "embedding_dropout", "device")
    settings = EncoderSettings(
        width=read.count("n_embed"),
        layers=read.count("n_layer"),
        classes=read.count("vocab_size") if "vocab_size" in read else 30522,
        positions=read.count("max_seq_len") if "max_seq_len" in read else 77,
    )
    read.close()
    return settings


def _check_target(section: ConfigReader, expected: str) -> None:
    target = section.raw("target")
    if str(target).rpartition(".")[2] != expected:
        section.note(f"target to be the class {expected}, which is drawn here", target)


def _neighbour_problems(settings: FridoSettings, channels: int, source: str) -> list[str]:
    """Sizes of a network that are not its neighbours'."""
    unet, codec = settings.unet, settings.codec
    pairs = {
        "channels": (channels, sum(unet.levels)),
        "context_dim": (unet.context_width, settings.encoder.width),
        "embed_dim": (list(codec.widths), list(unet.levels)),
        "the number of n_embed": (len(codec.codes), len(unet.levels)),
    }
    found = [
        f"{source}: expected {what} {wanted}, as its neighbour has it, got {got}; fix: give the checkpoint's own "
        "settings"
        for what, (got, wanted) in pairs.items()
        if got != wanted
    ]
    multiple = max(unet.multiple, 2 ** (len(unet.levels) - 1))
    if settings.side % multiple:
        found.append(
            f"{source}: expected image_size in multiples of {multiple}, which the UNet halves, got {settings.side}; "
            "fix: give the checkpoint's own settings"
        )
    if not 0 < settings.noise.start <= settings.noise.end < 1:
        found.append(
            f"{source}: expected linear_start up to linear_end below 1, got {settings.noise.start:g} and "
            f"{settings.noise.end:g}; fix: give the checkpoint's own settings"
        )
    return found
