"""What AudioCLIP hears of a sound: the authors' protocol against their waveforms, and sounds that cannot be heard."""

import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from x2i.runtime.errors import InputError
from x2i.runtime.media.waveform import LEAST_SAMPLE, MOST_SAMPLE, open_mono, open_waveform

from tests.goldens import golden, golden_tensors
from tests.numerics import assert_close
from tests.runtime.inputs.sounds import FRAMES, RATE, saved, tones

WAVS = "gluegen/sound/wav/"
CLIPS = ("cat_3-95694-A-5.wav", "car_horn_1-24074-A-43.wav", "thunder_3-144891-B-19.wav")


def heard(source, frames: int = FRAMES) -> np.ndarray:
    samples = open_waveform(source, RATE, frames).samples
    assert samples.dtype == np.float32 and samples.shape[0] == 1 and samples.shape[2] == frames
    assert samples.min() == LEAST_SAMPLE and samples.max() == pytest.approx(MOST_SAMPLE, abs=0.01)
    return samples[0]


def refusal(source) -> str:
    with pytest.raises(InputError) as raised:
        open_waveform(source, RATE, FRAMES)
    (line,) = raised.value.problems
    assert line.startswith("sound") and "\n" not in line and ";" in line
    return line


def notes(source) -> tuple[str, ...]:
    return open_waveform(source, RATE, FRAMES).notes


def golden_clip(case: int, folder: Path) -> Path:
    """The file of one case; the last three are made as the goldens' notes say."""
    if case < 3:
        return golden(WAVS + CLIPS[case])
    cat, horn = (soundfile.read(golden(WAVS + name), dtype="int16")[0].astype(np.int64) for name in CLIPS[:2])
    samples = {
        3: lambda: cat[:52920],
        4: lambda: np.stack([cat[:190_000] + noise(92000, 190_000), horn[:190_000] // 2 + noise(92001, 190_000)], 1),
        5: lambda: horn[:FRAMES] + noise(92002, FRAMES),
    }[case]()
    soundfile.write(folder / "made.wav", np.clip(samples, -32768, 32767).astype(np.int16), RATE)
    return folder / "made.wav"


def noise(seed: int, count: int) -> np.ndarray:
    return np.random.Generator(np.random.PCG64(seed)).integers(-200, 201, size=count)


@pytest.mark.parametrize("case", range(6))
def test_the_authors_waveform(case: int, tmp_path: Path) -> None:
    expected = golden_tensors("gluegen/sound/sound.safetensors")
    waveform = heard(golden_clip(case, tmp_path))
    stored = f"{case}.waveform"
    if stored in expected:
        channels = expected[stored]
        assert_close(waveform, np.broadcast_to(channels, waveform.shape), "waveform")
    else:
        sparse = expected[f"{case}.waveform_every9"]
        assert_close(waveform[:, ::9], np.broadcast_to(sparse, waveform[:, ::9].shape), "waveform")
    least, most, mean, rms = expected[f"{case}.waveform_stats"]
    wide = waveform.astype(np.float64)
    assert_close(np.stack([waveform.min(), waveform.max()]), np.stack([least, most]), "waveform")
    assert wide.mean() == pytest.approx(mean, abs=1) and np.sqrt((wide**2).mean()) == pytest.approx(rms, rel=1e-4)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("frames", [2, 7, 8, 1001, 1002, FRAMES - 1, FRAMES - 3, FRAMES, FRAMES + 1, FRAMES + 50_000])
def test_cut_scaled_and_centred(frames: int, channels: int) -> None:
    """By another way: whole numbers of 65535 steps, in doubles, one sample after the other."""
    samples = tones(frames, channels)
    cut = samples[:FRAMES].astype(np.float64)
    scaled = (cut - cut.min()) / (cut.max() - cut.min()) * 65535 - 32768
    missing = FRAMES - len(cut)
    left = missing // 2 + (1 if missing % 4 == 3 else 0)
    expected = np.empty((FRAMES, channels))
    expected[:left], expected[left + len(cut) :] = scaled[0].mean(), scaled[-1].mean()
    expected[left : left + len(cut)] = scaled
    assert_close(heard((samples, RATE)), np.broadcast_to(expected.T, (2, FRAMES)), "waveform")


def test_neither_loudness_nor_offset_is_heard() -> None:
    samples = tones(5000).astype(np.float64)
    expected = heard((samples, RATE))
    assert_close(heard((samples * 1e-2 + 0.3, RATE)), expected, "waveform-float32")
    assert_close(heard((samples * 1e30, RATE)), expected, "waveform-float32")
    assert_close(heard(((samples * 30000).astype(np.int16), RATE)), expected, "waveform-bits")


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 48000, 96000, 192000, 11025, 37800])
@pytest.mark.parametrize("seconds", [0.3, 9.0])
def test_another_rate(rate: int, seconds: float) -> None:
    """As soxr converts the whole sound: that only its beginning is read must not be heard."""
    samples = tones(round(seconds * rate), rate=rate)
    whole = soxr.resample(samples.astype(np.float64), rate, RATE, quality="VHQ")
    assert_close(heard((samples, rate)), heard((whole, RATE)), "waveform-resampled")


