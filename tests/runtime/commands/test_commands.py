"""The command line on a real bundle: what is printed, what is written, and what is refused with exit code 2."""

import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from x2i.runtime import load
from x2i.runtime.cli import main

from tests.bundles import tiny
from tests.numerics import assert_close
from tests.runtime.toy import edit_manifest


def x2i(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def language_of(bundle):
    return next(name for name in load(bundle).bundle.manifest.graphs if name.startswith("translator.")).split(".")[1]


@pytest.fixture
def draw(tiny_bundle, tmp_path):
    """Runs `x2i run` quickly on the tiny bundle; later options override earlier ones."""

    def run(*options, bundle=tiny_bundle, prompt="a red apple"):
        quick = ["--language", language_of(tiny_bundle), "--steps", 2, "--size", "16x24", "--out", tmp_path / "a.png"]
        return x2i("run", bundle, prompt, *quick, *options)

    return run


def test_run_writes_the_picture_and_says_where(draw, tmp_path):
    result = draw()
    assert result.exit_code == 0, result.output
    assert str(tmp_path / "a.png") in result.stdout and "denoise" in result.stdout
    assert Image.open(tmp_path / "a.png").size == (24, 16)


def test_run_equals_the_python_surface(draw, tiny_bundle, tmp_path):
    assert draw("--save-latents", tmp_path / "l.npy", "--seed", 7, "--guidance", 3).exit_code == 0
    options = {"language": language_of(tiny_bundle), "steps": 2, "size": (16, 24), "seed": 7, "guidance": 3.0}
    output = load(tiny_bundle)("a red apple", **options)
    assert_close(np.load(tmp_path / "l.npy"), output.latents, "exact")
    assert_close(np.asarray(Image.open(tmp_path / "a.png")), np.asarray(output.images[0]), "exact")


def test_noise_file_and_several_pictures(draw, tmp_path):
    noise = np.random.default_rng(0).standard_normal((2, 4, 4, 6)).astype(np.float32)
    np.save(tmp_path / "n.npy", noise)
    result = draw("--noise", tmp_path / "n.npy", "--size", "32x48", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["images"] == [str(tmp_path / "a-1.png"), str(tmp_path / "a-2.png")]
    assert set(told["seconds"]) == {"encode", "denoise", "decode", "total"} and told["warnings"] == []
    assert not (tmp_path / "a.png").exists() and (tmp_path / "a-2.png").exists()


def test_an_engine_that_does_not_fit_is_told_though_it_is_found_while_drawing(draw, tiny_bundle, tmp_path):
    pytest.importorskip("openvino")
    bundle = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    assert x2i("build", bundle, "--for", "openvino", "--graph", "denoiser", "--size", "16x24").exit_code == 0
    drawn = draw("--backend", "openvino", bundle=bundle)
    assert (drawn.exit_code, drawn.stderr) == (0, "")
    for engine in (bundle / "engines").glob("*.engine"):
        engine.write_bytes(engine.read_bytes()[:-1])
    drawn = draw("--backend", "openvino", bundle=bundle)
    assert drawn.exit_code == 0
    assert "x2i: warning: denoiser: compiled again, since no engine fits" in drawn.stderr


def test_inspect_prints_the_manifest_with_its_revision(tiny_bundle):
    told = json.loads(x2i("inspect", tiny_bundle, "--json").stdout)
    assert told == json.loads((tiny_bundle / "manifest.json").read_text("utf-8")) and "revision" in told


def test_long_prompt_is_drawn_with_a_warning(draw, tmp_path):
    result = draw(prompt="apple " * 200 + "the very end")
    assert result.exit_code == 0 and (tmp_path / "a.png").exists()
    assert "x2i: warning: " in result.stderr and "the very end" in result.stderr


REFUSED = {
    "unknown language": (("--language", "Klingon"), "language: expected one of"),
    "size": (("--size", "20x24"), "multiples of 8 pixels"),
    "steps": (("--steps", "0"), "steps: expected"),
    "sampler": (("--sampler", "magic"), "sampler: expected one of"),
    "backend": (("--backend", "abacus"), "backend: expected one of"),
    "picture format": (("--out", "a.doc"), "expected a picture name"),
    "picture format that is only read": (("--out", "a.psd"), "expected a picture name"),
    "folder that takes no file": (("--out", "/proc/a.png"), "/proc/a.png: could not be written"),
    "latents format": (("--save-latents", "a.png"), "--save-latents: expected a name such as latents.npy, got a.png"),
    "picture folder": (("--out", "nowhere/a.png"), "the folder nowhere does not exist"),
    "latents folder": (("--save-latents", "nowhere/l.npy"), "the folder nowhere does not exist"),
    "noise file": (("--noise", "nothing.npy"), "--noise nothing.npy: expected a .npy file"),
}


@pytest.mark.parametrize(("options", "message"), REFUSED.values(), ids=REFUSED)
def test_bad_input_is_refused_with_nothing_written(draw, tmp_path, options, message):
    result = draw(*options)
    assert result.exit_code == 2
    assert result.stderr.startswith("x2i: error: ") and message in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_sound_goes_into_no_picture(tmp_path):
    result = x2i("run", tiny("diffsound"), "rain", "--out", tmp_path / "a.png")
    assert result.exit_code == 2
    assert "a.png: expected a name such as a.wav for sound, which this run gives, got '.png'" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_missing_language_lists_those_present(tiny_bundle, tmp_path):
    result = x2i("run", tiny_bundle, "apple", "--out", tmp_path / "a.png")
    assert result.exit_code == 2 and "language: expected one of Chinese, French, got none" in result.stderr


@pytest.mark.parametrize("spoil", [np.nan, np.inf], ids=str)
def test_noise_with_nan_is_refused(draw, tmp_path, spoil):
    noise = np.zeros((1, 4, 2, 3), np.float32)
    noise[0, 1, 1, 2] = spoil
    np.save(tmp_path / "n.npy", noise)
    result = draw("--noise", tmp_path / "n.npy")
    assert result.exit_code == 2 and "1 NaN or infinite" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["n.npy"]


def test_pickled_noise_is_refused(draw, tmp_path):
    np.save(tmp_path / "n.npy", np.array([{"a": 1}]), allow_pickle=True)
    result = draw("--noise", tmp_path / "n.npy")
    assert result.exit_code == 2 and "expected a .npy file" in result.stderr


def test_altered_bundle_is_refused_by_run_and_verify(draw, tiny_bundle, tmp_path):
    spoiled = shutil.copytree(tiny_bundle, tmp_path / "spoiled")
    data = bytearray((spoiled / "denoiser.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (spoiled / "denoiser.onnx").write_bytes(data)
    for result in (draw(bundle=spoiled), x2i("verify", spoiled)):
        assert result.exit_code == 2
        assert "denoiser.onnx: altered: expected sha256" in result.stderr
    assert not (tmp_path / "a.png").exists()


def test_newer_bundle_is_refused(draw, tiny_bundle, tmp_path):
    newer = shutil.copytree(tiny_bundle, tmp_path / "newer")
    edit_manifest(newer, lambda data: data.update(revision=99))
    result = draw(bundle=newer)
    assert result.exit_code == 2 and "bundle revision 99" in result.stderr and "upgrade" in result.stderr


def test_verify_proves_every_graph(tiny_bundle):
    result = x2i("verify", tiny_bundle)
    assert result.exit_code == 0, result.output
    graphs = load(tiny_bundle).bundle.manifest.graphs
    assert sum(line.startswith("ok  ") for line in result.stdout.splitlines()) == len(graphs)


def test_verify_fails_when_a_graph_no_longer_gives_its_proof(tiny_bundle, tmp_path):
    other = shutil.copytree(tiny_bundle, tmp_path / "other")
    proof = other / "proof" / "decoder" / "image.npy"
    np.save(proof, np.load(proof) * 1.01)

    def redigest(data):
        from x2i.runtime.bundle.reader import file_record

        record = file_record(proof)
        data["files"]["proof/decoder/image.npy"] = {"bytes": record.bytes, "sha256": record.sha256}

    edit_manifest(other, redigest)
    result = x2i("verify", other)
    assert result.exit_code == 2 and "decoder past the gate" in result.stderr
    assert "FAILED  decoder" in result.stdout


def test_inspect_shows_plan_graphs_and_origin(tiny_bundle):
    result = x2i("inspect", tiny_bundle)
    assert result.exit_code == 0
    for part in (
        "gluegen-text",
        "translator.{language}",
        "at every step: plms, 50 steps",
        "from timestep 1000: denoiser",
        "none: random",
    ):
        assert part in result.stdout
    assert json.loads(x2i("inspect", tiny_bundle, "--json").stdout)["system"] == "gluegen-text"


def test_full_disk_is_one_line(draw, monkeypatch):
    import errno

    from x2i.runtime.files import writing

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writing.os, "replace", full)
    result = draw()
    assert result.exit_code == 2 and "could not be written: No space left on device" in result.stderr
