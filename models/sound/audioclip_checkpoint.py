"""Reads AudioCLIP's audio branch from the checkpoint of the whole model."""

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from ..errors import CheckpointError
from ..readers.loading import build_module, load_strictly
from ..readers.tensors import common_size, describe_checkpoint, read_tensors
from .audioclip import AudioClip, AudioClipSettings

PREFIX = "audio."
RELEASED = AudioClipSettings()
IGNORED = (f"{PREFIX}fbsp.bias",)
"""Empty in the released files: their filters have no bias."""


def read_audioclip(path: str | Path) -> AudioClip:
    """The audio branch from AudioCLIP's `.pt`, in eval mode and float32; image and text towers are left alone.

    Its sizes come from the tensors. Rate, length and hop are in none of them: they are the released model's where
    window and filters are, else they come from a `.json` of the same name beside the file, an `AudioClipSettings`,
    which then holds every size. AudioCLIP is published once trained in full and once in part, with the same names and
    shapes: one in the other's place cannot be noticed. Raises CheckpointError with every key that does not fit.
    """
    path = Path(path)
    tensors = read_tensors(path)
    audio = {key: value for key, value in tensors.items() if key.startswith(PREFIX)}
    beside = settings_file(path)
    settings = (
        AudioClipSettings.from_json(beside)
        if beside.is_file()
        else _inferred(path, audio, describe_checkpoint(tensors))
    )
    module = build_module(lambda: AudioClip(settings), str(path))
    names = {key: PREFIX + key for key in module.state_dict()}
    load_strictly(module, audio, source=str(path), ignore=IGNORED, names=names)
    return module


def settings_file(path: Path) -> Path:
    """`AudioCLIP.json` for `AudioCLIP.pt` or `AudioCLIP.safetensors.gz`."""
    return path.with_name(re.sub(r"(\.safetensors)?\.\w+$", "", path.name) + ".json")


def _inferred(path: Path, audio: Mapping[str, Tensor], got: str) -> AudioClipSettings:
    def size(pattern: str, axis: int = 0) -> int:
        return common_size(audio, re.escape(PREFIX) + pattern, axis)

    layers = [
        len({key for key in audio if re.fullmatch(rf"audio\.layer{n}\.\d+\.bn1\.bias", key)}) for n in range(1, 5)
    ]
    group_width = size(r"layer1\.\d+\.conv2\.weight", 1)
    inner = size(r"layer1\.\d+\.(conv1\.weight|bn1\.\w+|bn2\.\w+)")
    sizes = {
        "n_fft": 2 * size(r"fbsp\.(m|fb|fc)") - 2,
        "window": size("window"),
        "bands": size(r"conv1\.weight", 1),
        "width": size(r"(conv1\.weight|bn1\.\w+)"),
        "groups": inner // max(1, group_width),
        "group_width": group_width,
        "features": size(r"fc\.(weight|bias)"),
    }
    if min(*sizes.values(), *layers) < 1:
        raise CheckpointError(
            f"{path}: expected AudioCLIP with its audio branch (keys audio.conv1..., audio.fbsp...), got {got}; "
            "fix: give AudioCLIP-Full-Training.pt"
        )
    if (sizes["n_fft"], sizes["window"]) != (RELEASED.n_fft, RELEASED.window):
        raise CheckpointError(
            f"{path}: expected the released model's filters of {RELEASED.n_fft} and window of {RELEASED.window}, or "
            f"{settings_file(path).name} beside it, which tells rate, frames and hop, got {sizes['n_fft']} and "
            f"{sizes['window']} without; fix: put the settings there that it was trained with"
        )
    one, two, three, four = layers
    return AudioClipSettings(layers=(one, two, three, four), **sizes)
