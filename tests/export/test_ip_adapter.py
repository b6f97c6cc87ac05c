"""IP-Adapter, from published files to the picture, through ONNX Runtime against diffusers' own pipeline."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from diffusers import PNDMScheduler, StableDiffusionPipeline
from PIL import Image
from transformers import CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from x2i.export.components.vision import image_tokens_component
from x2i.export.exporter import export_bundle
from x2i.export.plan import ExportPlan
from x2i.export.to_onnx import to_onnx
from x2i.models.random.weights import random_stable_diffusion
from x2i.models.subjects.ip_adapter import IpAdapterTokens
from x2i.models.subjects.ip_adapter_checkpoint import read_ip_adapter
from x2i.runtime import load
from x2i.runtime.cli import main
from x2i.runtime.inputs.pictures.image import ImageInput
from x2i.runtime.media.clip_pixels import clip_pixels
from x2i.runtime.sessions.backends import open_session
from x2i.runtime.sessions.session import GraphFile

from tests.made_once import made_once
from tests.models.subjects.ip_adapter_files import IMAGE, published, tower, write
from tests.numerics import assert_close, assert_same_picture

PROMPT, NEGATIVE = "a cat on the moon", "blurred"
NOISE = np.random.default_rng(31).standard_normal((1, 4, 9, 14)).astype(np.float32)
QUICK = {"steps": 4, "guidance": 7.5, "noise": NOISE}
SHAPES = ((61, 47), (21, 21), (18, 95))


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """A base, a vision tower and an adapter, each as its authors publish it, and three pictures."""
    folder, base = tmp_path_factory.mktemp("published"), random_stable_diffusion("tiny")
    base.unet.save_pretrained(folder / "sd" / "unet")
    base.vae.save_pretrained(folder / "sd" / "vae")
    base.text_encoder.save_pretrained(folder / "sd" / "text_encoder")
    scheduler().save_pretrained(folder / "sd" / "scheduler")
    (folder / "sd" / "tokenizer").mkdir()
    (folder / "sd" / "tokenizer" / "tokenizer.json").write_text(base.tokenizer.json, "utf-8")
    settings = {"pad_token": base.tokenizer.pad_token, "model_max_length": 77, "tokenizer_class": "CLIPTokenizer"}
    (folder / "sd" / "tokenizer" / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    tower().save_pretrained(folder / "image_encoder")
    write(folder / "ip-adapter_sd15.safetensors", published())
    random = np.random.default_rng(37)
    for number, shape in enumerate(SHAPES):
        Image.fromarray(random.integers(0, 256, (*shape, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def bundle(files) -> Path:
    parts = {"encoder": files / "image_encoder", "adapter": files / "ip-adapter_sd15.safetensors"}

    def export(out: Path) -> None:
        export_bundle(ExportPlan("ip-adapter", out, str(files / "sd"), parts=parts))

    return made_once("published-ip-adapter", export)


@pytest.fixture(scope="module")
def pipeline(bundle):
    return load(bundle)


@pytest.fixture(scope="module")
def peer(files) -> StableDiffusionPipeline:
    base = random_stable_diffusion("tiny")
    pipe = StableDiffusionPipeline(
        vae=base.vae,
        text_encoder=base.text_encoder,
        tokenizer=CLIPTokenizer.from_pretrained(files / "sd" / "tokenizer"),
        unet=base.unet,
        scheduler=scheduler(),
        safety_checker=None,
        feature_extractor=CLIPImageProcessorPil(
            size={"shortest_edge": IMAGE}, crop_size={"height": IMAGE, "width": IMAGE}
        ),
        image_encoder=tower(),
        requires_safety_checker=False,
    )
    pipe.load_ip_adapter(str(files), subfolder="", weight_name="ip-adapter_sd15.safetensors", image_encoder_folder=None)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def plus(tmp_path_factory):
    """IP-Adapter Plus' tokens as a module, and as the session of its graph."""
    folder = tmp_path_factory.mktemp("plus")
    path = write(folder / "plus.bin", published(plus=True))
    adapter = read_ip_adapter(path, random_stable_diffusion("tiny").unet, tower())
    module = IpAdapterTokens(tower(), adapter.projection)
    to_onnx(image_tokens_component(module), folder / "image_encoder.onnx")
    return module, open_session("cpu", GraphFile("network", folder / "image_encoder.onnx"))


