"""Reads a VQGAN from the files that it is published as: weights in one of four layouts, and the YAML beside them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError, read_all
from ..readers.config_reader import ConfigReader
from ..readers.given_files import given_yaml
from ..readers.loading import Load, build_module, load_all_strictly
from ..readers.tensors import describe_checkpoint, read_tensors
from .vqgan import PyramidSettings, Vqgan, VqganSettings

CLASSES = ("VQModel", "GumbelVQ", "PatchVQGAN")
"""The authors' classes; the second draws its codes."""
OUTER = "Net2NetTransformer"
"""An autoregressive model whose first stage is one of CLASSES."""
EXTRAS = ("*loss.*", "discriminator.*", "*quantize.cluster_size", "*quantize.embedding_avg")
"""What a codec's file holds of its training."""
CODEBOOKS = ("quantize.embedding.weight", "quantize.embed.weight", "quantize.embedding")
"""The codebook's names: VQGAN's, a Gumbel VQGAN's, and PatchVQGAN's, where it is a running mean."""


def read_vqgan(path: Path, config: Path) -> Vqgan:
    """The codec of a published file and its YAML, in eval mode and float32; CheckpointError with all problems."""
    settings, tensors = read_all(lambda: read_vqgan_settings(config), lambda: read_tensors(path, sections=("model",)))
    return load_vqgan(settings, tensors, str(path))


def load_vqgan(settings: VqganSettings, tensors: Mapping[str, Tensor], source: str) -> Vqgan:
    """The codec of these settings from a file's tensors, which have it under any prefix, or its encoder and decoder
    under one each, as training checkpoints do. Tensors under no prefix of the codec's are another part's.

    Raises CheckpointError with every key that does not fit, where `source` names the file.
    """
    vqgan = build_module(lambda: Vqgan(settings), source)
    encoder, decoder = (_prefix(tensors, f"{half}.conv_in.weight") for half in ("encoder", "decoder"))
    if encoder is None or decoder is None:
        raise CheckpointError(
            f"{source}: expected a VQGAN (keys encoder.conv_in..., decoder.conv_in...), got "
            f"{describe_checkpoint(tensors)}; fix: give the codec's own file"
        )
    own = {key: value for key, value in tensors.items() if key.startswith((encoder, decoder))}
    book = next((name for name in CODEBOOKS if decoder + name in own), CODEBOOKS[settings.gumbel])
    names = {key: _prefix_of(key, encoder, decoder) + key for key in vqgan.state_dict()}
    names |= {"codebook": decoder + book}
    names |= {key: f"{decoder}quantize.{key}" for key in names if key.startswith("proj.")}
    ignored: tuple[str, ...] = EXTRAS
    problems: list[str] = []
    if encoder != decoder:
        # Both halves of a training checkpoint bring the codebook.
        ignored = (*EXTRAS, f"{encoder}quantize.*")
        problems = _two_codebooks(own, encoder, decoder, source)
    load_all_strictly([Load(vqgan, own, source, ignored, names)], problems)
    return vqgan


def holds_vqgan(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the tensors of a checkpoint have a codec among them."""
    return _prefix(tensors, "decoder.conv_in.weight") is not None


def find_codec_config(codec: Path, named: str = "") -> Path:
    """The YAML beside a codec's file: called as a configuration names it (a path of its authors', whose folders are
    left aside), or as the file, with or without `_last`, or config.yaml, or the only one there.

    Raises CheckpointError where there is none, or more than one that it may be.
    """
    stem = codec.stem
    known = [Path(named).name, f"{stem}.yaml", f"{stem.removesuffix('_last')}.yaml", "config.yaml"]
    found = next((codec.with_name(name) for name in known if name and codec.with_name(name).is_file()), None)
    if found is not None:
        return found
    beside = sorted(codec.parent.glob("*.yaml"))
    if len(beside) != 1:
        got = ", ".join(path.name for path in beside) or "none"
        raise CheckpointError(
            f"{codec}: expected its configuration beside it, such as {known[1]}, got {got}; fix: put it there"
        )
    return beside[0]


def read_vqgan_settings(path: Path) -> VqganSettings:
    """The settings of a codec's YAML; CheckpointError with every one that is absent, odd or unknown."""
    read = ConfigReader(given_yaml(path), str(path), model="VQGAN")
    settings = vqgan_settings(read.section("model"))
    if read.problems:
        raise CheckpointError(*read.problems)
    return settings


