"""`diffsound`: a sound of a prompt, drawn as the tokens of a mel spectrogram.

Source: Diffsound (arXiv 2207.09983) and its released script, which guides nothing. It walks VQ-Diffusion's process by
an older posterior, and not quite to all masks.
"""

from dataclasses import dataclass
from pathlib import Path

from x2i.models.codecs.melgan import Melgan, read_melgan
from x2i.models.codecs.token_codec import TokenCodec
from x2i.models.codecs.vqgan_checkpoint import CLASSES, load_vqgan, vqgan_settings
from x2i.models.errors import CheckpointError, read_all
from x2i.models.random.sound_tokens import random_sound_tokens
from x2i.models.readers.config_reader import ConfigReader
from x2i.models.readers.given_files import given_yaml
from x2i.models.readers.tensors import read_tensors
from x2i.models.token_transformers.vq_diffusion_checkpoint import own_codec
from x2i.models.token_transformers.vq_diffusion_config import VqDiffusionConfig
from x2i.runtime.bundle.calls import GraphCall
from x2i.runtime.bundle.plan import Plan

from ..components.codec import mel_decoder_component, vocoder_component
from ..errors import PlanError
from ..plan import ExportPlan
from ..system import Build, SystemSpec, consume
from .mask_replace import OPTIONAL, REQUIRED, Networks, conditioners, network_components, read_networks
from .sound import sound_process

MASKED = (0.000009, 0.9)
"""The share of masks that the schedule begins and ends with; a run begins with masks alone even so."""
TRUNCATION = 0.85
ORDER = "first_stage_permuter_config"
"""The section that says in which order a spectrogram's tokens are drawn."""


@dataclass(frozen=True, slots=True)
class SoundParts:
    """Networks, the codec of spectrograms whose tokens they draw, and what makes them heard."""

    networks: Networks
    codec: TokenCodec
    vocoder: Melgan


def build_diffsound(plan: ExportPlan) -> Build:
    """Raises CheckpointError for files that are not what they should be, PlanError for those that do not fit."""
    parts = _parts(plan)
    networks, grid = parts.networks, parts.networks.config.grid
    stages = (
        GraphCall("decoder", {"tokens": "tokens"}, {"mel": "mel"}),
        GraphCall("vocoder", {"mel": "mel"}, {"waveform": "waveform"}),
    )
    process = sound_process(plan, networks.model, grid, stages, masked=MASKED, truncation=TRUNCATION)
    frames = grid[1] * parts.codec.vqgan.settings.factor
    components = [
        mel_decoder_component(parts.codec, grid),
        vocoder_component(parts.vocoder, frames),
        *network_components(networks),
    ]
    return Build(Plan(conditioners(networks), (process,)), networks.tokenizers, consume(components), len(components))


def _parts(plan: ExportPlan) -> SoundParts:
    """All that is read, or drawn at random. Raises PlanError with every size that does not fit another."""
    if plan.random_weights is not None:
        made = random_sound_tokens(plan.random_weights)
        return SoundParts(Networks(made.config, made.model, made.tokenizer), made.codec, made.vocoder)
    given = plan.parts
    networks, vocoder, _ = read_all(
        lambda: read_networks(plan, besides=(ORDER,)),
        lambda: read_melgan(given["vocoder"]),
        lambda: _check_order(given["config"]),
    )
    codec = _read_codec(given["codec"], networks.config, given["checkpoint"])
    classes, bands = networks.config.transformer.classes, networks.config.grid[0] * codec.vqgan.settings.factor
    fits = {
        f"--part codec {given['codec']}: expected the transformer's {classes} codes": (classes, codec.classes),
        f"--part codec {given['codec']}: expected pictures of one channel": (1, codec.vqgan.settings.decoder.channels),
        f"--part vocoder {given['vocoder']}: expected the spectrogram's {bands} bands": (bands, vocoder.settings.mels),
    }
    problems = [
        f"{expected}, got {got}; give the one that it was trained with"
        for expected, (wanted, got) in fits.items()
        if wanted != got
    ]
    if problems:
        raise PlanError(*problems)
    return SoundParts(networks, codec, vocoder)


def _read_codec(path: Path, config: VqDiffusionConfig, checkpoint: Path) -> TokenCodec:
    """The codec whose settings stand in the system's configuration; one inside the checkpoint goes before the file's,
    as its authors load it."""
    read = ConfigReader({"target": CLASSES[0], "params": config.codec}, f"{config.source}, codec", model="VQGAN")
    settings = vqgan_settings(read)
    if read.problems:
        raise CheckpointError(*read.problems)
    vqgan = load_vqgan(settings, read_tensors(path), str(path))
    inside = own_codec(checkpoint)
    return TokenCodec(vqgan if not inside else load_vqgan(settings, inside, f"{checkpoint}, model"))


def _check_order(path: Path) -> None:
    """Raises CheckpointError for a configuration whose tokens do not go column by column."""
    read = ConfigReader(given_yaml(path), str(path)).section("model").section("params")
    target = str(read.section(ORDER).raw("target")).rpartition(".")[2]
    if not read.problems and target != "ColumnMajor":
        raise CheckpointError(
            f"{path}, {ORDER}: expected ColumnMajor, got {target}; fix: give a Diffsound checkpoint's configuration"
        )


SYSTEM = SystemSpec(
    build_diffsound,
    required={
        **REQUIRED,
        "codec": "the checkpoint of the spectrograms' codec, last.ckpt",
        "vocoder": "MelGAN's best_netG.pt, with its args.yml beside it",
        "tokenizer": OPTIONAL["tokenizer"],
    },
    stands_alone=True,
    base=None,
)