def test_a_tone_keeps_its_pitch() -> None:
    time = np.arange(4 * 48_000) / 48_000
    spectrum = np.abs(np.fft.rfft(heard((np.sin(2 * np.pi * 1000 * time), 48_000))[0]))
    spectrum[0] = 0
    assert spectrum.argmax() * RATE / FRAMES == pytest.approx(1000, abs=0.3)


def test_what_is_not_heard_is_told() -> None:
    samples = np.resize(tones(8000, 1, 8000), 3_600 * 8000)
    (note,) = notes((samples, 8000))
    assert note == "sound: it is 3600.00 s long; the first 4.00 s are heard, no more"
    assert not notes((tones(FRAMES), RATE))


def test_more_than_two_channels_are_kept_and_told(tmp_path: Path) -> None:
    samples = tones(3000, 8)
    path = saved(tmp_path, samples, subtype="FLOAT")
    waveform = open_waveform(path, RATE, FRAMES)
    assert waveform.samples.shape == (1, 8, FRAMES)
    assert "it has 8 channels" in waveform.notes[0] and "mix it down to two" in waveform.notes[0]
    for channel in range(8):
        one = waveform.samples[0, channel, 86_700:89_700].astype(np.float64)
        assert np.corrcoef(one, samples[:, channel])[0, 1] > 0.9999


@pytest.mark.parametrize("level", [1e-7, 1e-4, 4e-4])
def test_dither_is_heard_and_told(level: float) -> None:
    random = np.random.default_rng(1)
    (note,) = notes((random.uniform(-level, level, FRAMES), RATE))
    decibels = re.search(r"nearly silent \((-\d+) dB", note)
    assert decibels and int(decibels[1]) == round(20 * np.log10(level))


def test_a_quiet_sound_is_a_sound() -> None:
    assert not notes((tones(FRAMES, level=2e-3), RATE))


@pytest.mark.parametrize("rate", [8000, RATE, 48_000])
@pytest.mark.parametrize("value", [0.0, 0.5, -1.0])
@pytest.mark.parametrize("frames", [1, 2, 30_000])
def test_silence_and_constants(frames: int, value: float, rate: int) -> None:
    """The authors divide by zero, and a resampler would make a click of a constant's edges."""
    assert "got silence or a constant throughout" in refusal((np.full((frames, 2), value), rate))


def test_a_constant_in_each_channel() -> None:
    assert "got silence or a constant" in refusal((np.tile([0.1, -0.2], (5000, 1)), RATE))


def test_a_sound_that_begins_too_late(tmp_path: Path) -> None:
    samples = tones(3 * FRAMES)
    samples[: FRAMES + 9] = 0
    line = refusal(saved(tmp_path, samples))
    assert "throughout the first 4.00 s; cut off the silence before the sound" in line


def test_one_channel_may_be_silent() -> None:
    samples = tones(5000)
    samples[:, 1] = 0
    assert heard((samples, RATE))[1, 86_000:90_000].std() == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300, -1e35])
def test_samples_that_are_no_numbers(bad: float, tmp_path: Path) -> None:
    samples = tones(5000).astype(np.float64)
    samples[[7, 4000], 1] = bad
    assert "got 2 that are infinite or no numbers" in refusal((samples, RATE))
    path = saved(tmp_path, samples, subtype="DOUBLE")
    assert f"{path}: expected samples of about -1 to 1" in refusal(path)


def test_a_note_of_the_file_comes_along(tmp_path: Path) -> None:
    path = saved(tmp_path, tones(90_000))
    path.write_bytes(path.read_bytes()[:180_000])
    (note,) = notes(path)
    assert note.startswith(f"sound {path}: the file is damaged or cut off; the 1.02 s that could be read are heard")


@pytest.mark.parametrize(("samples", "rate"), [(2, 192_000), (3, 384_000), (2, 96_000)])
def test_a_sound_shorter_than_two_samples_is_refused_in_words(samples, rate):
    array = np.linspace(-0.5, 0.5, samples, dtype=np.float32)
    with pytest.raises(InputError, match=f"got {samples} samples at {rate} Hz, less than two at 44100 Hz"):
        open_waveform((array, rate), 44100, 176400)


def test_one_channel_is_their_mean_as_loud_as_it_is():
    samples = np.random.default_rng(8).normal(0, 0.1, (700, 2)).astype(np.float32)
    made = open_mono((samples, 8000), 8000, 500)
    assert made.samples.shape == (1, 500) and "the first 0.06 s are heard" in made.notes[0]
    assert_close(made.samples[0], samples[:500].mean(1), "exact")


def test_one_channel_is_followed_by_silence():
    made = open_mono((np.full(300, 0.25), 8000), 8000, 500)
    assert_close(made.samples[0], np.r_[np.full(300, 0.25), np.zeros(200)], "exact")
    assert not made.notes


def test_one_channel_at_another_rate():
    time = np.arange(4800) / 48000
    made = open_mono((np.sin(2 * np.pi * 200 * time), 48000), 22050, 1500).samples[0]
    expected = np.sin(2 * np.pi * 200 * np.arange(1500) / 22050)
    assert np.abs(made[200:1300] - expected[200:1300]).max() < 1e-3


def test_one_channel_of_no_numbers():
    with pytest.raises(InputError, match="got 1 that are infinite or no numbers"):
        open_mono((np.array([0.0, np.nan, 1.0]), 8000), 8000, 3)
