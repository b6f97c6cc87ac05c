"""Several subjects from the command line: drawn, with a warning where something surprises, or refused in lines."""

import importlib
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from x2i.runtime import load
from x2i.runtime.cli import main

RANDOM = np.random.default_rng(37)
TWO = "a man <|image|> and a dog <|image|>"


@pytest.fixture(scope="module")
def pipeline(fastcomposer_bundle):
    return load(fastcomposer_bundle)


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """The folder of the pictures, and the current one."""
    for name in ("a", "b", "c"):
        Image.fromarray(RANDOM.integers(0, 256, (21, 34, 3), dtype=np.uint8)).save(tmp_path / f"{name}.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "a.png").read_bytes()[:300])
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def x2i(pipeline, here, monkeypatch):
    """`x2i run` in that folder, on a pipeline that stays open; subjects are named by their letters."""
    command = importlib.import_module("x2i.runtime.commands.run")
    monkeypatch.setattr(command, "open_bundle", lambda *_, **__: pipeline.bundle)
    monkeypatch.setattr(command, "load", lambda *_, **__: pipeline)

    def run(prompt: str, subjects: str = "", *options):
        given = [word for name in subjects.split() for word in ("--subject", f"{name}.png")]
        quick = ["--steps", 4, "--size", "16x24", "--out", "out.png", "--delay", 0.5]
        return CliRunner().invoke(main, [str(word) for word in ("run", "bundle", prompt, *quick, *given, *options)])

    return run


REFUSED = {
    "fewer": (TWO, "a", (), "got 1 picture for 2 marked"),
    "more": (TWO, "a b c", (), "got 3 pictures for 2 marked"),
    "none": (TWO, "", (), "got 0 pictures for 2 marked"),
    "no marker": ("a man and a dog", "a b", (), "got 2 pictures for 0 marked"),
    "the other marker": ("a man img", "a", (), "got 1 picture for 0 marked"),
    "doubled": ("a man <|image|> <|image|>", "a b", (), "twice behind one word counts once"),
    "other letters": ("a man <|IMAGE|>", "a", (), "other letters"),
    "empty marker": (TWO, "a b", ("--marker", ""), "marker: expected text"),
    "damaged": (TWO, "a half", (), "subject 2 half.png: expected a whole picture"),
    "both delays": (TWO, "a b", ("--start-merge-step", 2), "give one of the two"),
    "delay": (TWO, "a b", ("--delay", 1.01), "alpha (--delay): expected a share from 0"),
    "resolution": (TWO, "a b", ("--object-resolution", 0), "object_resolution: expected"),
    "a mask": (TWO, "a b", ("--mask", "a.png"), "mask: this bundle takes none"),
    "a sound": (TWO, "a b", ("--sound", "a.png"), "sound: this bundle takes none"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_one_line_with_nothing_written(x2i, here, case):
    prompt, subjects, options, message = REFUSED[case]
    before = sorted(here.iterdir())
    result = x2i(prompt, subjects, *options)
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("x2i: error: ") and message in line and not result.stdout
    assert sorted(here.iterdir()) == before


def test_all_problems_are_told_at_once(x2i):
    result = x2i(TWO, "half", "--mask", "a.png", "--delay", 7, "--guidance", "nan")
    assert result.exit_code == 2 and len(result.stderr.splitlines()) == 5, result.stderr


TOLD = {
    "at the start": ("<|image|> a man", "a", (), "opening token becomes the subject"),
    "doubled": ("a man <|image|> <|image|>", "a", (), "counts once"),
    "inside a word": ("a photo of imgur", "a", ("--marker", "img"), "inside a word"),
    "no subject at all": ("a man and a dog", "", (), "the text alone is drawn"),
    "never": (TWO, "a b", ("--delay", 0), "all 4 UNet calls see the text alone"),
}


@pytest.mark.parametrize("case", TOLD)
def test_drawn_with_a_warning(x2i, here, case):
    prompt, subjects, options, message = TOLD[case]
    result = x2i(prompt, subjects, "--sampler", "ddim", *options)
    assert result.exit_code == 0, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("x2i: warning: ") and message in line
    assert Image.open(here / "out.png").size == (24, 16)


def test_subjects_stand_in_the_order_of_their_markers(x2i, here):
    pictures = []
    for subjects in ("a b", "b a", "a b"):
        assert not x2i(TWO, subjects).stderr
        pictures.append(np.asarray(Image.open(here / "out.png")))
    assert (pictures[0] == pictures[2]).all() and (pictures[0] != pictures[1]).any()


def test_inspect_shows_what_happens_at_which_step(fastcomposer_bundle, sound_bundle):
    told = CliRunner().invoke(main, ["inspect", str(fastcomposer_bundle)]).stdout
    for part in (
        "scaled to 224x224 first -> subjects_pixels",
        "the prompt without the marker ('<|image|>')",
        "the prompt's nouns before the marker ('<|image|>') -> object_index",
        "context, objects, object_index -> postfuse -> context",
        "UNet call 0 and on: denoiser, reading plain_key.*, plain_value.*",
        "UNet call 11 and on: denoiser, reading key.*, value.*",
    ):
        assert part in told, told
    told = CliRunner().invoke(main, ["inspect", str(sound_bundle)]).stdout
    for part in ("sound, 0.75 s at 8000 Hz -> waveform", "context, mixed with a text bundle's"):
        assert part in told, told
