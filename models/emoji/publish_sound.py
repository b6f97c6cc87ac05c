"""Stage `publish_sound`: the audio branch and the translator in the layouts that GlueGen's have.

Matrices at half precision; the audio branch's vectors as they are, because a window that is rounded to half precision
leaks so much that quiet frequencies drown.
"""

from pathlib import Path

import torch

from . import audio, sound_translator, text
from .publish import WEIGHTS, half

TARGET = WEIGHTS / "sound"


def train(folder: Path, minutes: float) -> None:
    """Writes `models/emoji/weights/sound` anew from the stages' states in `folder`; there is nothing to train.

    The unconditional context is the empty prompt's by the base model's encoder, as rounded as that is published.
    """
    TARGET.mkdir(parents=True, exist_ok=True)
    encoder = audio.trained(folder)
    tensors = encoder.state_dict()
    matrices = half({key: value for key, value in tensors.items() if value.ndim > 1})
    named = {f"audio.{key}": matrices.get(key, value.cpu().contiguous()) for key, value in tensors.items()}
    torch.save(named, TARGET / "AudioCLIP.pt")
    (TARGET / "AudioCLIP.json").write_text(encoder.settings.to_json(), encoding="utf-8")
    translator = sound_translator.trained(folder)
    torch.save(half(translator.state_dict()), TARGET / "gluenet_sound2img_audioclip_words.ckpt")
    base = text.trained(folder).half().float()
    torch.save(text.context(base, [""]).cpu(), TARGET / "null_cond_tensor.pt")
    size = sum(path.stat().st_size for path in TARGET.iterdir())
    print(f"{TARGET}: {size / 1e6:.1f} MB")
