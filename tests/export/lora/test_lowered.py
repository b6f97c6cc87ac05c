"""Graphs that take LoRAs in lower precisions: cut from the finished graphs, as far from fp32 as these are."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from x2i.export.lora.variants import without_lora
from x2i.runtime import load
from x2i.runtime.bundle.reader import open_bundle
from x2i.runtime.lora.choice import LoraChoice

from tests.numerics import assert_near
from tests.runtime.lora.forms import written
from tests.runtime.lora.test_at_run_time import pointwise

NOISE = np.random.default_rng(5).standard_normal((1, 4, 9, 14), np.float32)
QUICK: dict[str, Any] = {"noise": NOISE, "steps": 4, "guidance": 4.0, "language": "French"}


@pytest.fixture(scope="module")
def lora(tmp_path_factory) -> LoraChoice:
    path = tmp_path_factory.mktemp("lora") / "a.safetensors"
    unet = {place: each for place, each in pointwise(1).items() if place[0] == "unet"}
    save_file(written("kohya", unet, alphas=True), path)
    return LoraChoice(path, 0.8)


def drawn(bundle: Path, **options: Any) -> np.ndarray:
    *_, last = load(bundle, backend="cpu").steps("un chat", **QUICK, **options)
    return last.latents


@pytest.mark.parametrize("precision", ["int8_bundle", "half_bundle"])
def test_as_close_to_fp32_as_the_plain_graphs(request, tiny_bundle, lora, precision):
    lowered = request.getfixturevalue(precision)
    manifest = open_bundle(lowered).manifest
    for name in ("denoiser", "projection"):
        variant, plain = manifest.graphs[f"{name}.lora"], manifest.graphs[name]
        assert variant.precision == plain.precision and variant.measured.error <= plain.measured.gate
        assert variant.data == (plain.file, *plain.data)
        assert manifest.files[variant.file].bytes < 1_500_000
    expected, plain = drawn(tiny_bundle, lora=lora), drawn(tiny_bundle)
    assert np.linalg.norm(expected - plain) > 0.1 * np.linalg.norm(plain)
    truth = expected.std() / plain.std() * (drawn(lowered) - plain) + expected
    assert_near(drawn(lowered, lora=lora), expected, "half-run-latents", peer=truth, factor=3)


def test_the_manifest_without_them(tiny_bundle):
    manifest = open_bundle(tiny_bundle).manifest
    plain = without_lora(manifest)
    assert plain.plan.lora is None and not plain.problems()
    assert manifest.graphs.keys() - plain.graphs.keys() == {"denoiser.lora", "projection.lora"}
    assert {f"{name}.onnx" for name in ("denoiser.lora", "projection.lora")} == {
        name for name in manifest.files.keys() - plain.files.keys()
    }
