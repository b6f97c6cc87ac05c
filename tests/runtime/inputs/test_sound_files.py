"""Sound files as they come: read as what they hold, or refused in one line."""

import os
from math import ceil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from x2i.runtime.errors import InputError
from x2i.runtime.media import sound_files
from x2i.runtime.media.sound_files import EXTRA_SECONDS, read_sound

from tests.numerics import assert_close
from tests.runtime.inputs.sounds import LOSSLESS, LOSSY, RATE, foreign_wav, saved, tones

SECONDS = 4.0


def refusal(source) -> str:
    with pytest.raises(InputError) as raised:
        read_sound(source, SECONDS)
    (line,) = raised.value.problems
    assert line.startswith("sound") and "\n" not in line and ";" in line
    return line


@pytest.mark.parametrize(("suffix", "form", "subtype"), LOSSLESS, ids=lambda part: str(part))
@pytest.mark.parametrize("channels", [1, 2])
def test_whole_numbers_and_floats(tmp_path: Path, suffix: str, form: str, subtype: str, channels: int) -> None:
    samples = tones(20_011, channels)
    recording = read_sound(saved(tmp_path, samples, suffix, form, subtype), SECONDS)
    assert (recording.rate, recording.seconds, recording.notes) == (RATE, 20_011 / RATE, ())
    assert recording.samples.dtype == np.float32
    assert_close(recording.samples, samples, "bits-8" if subtype == "PCM_U8" else "bits-16")


@pytest.mark.parametrize(("suffix", "form", "subtype"), LOSSY, ids=lambda part: str(part))
def test_lossy_codecs(tmp_path: Path, suffix: str, form: str, subtype: str) -> None:
    rate = 48_000 if subtype == "OPUS" else RATE
    samples = tones(60_013, rate=rate)
    recording = read_sound(saved(tmp_path, samples, suffix, form, subtype, rate), SECONDS)
    assert (recording.rate, len(recording.samples), recording.notes) == (rate, 60_013, ())
    inner = slice(3000, -3000)
    error = recording.samples[inner] - samples[inner]
    assert error.std() < 0.1 * samples.std(), "another sound, or one shifted in time"


