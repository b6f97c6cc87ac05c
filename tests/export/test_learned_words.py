"""Learned words, at export and of a call: the picture of diffusers with `load_textual_inversion`."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from x2i.runtime import load
from x2i.runtime.cli import main
from x2i.runtime.errors import InputError
from x2i.runtime.media.picture_files import read_parameters

from tests.export.published_folders import publish
from tests.numerics import assert_close

WIDTH = 24
PROMPTS = {
    "three vectors in the middle": "a cat-toy on a table",
    "twice": "a cat-toy, cat-toy",
    "both": "a (cat-toy) and <dog>s",
    "none": "a cat toy",
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    publish(folder, {}, {}, {}, [], 77, "<|endoftext|>")
    random = torch.Generator().manual_seed(5)
    known = Tokenizer.from_file(str(folder / "tokenizer.json")).token_to_id("x</w>")
    encoder = StableDiffusionPipeline.from_pretrained(folder / "base", safety_checker=None).text_encoder
    rows = encoder.get_input_embeddings().weight.detach()
    vectors = torch.randn(3, WIDTH, generator=random) * rows.std()
    old = {"string_to_token": {"*": 265}, "string_to_param": {"*": vectors}, "name": "another", "step": 3}
    torch.save(old, folder / "toy.pt")
    save_file({"emb_params": vectors.bfloat16()}, folder / "toy.safetensors")
    save_file({"a": vectors.clone(), "b": vectors.clone()}, folder / "two.safetensors")
    save_file({"a": vectors[:, :-1].contiguous()}, folder / "narrow.safetensors")
    save_file({"a": torch.full((2, WIDTH), torch.nan)}, folder / "nan.safetensors")
    save_file({"<dog>": torch.randn(WIDTH, generator=random) * rows.std()}, folder / "dog.safetensors")
    save_file({"any": rows[known].clone()}, folder / "known.safetensors")
    return folder


def refused(*arguments: object) -> list[str]:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 2, result.output
    return result.output.splitlines()


def drawn(bundle: Path, prompt: str, folder: Path, *options: object) -> np.ndarray:
    saved = folder / "latents.npy"
    named = ("--backend", "cpu", "--steps", 2, "--size", "16x24", "--seed", 3, "--save-latents", saved)
    arguments = ["run", bundle, prompt, "--out", folder / "out.png", *named, *options]
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return np.load(saved)


@pytest.fixture(scope="module")
def bundle(base: Path) -> Path:
    parts = {"cat-toy": "toy.pt", "<dog>": "dog.safetensors", "new-name": "known.safetensors"}
    named = [option for name, file in parts.items() for option in ("--part", f"embedding:{name}={base / file}")]
    result = CliRunner().invoke(main, ["export", "sd", str(base / "bundle"), "--base", str(base / "base"), *named])
    assert result.exit_code == 0, result.output
    return base / "bundle"


@pytest.mark.parametrize("kind", PROMPTS)
@torch.no_grad()
def test_the_picture_of_diffusers(base: Path, bundle: Path, tmp_path: Path, kind: str) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(base / "base", safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.load_textual_inversion(str(base), weight_name="toy.pt", token="cat-toy", use_safetensors=False)
    pipeline.load_textual_inversion(str(base / "dog.safetensors"), token="<dog>")
    noise = np.random.default_rng(1).standard_normal((1, 4, 8, 12)).astype(np.float32)
    np.save(tmp_path / "noise.npy", noise)
    expected = pipeline(
        PROMPTS[kind],
        negative_prompt="<dog>",
        num_inference_steps=2,
        guidance_scale=4.0,
        latents=torch.from_numpy(noise),
        output_type="latent",
    ).images.numpy()
    options = ("--negative", "<dog>", "--guidance", 4, "--noise", tmp_path / "noise.npy")
    assert_close(drawn(bundle, PROMPTS[kind], tmp_path, *options), expected, "latents")


def test_a_known_word_under_a_new_name_draws_the_same_bytes(bundle: Path, tmp_path: Path) -> None:
    known = drawn(bundle, "a x b", tmp_path)
    assert np.array_equal(drawn(bundle, "a new-name b", tmp_path), known)
    assert not np.array_equal(drawn(bundle, "a cat-toy b", tmp_path), known)


@pytest.mark.parametrize("kind", PROMPTS)
@torch.no_grad()
def test_words_of_a_call_draw_the_picture_of_diffusers(base: Path, bundle: Path, tmp_path: Path, kind: str) -> None:
    """Beside those that the bundle was exported with; a file in bfloat16 is read to the bit."""
    pipeline = StableDiffusionPipeline.from_pretrained(base / "base", safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.load_textual_inversion(str(base / "dog.safetensors"), token="<dog>")
    vectors = load_file(base / "toy.safetensors")["emb_params"].float()
    pipeline.load_textual_inversion({"any": vectors}, token="my-toy")
    noise = np.random.default_rng(2).standard_normal((1, 4, 8, 12)).astype(np.float32)
    np.save(tmp_path / "noise.npy", noise)
    prompt = PROMPTS[kind].replace("cat-toy", "my-toy")
    asked = {"negative_prompt": "my-toy", "num_inference_steps": 2, "guidance_scale": 4.0}
    expected = pipeline(prompt, latents=torch.from_numpy(noise), output_type="latent", **asked).images.numpy()
    options = ("--negative", "my-toy", "--guidance", 4, "--noise", tmp_path / "noise.npy")
    given = ("--embedding", f"my-toy={base / 'toy.safetensors'}")
    assert_close(drawn(bundle, prompt, tmp_path, *options, *given), expected, "latents")


def test_a_call_s_word_draws_the_bytes_of_the_exported_one(base: Path, bundle: Path, tmp_path: Path) -> None:
    given = ("--embedding", f"a-word={base / 'known.safetensors'}", "--embedding", f"zz={base / 'dog.safetensors'}")
    known = drawn(bundle, "a x b", tmp_path)
    assert np.array_equal(drawn(bundle, "a a-word b", tmp_path, *given), known)
    assert np.array_equal(drawn(bundle, "a x b", tmp_path, *given), known)
    assert np.array_equal(drawn(bundle, "a zz b", tmp_path, *given), drawn(bundle, "a <dog> b", tmp_path))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["toy=toy.pt"], "expected a .safetensors file"),
        (["toy=two.safetensors"], "the keys a, b"),
        (["toy=narrow.safetensors"], "[24] or [n, 24], got [3, 23]"),
        (["toy=nan.safetensors"], "finite"),
        (["toy=none.safetensors"], "got nothing of that name"),
        (["x=toy.safetensors"], "nothing else is written with"),
        (["cat-toy=toy.safetensors"], "nothing else is written with"),
        (["toy=toy.safetensors", "toy=dog.safetensors"], "each word once"),
        (["a b=toy.safetensors"], "letters, digits"),
        (["toy"], "NAME=FILE"),
    ],
)
def test_what_a_call_may_not_bring(base: Path, bundle: Path, monkeypatch, given: list[str], said: str) -> None:
    monkeypatch.chdir(base)
    named = [option for each in given for option in ("--embedding", each)]
    lines = refused("run", bundle, "a toy", "--out", base / "refused.png", *named)
    assert sum(said in line for line in lines) == 1 and not (base / "refused.png").exists()


def test_a_picture_tells_the_words_it_was_drawn_with(base: Path, bundle: Path, tmp_path: Path) -> None:
    given = ("--embedding", f"my-toy={base / 'toy.safetensors'}")
    latents = drawn(bundle, "a my-toy", tmp_path, *given)
    record = read_parameters(tmp_path / "out.png")
    (file,) = record.files["embedding"]
    assert file.name == "my-toy=toy.safetensors"
    assert file.sha256 == hashlib.sha256((base / "toy.safetensors").read_bytes()).hexdigest()
    again = ("--again", tmp_path / "out.png", "--save-latents", tmp_path / "again.npy", "--out", tmp_path / "two.png")
    lines = refused("run", bundle, *again, "--backend", "cpu")
    assert any("my-toy=toy.safetensors" in line and "give it again" in line for line in lines)
    result = CliRunner().invoke(main, [str(each) for each in ("run", bundle, *again, "--backend", "cpu", *given)])
    assert result.exit_code == 0 and np.array_equal(np.load(tmp_path / "again.npy"), latents)


def test_python_takes_paths_by_name(base: Path, bundle: Path) -> None:
    pipeline, options = load(bundle, backend="cpu"), {"steps": 2, "size": (16, 24)}
    one = pipeline("a toy", embedding={"toy": base / "toy.safetensors"}, **options)
    text = f"toy={base / 'toy.safetensors'}"
    other, third = (pipeline("a toy", embedding=given, **options) for given in (text, [text]))
    assert one.latents is not None and np.array_equal(one.latents, other.latents)
    assert np.array_equal(one.latents, third.latents)
    assert one.parameters[0].files == other.parameters[0].files
    with pytest.raises(InputError, match="embedding: expected"):
        pipeline("a toy", embedding=3, **options)


@pytest.mark.parametrize(
    ("system", "part", "said"),
    [
        ("sd", "embedding:x=toy.pt", "nothing else is written with"),
        ("sd", "embedding:a b=toy.pt", "--part embedding:a b: unknown"),
        ("gluegen-text", "embedding:toy=toy.pt", "--part embedding:toy: unknown"),
        ("sd", "embedding:toy=absent.pt", "found none"),
    ],
)
def test_what_is_refused(base: Path, tmp_path: Path, system: str, part: str, said: str) -> None:
    name, _, file = part.partition("=")
    lines = refused("export", system, tmp_path / "out", "--base", base / "base", "--part", f"{name}={base / file}")
    assert any(said in line for line in lines) and not (tmp_path / "out").exists()
