"""Sounds from the command line: drawn, with a warning where something is lost, or refused with nothing written."""

import importlib
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from x2i.runtime import load
from x2i.runtime.cli import main

from tests.numerics import assert_close, assert_same_picture
from tests.runtime.inputs.sounds import foreign_wav, saved, tones

RATE = 8000
"""The tiny bundle's, which hears 0.75 s."""


@pytest.fixture(scope="module")
def pipelines(sound_bundle, tiny_bundle):
    return {None: load(sound_bundle), str(tiny_bundle): load(sound_bundle, text_bundle=tiny_bundle)}


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """The folder of the sounds, good and bad, and the current one."""
    sound = tones(5000, rate=RATE)
    broken = sound.copy()
    broken[77] = np.nan
    late = np.concatenate([np.zeros_like(sound), np.zeros_like(sound), sound])
    samples = {
        "a": sound,
        "empty": sound[:0],
        "silent": sound * 0,
        "constant": sound * 0 + 0.5,
        "late": late,
        "one": sound[:1],
        "nan": broken,
        "infinite": np.where(np.isnan(broken), np.inf, broken),
        "hour": np.resize(sound[:, :1], (3600 * RATE, 1)),
        "eight": tones(5000, 8, RATE),
        "nine": tones(5000, 9, RATE),
        "dither": sound * 1e-4,
    }
    for name, array in samples.items():
        kind = {"nan": "FLOAT", "infinite": "FLOAT", "hour": "PCM_U8"}.get(name, "PCM_16")
        saved(tmp_path, array, subtype=kind, rate=RATE).rename(tmp_path / f"{name}.wav")
    for form, subtype in (("flac", "PCM_16"), ("ogg", "VORBIS"), ("mp3", "MPEG_LAYER_III")):
        saved(tmp_path, sound, form, form.upper(), subtype, RATE).rename(tmp_path / f"a.{form}")
        whole = (tmp_path / f"a.{form}").read_bytes()
        (tmp_path / f"stub.{form}").write_bytes(whole[:40])
    whole = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "half.wav").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "wma.wav").write_bytes(foreign_wav(0x161))
    (tmp_path / "slow.wav").write_bytes(foreign_wav(1, 1))
    (tmp_path / "fast.wav").write_bytes(foreign_wav(1, 10_000_000))
    (tmp_path / "text.wav").write_text("the sound of a dog", "utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def x2i(pipelines, here, monkeypatch):
    """`x2i run` in that folder, on pipelines that stay open."""
    command = importlib.import_module("x2i.runtime.commands.run")
    monkeypatch.setattr(command, "open_bundle", lambda *_, **__: pipelines[None].bundle)
    monkeypatch.setattr(command, "load", lambda *_, text_bundle=None, **__: pipelines[text_bundle and str(text_bundle)])

    def run(*options):
        quick = ["--steps", 2, "--size", "16x24", "--out", "out.png"]
        return CliRunner().invoke(main, [str(word) for word in ("run", "bundle", *quick, *options)])

    return run


REFUSED = {
    "no sound": ("", "sound: expected a sound, which this bundle draws from, got none"),
    "no such file": ("b.wav", "sound b.wav: expected a sound file, got nothing of that name; check the path"),
    "a folder": (".", "sound .: expected a sound file, got a folder or a device"),
    "no samples": ("empty.wav", "sound empty.wav: expected a sound, got a file without samples"),
    "silence": ("silent.wav", "sound silent.wav: expected a sound, got silence or a constant"),
    "constant": ("constant.wav", "sound constant.wav: expected a sound, got silence or a constant"),
    "one sample": ("one.wav", "sound one.wav: expected a sound, got silence or a constant"),
    "too late": ("late.wav", "throughout the first 0.75 s; cut off the silence before the sound"),
    "nan": ("nan.wav", "sound nan.wav: expected samples of about -1 to 1, got 2 that are infinite or no numbers"),
    "infinite": ("infinite.wav", "sound infinite.wav: expected samples of about -1 to 1, got 2 that are infinite"),
    "nine channels": ("nine.wav", "sound nine.wav: expected 1 to 8 channels, got 9; mix it down to two"),
    "1 Hz": ("slow.wav", "sound slow.wav: expected a rate of 1000 to 768000 Hz, got 1;"),
    "10 MHz": ("fast.wav", "sound fast.wav: expected a rate of 1000 to 768000 Hz, got 10000000;"),
    "codec": ("wma.wav", "sound wma.wav: expected a whole sound in a codec that libsndfile"),
    "no sound at all": ("text.wav", "sound text.wav: expected a sound (AIFF,"),
    "flac stub": ("stub.flac", "sound stub.flac: expected a"),
    "ogg stub": ("stub.ogg", "sound stub.ogg: expected a"),
    "mp3 stub": ("stub.mp3", "sound stub.mp3: expected a"),
}


@pytest.mark.parametrize(("file", "message"), REFUSED.values(), ids=REFUSED)
def test_refused_in_one_line_with_nothing_written(x2i, here, file, message):
    before = sorted(here.iterdir())
    result = x2i(*(("--sound", file) if file else ()))
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("x2i: error: ") and message in line and not result.stdout
    assert sorted(here.iterdir()) == before


TOLD = {
    "hour": ("hour.wav", "it is 3600.00 s long; the first 0.75 s are heard, no more"),
    "eight channels": ("eight.wav", "it has 8 channels, each of which is heard alone before they are added up"),
    "truncated": ("half.wav", "the file is damaged or cut off; the 0.31 s that could be read are heard"),
    "dither": ("dither.wav", "it is nearly silent (-87 dB of full scale)"),
}


@pytest.mark.parametrize(("file", "message"), TOLD.values(), ids=TOLD)
def test_drawn_with_a_warning(x2i, here, file, message):
    result = x2i("--sound", file)
    assert result.exit_code == 0, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"x2i: warning: sound {file}: ") and message in line
    assert Image.open(here / "out.png").size == (24, 16)


def test_one_sound_in_four_formats(x2i, here):
    pictures = []
    for form in ("wav", "flac", "ogg", "mp3"):
        result = x2i("--sound", f"a.{form}")
        assert result.exit_code == 0 and not result.stderr, result.output
        pictures.append(np.asarray(Image.open(here / "out.png")))
    assert_same_picture(pictures[1], pictures[0], share=1.0)
    other = x2i("--sound", "eight.wav")
    assert other.exit_code == 0 and (np.asarray(Image.open(here / "out.png")) != pictures[0]).any()


def test_a_prompt_is_mixed_in_by_the_amount(x2i, here, tiny_bundle):
    def drawn(*options):
        result = x2i("--sound", "a.wav", *options)
        assert result.exit_code == 0 and not result.stderr, result.output
        return np.asarray(Image.open(here / "out.png"))

    words = ("--text-bundle", tiny_bundle, "--language", "French", "un jardin")
    default, five, six = drawn(*words), drawn(*words, "--mix", 5), drawn(*words, "--mix", 6)
    assert_close(default, five, "exact")
    assert (six != five).any() and (drawn() != five).any()


def test_a_mix_without_a_text_bundle(x2i, here):
    for options in (("--mix", 5), ("a street",), ("a street", "--mix", 5)):
        result = x2i("--sound", "a.wav", *options)
        assert result.exit_code == 2 and len(result.stderr.splitlines()) >= 1, result.output
        assert not (here / "out.png").exists()
