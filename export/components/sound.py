"""AudioCLIP's audio branch and GlueNet's sound translator as the conditioners call them."""

import torch
from torch import Tensor, nn
from x2i.models.sound.audioclip import AudioClip, AudioClipSettings
from x2i.models.translators.gluenet_sound import SoundConditioner

from ..to_onnx import Component, Sizes


class SoundContext(nn.Module):
    """`forward(features [1, F])` returns the contexts of both sides, [2, tokens, D]: the unconditional one, a constant,
    and the sound's."""

    unconditional: Tensor

    def __init__(self, conditioner: SoundConditioner, unconditional: Tensor):
        super().__init__()
        self.conditioner = conditioner
        self.register_buffer("unconditional", unconditional)

    def forward(self, features: Tensor) -> Tensor:
        return torch.cat([self.unconditional, self.conditioner(features)])


def audio_component(encoder: AudioClip) -> Component:
    """The whole branch's graph, spectrogram included, from one sound's waveform; the number of channels is free.

    Its proof is a sound without silent bins, whose decibels would be those of rounding and differ with every order of
    sums.
    """

    def example(sizes: Sizes) -> dict[str, Tensor]:
        return {"waveform": loud_sound(sizes["channels"], encoder.settings)}

    return Component(
        name="audio_encoder",
        module=encoder.eval(),
        example=example,
        outputs=("features",),
        free={"waveform": {1: "channels"}},
        trace={"channels": 2},
        proof={"channels": 3},
    )


def loud_sound(channels: int, settings: AudioClipSettings) -> Tensor:
    """Chords that swell, over noise: float32 [1, channels, frames], 16 bits' range."""
    random = torch.Generator().manual_seed(10)
    time = torch.arange(settings.frames) / settings.rate
    swell = 0.6 + 0.4 * torch.sin(2 * torch.pi * 1.5 * time)
    voices = [
        sum((torch.sin(2 * torch.pi * (110 + 70 * channel) * k * time) / k for k in (1, 2, 3, 5)), torch.zeros(()))
        for channel in range(channels)
    ]
    noise = torch.randn(channels, settings.frames, generator=random)
    return (12000 * swell * torch.stack(voices) + 1500 * noise).clamp(-32768, 32767)[None]


def sound_translator_component(conditioner: SoundConditioner, unconditional: Tensor) -> Component:
    """The translator's graph, `tensor_norm / 2` and the unconditional side inside it."""
    translator = conditioner.translator

    def example(sizes: Sizes) -> dict[str, Tensor]:
        random = torch.Generator().manual_seed(11)
        features = torch.randn(1, translator.tokens * translator.width, generator=random)
        return {"features": nn.functional.normalize(features, dim=-1)}

    return Component(
        name="translator",
        module=SoundContext(conditioner, unconditional).eval(),
        example=example,
        outputs=("context",),
        free={},
        trace={},
        proof={},
    )