def vqgan_settings(model: ConfigReader) -> VqganSettings:
    """The settings of a section with `target` and `params`; what is wrong with them is noted in its problems."""
    target, params = str(model.raw("target")).rpartition(".")[2], model.section("params")
    if target == OUTER:
        return vqgan_settings(params.section("first_stage_config"))
    if target not in CLASSES:
        model.problems.append(
            f"codec: expected a class of {', '.join((*CLASSES, OUTER))}, got {target}; fix: give the codec's own YAML"
        )
    patches = target == "PatchVQGAN"
    halves = ("encoder_config", "decoder_config") if patches else ("ddconfig", "ddconfig")
    encoder, decoder = (params.section(name) for name in halves)
    if patches:
        encoder, decoder = encoder.section("params"), decoder.section("params")
    return VqganSettings(
        encoder=pyramid_settings(encoder, "in_channels"),
        decoder=pyramid_settings(decoder, "out_ch"),
        code_width=params.count("embed_dim"),
        codes=params.count("n_embed"),
        gumbel=target == "GumbelVQ",
    )


def pyramid_settings(read: ConfigReader, channels: str) -> PyramidSettings:
    """The settings of one half of a codec, whose `channels` are under this key; what is wrong with them is noted."""
    for key in ("double_z", "activate_output", "use_linear_attn", "tanh_out", "give_pre_end"):
        read.only(key, False, absent=False)
    read.only("resamp_with_conv", True, absent=True)
    read.only("attn_type", "vanilla", absent="vanilla")
    read.skip("dropout", "in_channels", "out_ch")
    multipliers = read.counts("ch_mult")
    settings = PyramidSettings(
        width=read.count("ch"),
        multipliers=tuple(multipliers),
        blocks=read.count("num_res_blocks"),
        attends=_attends(read, len(multipliers), coarse_first=channels == "out_ch"),
        channels=read.count(channels),
        features=read.count("z_channels"),
    )
    read.close()
    return settings


def _attends(read: ConfigReader, levels: int, coarse_first: bool) -> tuple[bool, ...]:
    """Which levels are of a size that the settings list, when pictures have the size that they name.

    A decoder counts its sizes up from the coarsest one, which is rounded down.
    """
    size = _pair(read.raw("resolution"))
    listed = read.raw("attn_resolutions")
    pairs = [_pair(each) for each in listed] if isinstance(listed, list) else [None]
    if size is None or None in pairs:
        read.problems.append(
            f"codec: expected resolution and attn_resolutions in pixels, got {read.raw('resolution')!r:.40} and "
            f"{listed!r:.40}; fix: give the codec's own YAML"
        )
        return (False,) * levels
    least = [side >> (levels - 1) for side in size]
    sizes = [
        tuple(side << (levels - 1 - level) for side in least) if coarse_first else tuple(s >> level for s in size)
        for level in range(levels)
    ]
    return tuple(each in pairs for each in sizes)


def _pair(value: Any) -> tuple[int, int] | None:
    """A size in pixels, where one number stands for both sides."""
    sides = value if isinstance(value, list) else [value, value]
    if len(sides) != 2 or not all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in sides):
        return None
    return sides[0], sides[1]


def _prefix(tensors: Mapping[str, Tensor], suffix: str) -> str | None:
    """What stands before a key of every VQGAN."""
    found = [key.removesuffix(suffix) for key in tensors if key.endswith(suffix)]
    return min(found, key=len, default=None)


def _prefix_of(key: str, encoder: str, decoder: str) -> str:
    return encoder if key.startswith(("encoder.", "quant_conv.")) else decoder


def _two_codebooks(tensors: Mapping[str, Tensor], encoder: str, decoder: str, source: str) -> list[str]:
    """The tensors of the codebook in which both halves differ."""
    pairs = [
        (key, tensors.get(decoder + key.removeprefix(encoder)))
        for key in tensors
        if key.startswith(f"{encoder}quantize.")
    ]
    return [
        f"{source}: expected one codebook, got another {key} for the decoder; fix: give the checkpoint as published"
        for key, other in pairs
        if other is None or not torch.equal(tensors[key], other)
    ]
