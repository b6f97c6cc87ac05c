"""A real bundle in an environment with the base install alone: it draws the same picture, and torch is never met."""

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from x2i.runtime import load

from tests.numerics import assert_close
from tests.processes import imported, run
from tests.runtime.inputs.sounds import saved, tones

HEAVY = {"torch", "transformers", "diffusers", "onnx", "safetensors"}


def test_run_draws_the_same_picture_and_imports_nothing_heavy(clean_venv: Path, tiny_bundle: Path, tmp_path: Path):
    words = ["run", tiny_bundle, "ein roter Apfel", "--language", "French", "--steps", "2", "--size", "16x24"]
    process = run(clean_venv / "x2i", *words, "--out", "a.png", cwd=tmp_path, PYTHONPROFILEIMPORTTIME="1")
    modules = imported(process.stderr)
    assert {"onnxruntime", "tokenizers", "PIL.Image"} <= modules, "the trace saw nothing"
    assert not {name.split(".")[0] for name in modules} & HEAVY
    expected = load(tiny_bundle)("ein roter Apfel", language="French", steps=2, size=(16, 24)).images[0]
    assert_close(np.asarray(Image.open(tmp_path / "a.png")), np.asarray(expected), "exact")


def test_verify_and_inspect_work_there_too(clean_venv: Path, tiny_bundle: Path, tmp_path: Path):
    assert "graphs as exported" in run(clean_venv / "x2i", "verify", tiny_bundle, cwd=tmp_path).stdout
    assert "translator.{language}" in run(clean_venv / "x2i", "inspect", tiny_bundle, cwd=tmp_path).stdout


def test_a_subject_is_drawn_there_too(clean_venv: Path, elite_bundle: Path, tmp_path: Path):
    subject, mask = np.zeros((40, 30, 3), np.uint8), np.zeros((40, 30), np.uint8)
    subject[5:30, 4:20], mask[5:30, 4:20] = (200, 90, 30), 255
    Image.fromarray(subject).save(tmp_path / "s.png")
    Image.fromarray(mask).save(tmp_path / "m.png")
    words = ["run", elite_bundle, "a S on the beach", "--subject", "s.png", "--mask", "m.png", "--steps", "2"]
    process = run(clean_venv / "x2i", *words, "--out", "a.png", cwd=tmp_path, PYTHONPROFILEIMPORTTIME="1")
    assert not {name.split(".")[0] for name in imported(process.stderr)} & HEAVY
    expected = load(elite_bundle)("a S on the beach", subject=subject, mask=mask, steps=2).images[0]
    assert_close(np.asarray(Image.open(tmp_path / "a.png")), np.asarray(expected), "exact")


def test_a_sound_is_drawn_without_torch(sound_bundle: Path, tmp_path: Path):
    """Here, where soundfile and soxr are: they bring nothing heavy along."""
    path = saved(tmp_path, tones(9000, rate=22_050), rate=22_050)
    words = ["run", sound_bundle, "--sound", path, "--steps", "2", "--out", "a.png"]
    x2i = Path(sys.executable).parent / "x2i"
    modules = imported(run(x2i, *words, cwd=tmp_path, PYTHONPROFILEIMPORTTIME="1").stderr)
    assert {"soundfile", "soxr"} <= modules and not {name.split(".")[0] for name in modules} & HEAVY
    expected = load(sound_bundle)(sound=path, steps=2).images[0]
    assert_close(np.asarray(Image.open(tmp_path / "a.png")), np.asarray(expected), "exact")


def test_a_sound_needs_its_extra(clean_venv: Path, sound_bundle: Path, tmp_path: Path):
    path = saved(tmp_path, tones(9000))
    process = run(clean_venv / "x2i", "run", sound_bundle, "--sound", path, cwd=tmp_path, code=2)
    assert process.stderr.splitlines() == ["x2i: error: sound needs soundfile: pip install 'x2i-edge[sound]'"]
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
