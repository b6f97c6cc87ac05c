"""Whole runs in half, rounded as a device would, at any guidance: no NaN, and fp32's picture."""

import json

import numpy as np
import pytest
from x2i.runtime import load
from x2i.runtime.pipeline import Pipeline

from tests.export.lower.half_pipeline import half_pipeline
from tests.goldens import golden, golden_tensors
from tests.numerics import assert_close

GUIDANCE = (1.0, 7.5, 20.0)


def assert_same_run(half: Pipeline, single: Pipeline, prompt: str, **options) -> None:
    actual, expected = half(prompt, **options), single(prompt, **options)
    assert_close(actual.latents, expected.latents, "half-run-latents")
    drawn, wanted = (np.stack([np.asarray(image) for image in output.images]) for output in (actual, expected))
    assert_close(drawn, wanted, "half-run-picture")
    assert drawn.std() > 0.9 * wanted.std() > 5


@pytest.fixture(scope="module")
def pipelines(golden_bundle, tmp_path_factory):
    return half_pipeline(golden_bundle, tmp_path_factory.mktemp("rounded")), load(golden_bundle)


@pytest.mark.parametrize("guidance", GUIDANCE)
def test_gluegen(pipelines, guidance):
    noise = golden_tensors("gluegen/pipeline/text.safetensors")["x_T"]
    described = json.loads(golden("gluegen/pipeline/pipeline_text.json").read_text("utf-8"))[0]
    options = {"language": "Chinese", "steps": described["steps"], "sampler": "plms", "noise": noise}
    assert_same_run(*pipelines, described["prompt"], guidance=guidance, **options)