def scheduler() -> PNDMScheduler:
    return PNDMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1
    )


def drawn(peer, images, scale: float, guidance: float = 7.5, output: str = "latent") -> np.ndarray:
    """What diffusers draws: latents after four steps, or the picture, uint8."""
    peer.set_ip_adapter_scale(scale)
    result = peer(
        PROMPT,
        height=8 * NOISE.shape[2],
        width=8 * NOISE.shape[3],
        num_inference_steps=4,
        guidance_scale=guidance,
        negative_prompt=NEGATIVE,
        latents=torch.from_numpy(NOISE),
        ip_adapter_image=[images],
        output_type=output,
    ).images
    return result.numpy() if output == "latent" else np.asarray(result[0])


def opened(files: Path, count: int) -> list[Image.Image]:
    return [Image.open(files / f"{number}.png").convert("RGB") for number in range(count)]


@pytest.mark.parametrize("guidance", [7.5, 1.0])
@pytest.mark.parametrize(("count", "scale"), [(1, 0.6), (1, 1.1), (3, 0.35), (3, 1.0)])
def test_equal_to_diffusers(pipeline, peer, files, count, scale, guidance):
    expected = drawn(peer, opened(files, count), scale, guidance)
    images = [files / f"{number}.png" for number in range(count)]
    ours = pipeline(PROMPT, image=images, strength=scale, negative=NEGATIVE, **QUICK | {"guidance": guidance})
    assert_close(ours.latents, expected, "ip-adapter-latents")
    plain = pipeline(PROMPT, image=images, strength=0.0, negative=NEGATIVE, **QUICK | {"guidance": guidance})
    assert np.abs(plain.latents - expected).max() > 0.05 * expected.std(), "the pictures change nothing"


def test_the_command_line_draws_diffusers_picture(bundle, peer, files, tmp_path):
    np.save(tmp_path / "noise.npy", NOISE)
    images = [word for number in range(3) for word in ("--image", str(files / f"{number}.png"))]
    words = [*images, "--strength", "0.8", "--negative", NEGATIVE, "--steps", "4", "--guidance", "7.5"]
    paths = ["--noise", tmp_path / "noise.npy", "--out", tmp_path / "a.png", "--save-latents", tmp_path / "a.npy"]
    result = CliRunner().invoke(main, ["run", str(bundle), PROMPT, *words, *map(str, paths)])
    assert result.exit_code == 0 and not result.stderr, result.output
    assert_close(np.load(tmp_path / "a.npy"), drawn(peer, opened(files, 3), 0.8), "ip-adapter-latents")
    expected = drawn(peer, opened(files, 3), 0.8, output="pil")
    assert_same_picture(np.asarray(Image.open(tmp_path / "a.png"))[None], expected[None])


@pytest.mark.parametrize("count", [1, 3])
def test_plus_as_a_graph(plus, files, count):
    """Its tokens come from the tower's features, and no picture is one of zeros."""
    module, session = plus
    pixels = clip_pixels(opened(files, count), IMAGE)
    tokens = session(pixels=pixels[None])["tokens"]
    assert tokens.shape == (2, 6 * count, 48)
    with torch.no_grad():
        assert_close(tokens, module(torch.from_numpy(pixels)).numpy(), "ip-adapter")
        nothing = module(torch.zeros(count, 3, IMAGE, IMAGE))[1]
    assert_close(tokens[0], nothing.numpy(), "ip-adapter")


def test_the_base_says_how_to_sample(bundle):
    plan = load(bundle).bundle.manifest.plan
    assert (plan.latents.sampler.name, plan.process.guidance.scale, plan.injection.strength) == ("pndm", 7.5, 0.6)
    assert plan.find(ImageInput).size == IMAGE
