"""A bundle with LoRAs in it draws what diffusers draws with them: whole exported runs, at awkward ranks and alphas."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from x2i.export.exporter import export_bundle
from x2i.export.plan import ExportPlan
from x2i.runtime import load
from x2i.runtime.lora.choice import LoraChoice

from tests.bundles import tiny
from tests.export.lora.files import peer_pipeline, saved_lora
from tests.numerics import assert_close

PROMPT, NEGATIVE = "a red apple", "blue"
NOISE = np.random.default_rng(3).standard_normal((1, 4, 9, 14), np.float32)
QUICK: dict[str, Any] = {"steps": 4, "guidance": 5.0}
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> tuple[Path, Path]:
    """Two LoRAs, the second in half precision and without a text encoder."""
    folder = tmp_path_factory.mktemp("loras")
    return saved_lora(folder / "first", 1), saved_lora(folder / "second", 2, torch.float16, text=False)


def drawn(bundle: Path) -> np.ndarray:
    *_, last = load(bundle, backend="cpu").steps(PROMPT, negative=NEGATIVE, noise=NOISE, **QUICK)
    return last.latents


def expected(loras: dict[Path, float], fuses: bool) -> np.ndarray:
    pipeline = peer_pipeline()
    for number, path in enumerate(loras):
        pipeline.load_lora_weights(path.parent, weight_name=path.name, adapter_name=f"lora{number}")
    pipeline.set_adapters([f"lora{number}" for number in range(len(loras))], list(loras.values()))
    if fuses:
        pipeline.fuse_lora()
    return pipeline(
        PROMPT,
        negative_prompt=NEGATIVE,
        height=8 * NOISE.shape[2],
        width=8 * NOISE.shape[3],
        latents=torch.from_numpy(NOISE),
        num_inference_steps=QUICK["steps"],
        guidance_scale=QUICK["guidance"],
        output_type="latent",
    ).images.numpy()


@pytest.mark.parametrize(("weights", "fuses"), [((0.8,), True), ((0.7, -0.4), False)], ids=["one", "two"])
def test_the_pipeline_draws_the_same(files, tmp_path, weights, fuses):
    loras = dict(zip(files, weights, strict=False))
    choices = tuple(LoraChoice(path, weight) for path, weight in loras.items())
    export_bundle(ExportPlan("sd", tmp_path / "bundle", random_weights="tiny", loras=choices))
    latents = drawn(tmp_path / "bundle")
    assert_close(latents, expected(loras, fuses), "latents")
    assert np.abs(latents - drawn(tiny("sd"))).max() > 0.1 * latents.std()
