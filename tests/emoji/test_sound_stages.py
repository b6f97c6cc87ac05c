"""The stages of the sound relatives on a world of a few tones, so that they need no espeak-ng."""

import shutil

import numpy as np
import pytest
import torch
from x2i.emoji.recipe import audio, publish, sound_translator, text
from x2i.emoji.world import speech, spoken
from x2i.emoji.world.spoken import prepared
from x2i.models.readers.tensors import read_tensor, read_tensors
from x2i.models.sound.audioclip import AudioClip, AudioClipSettings
from x2i.models.translators.gluenet_sound import SoundConditioner
from x2i.runtime.media.waveform import open_waveform

from tests.numerics import assert_close

FRAMES = audio.SETTINGS.frames


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Five tones as the spoken words, and an untrained text encoder."""
    path = tmp_path_factory.mktemp("emoji")
    torch.manual_seed(3)
    torch.save({"average": text._with_heads().state_dict()}, path / "text.pt")
    words = [np.sin(np.arange(4000 + 900 * each) * 0.1 * (each + 1)) * 9000 for each in range(5)]
    starts = np.cumsum([0, *map(len, words)])
    np.savez(path / "speech.npz", samples=np.concatenate(words).astype(np.int16), starts=starts, pictures=np.arange(5))
    return path


@pytest.fixture
def encoder():
    torch.manual_seed(4)
    return audio.build().eval()


def test_a_stage_goes_on_where_it_stopped_and_is_published(folder, tmp_path, monkeypatch):
    for stage, name in ((audio, "audio"), (sound_translator, "sound_translator")):
        monkeypatch.setattr(stage, "BATCH", 4)
        for steps in (1, 2):
            stage.train(folder, 1.0, steps)
            assert torch.load(folder / f"{name}.pt", weights_only=True)["steps"] == steps
    monkeypatch.setattr(publish, "SOUND_TARGET", tmp_path)
    publish.publish_sound(folder, 0.0)
    tensors = read_tensors(tmp_path / "AudioCLIP.pt")
    module = AudioClip(AudioClipSettings.from_json(tmp_path / "AudioCLIP.json"))
    module.load_state_dict({key.removeprefix("audio."): value for key, value in tensors.items()})
    for key in ("conv1.weight", "fbsp.fc", "window", "layer3.1.bn2.running_var", "att5.conv_depth.bias"):
        trained = audio.trained(folder).state_dict()[key]
        rounded = trained.half().float() if trained.ndim > 1 else trained
        assert_close(module.state_dict()[key].numpy(), rounded.numpy(), "exact")
    published = sound_translator.build()
    published.load_state_dict(read_tensors(tmp_path / "gluenet_sound2img_audioclip_words.ckpt"))
    assert read_tensor(tmp_path / "null_cond_tensor.pt").shape == (1, 24, text.WIDTH)


def test_every_tensor_of_both_stages_gets_a_gradient(folder, monkeypatch):
    words = speech.utterances(folder)
    monkeypatch.setattr(audio, "BATCH", 8)
    module = audio.Listener()
    audio.loss(module, words, 1).backward()
    assert all(value.grad is not None for value in module.parameters())
    assert {name for name, value in module.named_parameters() if not value.grad.any()} <= _shifts(module)
    conditioner = SoundConditioner(sound_translator.build(), torch.ones(24, 1))
    with torch.no_grad():
        heard = audio.features(module.audio, audio.draw_batch(module.audio, words, 2, 4)[0])
    (conditioner(heard) - sound_translator.targets(folder)[:4]).square().mean().backward()
    assert all(value.grad is not None and value.grad.any() for value in conditioner.parameters())


def _shifts(module):
    """Biases that batch normalisation takes away again."""
    return {name for name, _ in module.named_parameters() if name.endswith(("conv_depth.bias", "conv_point.bias"))}


@pytest.mark.parametrize("count", [1, 2, 777, FRAMES - 1, FRAMES, FRAMES + 5])
def test_training_hears_what_the_runtime_hears(count):
    samples = np.random.default_rng(count).normal(0, 0.2, max(count, 2)).astype(np.float32)
    wanted = open_waveform((samples, audio.SETTINGS.rate), audio.SETTINGS.rate, FRAMES).samples[0]
    assert_close(prepared(samples, FRAMES), wanted, "waveform")


def test_drawn_waveforms_differ_and_fill_the_range():
    word = np.sin(np.arange(6000) * 0.2).astype(np.float32)
    first, second = (audio.draw_waveform(np.random.default_rng(seed), word) for seed in (1, 2))
    for wave in (first, second):
        assert wave.shape == (FRAMES,) and wave.dtype == np.float32
        assert wave.min() == -32768 and wave.max() == pytest.approx(32767, abs=0.01)
    assert np.abs(first - second).max() > 1000
    assert audio.draw_waveform(np.random.default_rng(1), np.tile(word, 9)).shape == (FRAMES,)


def test_disturbing_tilts_hides_and_shifts_what_is_only_rounding(monkeypatch):
    still = torch.full((2, 3, 8, 20), -30.0)
    still[:, 0, 0] = -140.0
    monkeypatch.setattr(audio, "HIDDEN", 0.0)
    changed = audio.disturbed(still, torch.Generator().manual_seed(1)) - still
    slope = changed[0].reshape(24, 20)[1:]
    assert slope.std(1).max() < 1e-4 and slope.mean(1).std() > 1
    assert changed[:, 0, 0].std(1).min() > 1
    monkeypatch.setattr(audio, "HIDDEN", 0.9)
    monkeypatch.setattr(audio, "TILT", 0.0)
    assert (audio.disturbed(still, torch.Generator().manual_seed(1)) != still).any(1).float().mean() > 0.1


@torch.no_grad()
def test_one_channel_is_heard_as_two_alike(encoder):
    decibels = torch.randn(2, 1, 3, audio.SETTINGS.rows, audio.SETTINGS.columns) * 20 - 60
    twice = encoder.encode(decibels.expand(-1, 2, -1, -1, -1))
    assert_close(audio.features(encoder, decibels[:, 0]).numpy(), twice.numpy(), "sound-features")


def test_no_voice_is_both_trained_and_held_out():
    assert not {*speech.TRAINED_VOICES} & {*speech.HELD_OUT_VOICES}
    assert all(not voice.startswith(kept) for voice in speech.TRAINED_VOICES for kept in speech.HELD_OUT_VOICES)
    recorded = {(word.language, word.voice) for word in spoken.spoken_words()}
    assert recorded == {
        (language, voice) for number, language in enumerate(speech.DIALECTS) for voice in publish.voices_of(number)
    }


def test_trimmed_keeps_the_word_and_a_margin():
    word = np.zeros(9000, np.float32)
    word[3000:4000] = 0.5
    assert len(speech.trimmed(word)) == 999 + 2 * speech.MARGIN and speech.trimmed(word).max() == 0.5


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not here: it speaks only for training")
def test_espeak_speaks_each_voice_differently():
    words = [speech.say("banana", f"en-us+{voice}") for voice in ("m1", "f2")]
    assert all(0.2 * speech.RATE < len(word) < 1.5 * speech.RATE and np.abs(word).max() > 0.1 for word in words)
    assert len(words[0]) != len(words[1]) or not np.allclose(*words)
    assert len(speech.say("banana", "en-us", speed=120)) > len(speech.say("banana", "en-us", speed=240))
