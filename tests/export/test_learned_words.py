"""Learned words at export: the picture of diffusers with `load_textual_inversion`, and of a word that is known."""

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from diffusers import StableDiffusionPipeline
from safetensors.torch import save_file
from tokenizers import Tokenizer
from x2i.runtime.cli import main

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
