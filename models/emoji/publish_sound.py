"""Stage `publish_sound`: the audio branch and the translator in the layouts that GlueGen's have, at half precision."""

from pathlib import Path

import torch

from . import audio, sound_translator, text
from .publish import WEIGHTS, half

TARGET = WEIGHTS / "sound"


def train(folder: Path, minutes: float) -> None:
    """Writes `models/emoji/weights/sound` anew from the stages' states in `folder`; there is nothing to train."""
    TARGET.mkdir(parents=True, exist_ok=True)
    encoder = audio.trained(folder)
    named = {f"audio.{key}": value for key, value in half(encoder.state_dict()).items()}
    torch.save(named, TARGET / "AudioCLIP.pt")
    (TARGET / "AudioCLIP.json").write_text(encoder.settings.to_json(), encoding="utf-8")
    translator = sound_translator.trained(folder)
    torch.save(half(translator.state_dict()), TARGET / "gluenet_sound2img_audioclip_words.ckpt")
    torch.save(text.context(text.trained(folder), [""]).cpu(), TARGET / "null_cond_tensor.pt")
    size = sum(path.stat().st_size for path in TARGET.iterdir())
    print(f"{TARGET}: {size / 1e6:.1f} MB")
