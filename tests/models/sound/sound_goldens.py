"""The waveforms of GlueGen's sound goldens, and AudioCLIP's full-size audio branch rebuilt from its recipe."""

import json
from functools import cache

import numpy as np
import torch
from scipy.io import wavfile
from torch import Tensor
from x2i.models.readers.loading import load_strictly
from x2i.models.sound.audioclip import AudioClip, AudioClipSettings

from tests.goldens import golden, golden_tensors

SOUND = "gluegen/sound/"
CAT, HORN, THUNDER = "cat_3-95694-A-5", "car_horn_1-24074-A-43", "thunder_3-144891-B-19"
FRAMES = 176400
SMALL = AudioClipSettings(
    rate=8000,
    frames=5001,
    n_fft=128,
    hop=67,
    window=101,
    bands=2,
    width=8,
    layers=(2, 1, 1, 1),
    groups=4,
    group_width=2,
    features=24,
)
"""Sizes of an audio branch that runs in no time; none divides another."""


@cache
def tensors() -> dict[str, Tensor]:
    """Every tensor of the checkpoint under its own key: the small ones as stored, the rest drawn anew."""
    found = golden_tensors(SOUND + "audioclip_audio_small_tensors.safetensors")
    recipe = json.loads(golden(SOUND + "audioclip_audio_recipe.json").read_text("utf-8"))
    for entry in recipe["keys"]:
        random = np.random.Generator(np.random.PCG64(recipe["seed_base"] + entry["index"]))
        found[entry["key"]] = (random.standard_normal(entry["shape"]) * entry["std"]).astype(np.float32)
    return {key: torch.from_numpy(value) for key, value in found.items()}


@cache
def audioclip() -> AudioClip:
    module = AudioClip(AudioClipSettings())
    named = {key.removeprefix("audio."): value for key, value in tensors().items()}
    load_strictly(module, named, source="audioclip_audio_recipe.json", ignore=["fbsp.bias"])
    return module.eval().requires_grad_(False)


def waveform(case: int) -> np.ndarray:
    """What enters the network in one case, float32 [2, 176400]: prepared here anew, from SPEC section 4's text."""
    samples = _samples(case)[:, :FRAMES].astype(np.float32) / 32768
    samples = np.repeat(samples, 2, 0) if len(samples) == 1 else samples
    low, high = samples.min(), samples.max()
    scaled = (samples - low) / (high - low) * np.float32(65535) - np.float32(32768)
    missing = FRAMES - scaled.shape[1]
    left = round(0.5 * missing)
    return np.concatenate(
        [
            np.full((2, left), scaled[:, :1].mean(), np.float32),
            scaled,
            np.full((2, missing - left), scaled[:, -1:].mean(), np.float32),
        ],
        axis=1,
    )


def _samples(case: int) -> np.ndarray:
    if case < 3:
        return _wav((CAT, HORN, THUNDER)[case])
    if case == 3:
        return _wav(CAT)[:, :52920]
    if case == 4:
        left = _wav(CAT)[:, :190000] + _noise(92000, 190000)
        right = _wav(HORN)[:, :190000] // 2 + _noise(92001, 190000)
        return np.clip(np.concatenate([left, right]), -32768, 32767)
    return np.clip(_wav(HORN)[:, :FRAMES] + _noise(92002, FRAMES), -32768, 32767)


def _wav(name: str) -> np.ndarray:
    return wavfile.read(golden(f"{SOUND}wav/{name}.wav"))[1].astype(np.int64)[None]


def _noise(seed: int, count: int) -> np.ndarray:
    return np.random.Generator(np.random.PCG64(seed)).integers(-200, 201, size=count)
