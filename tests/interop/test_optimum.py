"""Optimum and this project read each other's folders: same noise, same picture. Its pins differ: `make interop`."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from x2i.emoji.embedded import WEIGHTS, embedded_sd
from x2i.export.exporter import export_bundle
from x2i.export.optimum.from_optimum import import_folder
from x2i.export.optimum.to_optimum import export_folder
from x2i.runtime import load

from tests.numerics import assert_same_picture

pipelines = pytest.importorskip(
    "optimum.onnxruntime", reason="needs optimum-onnx, whose pins are not these tests': run `make interop`"
)
PROMPTS = ("a red apple on white", "a rocket on blue")
OPTIONS = {"sampler": "ddim", "steps": 20, "guidance": 4.0}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    plan = embedded_sd(tmp_path_factory.mktemp("ours") / "sd")
    export_bundle(plan)
    return plan.out


@pytest.fixture(scope="module")
def optimum_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model's checkpoint, exported by Optimum itself."""
    home = tmp_path_factory.mktemp("theirs")
    shutil.copytree(WEIGHTS / "sd", home / "sd")
    # The transformers that Optimum pins looks for the names that its newer releases have shortened.
    weights = home / "sd" / "text_encoder" / "model.safetensors"
    named = {f"text_model.{name}": tensor for name, tensor in load_file(weights).items()}
    save_file(named, weights, metadata={"format": "pt"})
    export = pytest.importorskip("optimum.exporters.onnx").main_export
    export(home / "sd", home / "exported", task="text-to-image", library_name="diffusers", do_validation=False)
    return home / "exported"


def ours(folder: Path, prompt: str) -> np.ndarray:
    return np.asarray(load(folder, "cpu")(prompt, noise=noise(), **OPTIONS).images[0])


def theirs(folder: Path, prompt: str) -> np.ndarray:
    import torch
    from diffusers import DDIMScheduler

    pipeline = pipelines.ORTStableDiffusionPipeline.from_pretrained(folder)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    drawn = pipeline(
        prompt,
        num_inference_steps=OPTIONS["steps"],
        guidance_scale=OPTIONS["guidance"],
        latents=torch.from_numpy(noise()),
        height=64,
        width=64,
    )
    return np.asarray(drawn.images[0])


def noise() -> np.ndarray:
    return np.random.default_rng(3).standard_normal((1, 4, 16, 16), np.float32)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_bundle_of_ours_draws_the_same_in_optimum(bundle: Path, tmp_path: Path, prompt: str) -> None:
    export_folder(bundle, tmp_path / "folder")
    assert_same_picture(theirs(tmp_path / "folder", prompt), ours(bundle, prompt))


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_folder_of_optimums_draws_the_same_in_ours(optimum_folder: Path, tmp_path: Path, prompt: str) -> None:
    import_folder(optimum_folder, tmp_path / "bundle")
    assert_same_picture(ours(tmp_path / "bundle", prompt), theirs(optimum_folder, prompt))


def test_pictures_react_to_the_prompt(bundle: Path) -> None:
    first, second = (ours(bundle, prompt).astype(np.int16) for prompt in PROMPTS)
    assert np.abs(first - second).max() > 50
