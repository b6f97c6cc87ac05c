"""`cdcd-music`: music to a dance, drawn as the tokens of its waveform.

Source: CDCD's dance-to-music branch (arXiv 2206.07771) and its released script. It walks VQ-Diffusion's process by
Diffsound's posterior, guides nothing and leaves no timestep out.
"""

import torch
from torch import Tensor
from x2i.models.random.dance_music import random_dance_music
from x2i.models.token_transformers.dance import DanceCondition
from x2i.models.token_transformers.dance_checkpoint import DanceMusic, read_dance_music, read_dance_music_config
from x2i.runtime.bundle.calls import GraphCall
from x2i.runtime.bundle.plan import Conditioner, Plan
from x2i.runtime.inputs.dance import DanceInput
from x2i.runtime.inputs.sound import SoundStart

from ..components.codec import wave_decoder_component, wave_tokens_component
from ..components.projection import projection_component, projection_stage
from ..components.token_denoiser import token_denoiser_component
from ..plan import ExportPlan
from ..system import Build, SystemSpec, consume
from ..to_onnx import Component, Sizes
from .mask_replace import REQUIRED
from .sound import RATE, sound_process

TRUNCATION = 0.86
DANCES = 15
"""Contexts, of one row each, that the proofs behind the dance's graph are drawn from."""


def build_cdcd_music(plan: ExportPlan) -> Build:
    """Raises CheckpointError for files that are not what they should be, PlanError for another schedule."""
    music = _read(plan)
    transformer, length = music.model.transformer, music.model.transformer.settings.length
    decode = GraphCall("decoder", {"tokens": "tokens"}, {"waveform": "waveform"})
    process = sound_process(plan, music.model, (1, length), (decode,), truncation=TRUNCATION, strides=False)
    dance = dance_component(music.condition)
    matrices, biases = transformer.context_weights()
    contexts = dance.run(dance.example({"batch": DANCES}))["context"]
    projection = projection_component(matrices, biases=biases, contexts=contexts)
    components = [
        wave_decoder_component(music.codec, length),
        wave_tokens_component(music.codec, length),
        dance,
        projection,
        token_denoiser_component(transformer, projection=projection),
    ]
    return Build(Plan(_conditioners(music), (process,)), {}, consume(components), len(components))


def _read(plan: ExportPlan) -> DanceMusic:
    if plan.random_weights is not None:
        return random_dance_music(plan.random_weights)
    config = read_dance_music_config(plan.parts["config"])
    return read_dance_music(plan.parts["checkpoint"], plan.parts["codec"], config)


def _conditioners(music: DanceMusic) -> tuple[Conditioner, Conditioner]:
    """The dance, and what its music may begin with."""
    sizes, codec = music.condition.settings, music.codec.settings
    names = ("motion", "video", "genre")
    encode = GraphCall("dance_encoder", {name: name for name in names}, {"context": "context"})
    dance = DanceInput(sizes.channels[0], sizes.features, sizes.video_width, sizes.genres)
    heard = GraphCall("sound_tokens", {"waveform": "start_waveform"}, {"tokens": "start_tokens"})
    start = SoundStart(RATE, music.model.transformer.settings.length * codec.hop)
    return Conditioner((encode, projection_stage("context")), (dance,)), Conditioner((heard,), (start,))


def dance_component(condition: DanceCondition) -> Component:
    """The graph of a dance: `motion` float32 [B, frames, features], `video` float32 [B, 1, V] and `genre` int64 [B] to
    `context` float32 [B, 1, D]."""
    sizes = condition.settings

    def example(free: Sizes) -> dict[str, Tensor]:
        random = torch.Generator().manual_seed(32)
        batch = free["batch"]
        return {
            "motion": torch.randn(batch, sizes.channels[0], sizes.features, generator=random),
            "video": torch.randn(batch, 1, sizes.video_width, generator=random),
            "genre": torch.randint(sizes.genres, (batch,), generator=random),
        }

    return Component(
        name="dance_encoder",
        module=condition.eval(),
        example=example,
        outputs=("context",),
        free={name: {0: "batch"} for name in ("motion", "video", "genre")},
        trace={"batch": 2},
        proof={"batch": 1},
    )


SYSTEM = SystemSpec(
    build_cdcd_music,
    required={**REQUIRED, "codec": "Jukebox's VQ-VAE, vqvae.pt"},
    stands_alone=True,
    base=None,
)