def test_only_what_is_heard_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour is read as quickly as four seconds."""
    path = saved(tmp_path, np.resize(tones(1000, 1, 1000), 3_600_000), subtype="PCM_U8", rate=1000)
    read: list[int] = []
    frames = soundfile.SoundFile.read
    monkeypatch.setattr(soundfile.SoundFile, "read", lambda self, n, **how: read.append(n) or frames(self, n, **how))
    recording = read_sound(path, SECONDS)
    assert recording.seconds == 3600 and sum(read) == len(recording.samples) == (SECONDS + EXTRA_SECONDS) * 1000


def test_a_suffix_does_not_matter(tmp_path: Path) -> None:
    """soundfile alone would ask for the rate of a .raw file."""
    samples = tones(1000)
    path = saved(tmp_path, samples).rename(tmp_path / "sound.raw")
    assert_close(read_sound(path, SECONDS).samples, samples, "bits-16")


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float16, np.float32, np.float64])
def test_arrays(dtype: type) -> None:
    samples = tones(999)
    scale = 2.0 ** (8 * np.dtype(dtype).itemsize - 1) if np.issubdtype(dtype, np.integer) else 1
    given = (samples * scale).astype(dtype)
    for array in (given, np.asfortranarray(given), given[:, 0]):
        recording = read_sound((array, np.int64(8000)), SECONDS)
        expected = samples if array.ndim == 2 else samples[:, :1]
        assert recording.samples.dtype == np.float32 and recording.rate == 8000
        assert_close(recording.samples, expected, "bits-8" if dtype == np.float16 else "bits-16")
    assert read_sound((given, 8000.0), SECONDS).rate == 8000


def test_a_long_array_is_cut_but_its_length_told() -> None:
    recording = read_sound((tones(80_000, 1), 8000), SECONDS)
    assert recording.seconds == 10 and len(recording.samples) == ceil((SECONDS + EXTRA_SECONDS) * 8000)


@pytest.mark.parametrize(
    ("samples", "got"),
    [
        (np.zeros((3, 4, 5), np.float32), "float32 [3, 4, 5]"),
        (np.array(3, np.float32), "float32 []"),
        (np.zeros((7, 2), np.uint8), "uint8 [7, 2]"),
        (np.zeros((7, 2), np.int64), "int64 [7, 2]"),
        (np.zeros((7, 2), bool), "bool [7, 2]"),
        (np.zeros((7, 2), complex), "complex128 [7, 2]"),
        (np.zeros((7, 2), object), "object [7, 2]"),
        (np.zeros(0, np.float32), "an array without samples"),
        (np.zeros((0, 2), np.float32), "an array without samples"),
        (np.zeros((7, 0), np.float32), "got 0;"),
        (np.zeros((7, 9), np.float32), "got 9; turn the array"),
        (np.zeros((700, 9), np.float32), "got 9; mix it down to two"),
    ],
)
def test_arrays_refused(samples: np.ndarray, got: str) -> None:
    assert got in refusal((samples, RATE))


@pytest.mark.parametrize("rate", ["44100", None, 44100.5, float("nan"), float("inf"), True, 1j])
def test_rates_that_are_none(rate) -> None:
    assert "expected a rate in Hz, a whole number such as 44100" in refusal((tones(9), rate))


@pytest.mark.parametrize("rate", [1, 0, -44100, 999, 768_001, 10_000_000, 10**400])
def test_absurd_rates(rate: int) -> None:
    assert "expected a rate of 1000 to 768000 Hz, got" in refusal((tones(9), rate))


@pytest.mark.parametrize("rate", [1, 10_000_000])
def test_absurd_rates_of_files(tmp_path: Path, rate: int) -> None:
    (tmp_path / "a.wav").write_bytes(foreign_wav(1, rate))
    assert f"expected a rate of 1000 to 768000 Hz, got {rate};" in refusal(tmp_path / "a.wav")


def test_too_many_channels(tmp_path: Path) -> None:
    assert "got 9; mix it down to two" in refusal(saved(tmp_path, np.zeros((999, 9), np.float32)))


@pytest.mark.parametrize(
    "source", [None, 3, b"a.wav", [1.0, 2.0], tones(9), (tones(9),), (RATE, tones(9)), ([1.0], RATE)]
)
def test_other_things_refused(source) -> None:
    assert "expected a file name or (samples, rate), samples as an array, got" in refusal(source)


def test_names_that_lead_nowhere(tmp_path: Path) -> None:
    assert "got nothing of that name" in refusal(tmp_path / "absent.wav")
    assert "got a folder or a device" in refusal(tmp_path)
    assert "got a folder or a device" in refusal("/dev/zero")
    refusal("a\0b.wav")
    refusal("a" * 5000)
    os.mkfifo(tmp_path / "pipe")
    assert "got a folder or a device" in refusal(tmp_path / "pipe")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = saved(tmp_path, tones(9))
    path.chmod(0)
    assert "Permission denied" in refusal(path)


@pytest.mark.parametrize("content", [b"not a sound at all", b"\0\0\0\x20ftypM4A \0\0\0\0M4A mp42isom" * 20])
def test_no_sound(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.wav").write_bytes(content)
    line = refusal(tmp_path / "a.wav")
    assert "got none of these; convert it" in line
    known = set(soundfile.available_formats()) - {"RAW"}
    assert {"FLAC", "MP3", "OGG", "WAV"} <= known and all(name in line for name in known)


@pytest.mark.parametrize("tag", [0x55, 0xFF, 0x161])
def test_an_unsupported_codec(tmp_path: Path, tag: int) -> None:
    """MP3, AAC and WMA in a WAV."""
    (tmp_path / "a.wav").write_bytes(foreign_wav(tag))
    assert f"a codec that libsndfile {soundfile.__libsndfile_version__} reads" in refusal(tmp_path / "a.wav")


def test_a_file_without_samples(tmp_path: Path) -> None:
    for suffix, form, subtype in (LOSSLESS[1], LOSSLESS[6]):
        assert "without samples" in refusal(saved(tmp_path, np.zeros((0, 2), np.float32), suffix, form, subtype))


@pytest.mark.parametrize(("suffix", "form", "subtype"), LOSSLESS + LOSSY, ids=lambda part: str(part))
def test_truncated_anywhere(tmp_path: Path, suffix: str, form: str, subtype: str) -> None:
    """What is left of the sound is read and the rest told, or the file is refused; never a silent shortening."""
    rate = 48_000 if subtype == "OPUS" else RATE
    path = saved(tmp_path, tones(120_000, rate=rate), suffix, form, subtype, rate)
    whole, expected = path.read_bytes(), read_sound(path, SECONDS).samples
    read = 0
    for length in range(0, len(whole) - 400, len(whole) // 40):
        path.write_bytes(whole[:length])
        try:
            recording = read_sound(path, SECONDS)
        except InputError as error:
            assert len(error.problems) == 1 and "\n" not in error.problems[0]
            continue
        got = len(recording.samples)
        (note,) = recording.notes
        assert f"cut off; the {got / rate:.2f} s that could be read are heard" in note
        assert recording.seconds == got / rate and got < len(expected)
        inner = max(1, got - 5000)
        assert_close(recording.samples[:inner], expected[:inner], "bits-16")
        read += 1
    assert read > 20 or form == "CAF"


def test_what_is_cut_behind_the_heard_part_does_not_matter(tmp_path: Path) -> None:
    path = saved(tmp_path, tones(60_000, 1, 8000), rate=8000)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 3 // 4])
    recording = read_sound(path, SECONDS)
    assert not recording.notes and recording.seconds == pytest.approx(45_000 / 8000, abs=0.01)


def test_a_header_written_before_the_sound_was_known(tmp_path: Path) -> None:
    """As programs write that send WAV through a pipe."""
    path = saved(tmp_path, tones(1000))
    content = bytearray(path.read_bytes())
    content[4:8] = content[40:44] = b"\xff" * 4
    path.write_bytes(content)
    recording = read_sound(path, SECONDS)
    assert not recording.notes and len(recording.samples) == 1000


@pytest.mark.parametrize(("suffix", "form", "subtype"), [LOSSLESS[1], LOSSLESS[6], *LOSSY], ids=lambda part: str(part))
def test_damaged_anywhere(tmp_path: Path, suffix: str, form: str, subtype: str) -> None:
    path = saved(tmp_path, tones(30_000, rate=48_000), suffix, form, subtype, 48_000)
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    random = np.random.default_rng(7)
    for _ in range(120):
        changed = whole.copy()
        places = random.integers(0, min(len(whole), random.choice([64, 100_000])), random.choice([1, 3, 20]))
        changed[places] = random.integers(0, 256, len(places))
        path.write_bytes(changed.tobytes())
        try:
            recording = read_sound(path, SECONDS)
            assert recording.samples.ndim == 2 and len(recording.samples)
        except InputError as error:
            assert len(error.problems) == 1 and "\n" not in error.problems[0]


@pytest.mark.parametrize("failure", [ImportError("no module"), OSError("sndfile library not found")])
def test_without_the_library(failure: Exception) -> None:
    line = r"^sound needs soundfile: pip install 'x2i-edge\[sound\]'$"
    with pytest.raises(InputError, match=line), sound_files.require_sound("soundfile"):
        raise failure


def test_a_file_that_was_written_into_a_pipe_promises_nothing(tmp_path):
    """Such a FLAC's header counts no samples; in such a WAV's, the data are as long as its program can count."""
    samples = tones(9000)
    whole = bytearray(saved(tmp_path, samples, "flac", "FLAC", "PCM_16").read_bytes())
    counted = int.from_bytes(whole[18:26], "big")
    assert counted & (2**36 - 1) == 9000
    whole[18:26] = (counted >> 36 << 36).to_bytes(8, "big")
    (tmp_path / "piped.flac").write_bytes(whole)
    piped = read_sound(tmp_path / "piped.flac", 1.0)
    assert not piped.notes and len(piped.samples) > 0.5 * len(samples) and piped.seconds < 1
    for largest in (0x7FFFF000, 0x7FFFFFFF, 0xFFFFFFFF):
        wav = bytearray(saved(tmp_path, samples).read_bytes())
        place = wav.index(b"data") + 4
        wav[place : place + 4] = largest.to_bytes(4, "little")
        (tmp_path / "piped.wav").write_bytes(wav)
        piped = read_sound(tmp_path / "piped.wav", 1.0)
        assert not piped.notes and len(piped.samples) == 9000
