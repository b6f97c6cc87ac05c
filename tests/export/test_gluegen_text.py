"""GlueGen's text path, from the authors' files to the picture, through ONNX Runtime against the authors' run."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch
from x2i.models.stable_diffusion.base import read_stable_diffusion
from x2i.runtime import load
from x2i.runtime.bundle.calls import Tensor
from x2i.runtime.pipeline import Pipeline
from x2i.runtime.request import make_request

from tests.goldens import golden, golden_tensors
from tests.numerics import assert_close, assert_same_picture

CASES = range(7)


@dataclass
class StandIn:
    """A session of that many inputs that calls a function."""

    names: list[str]
    function: Callable[..., dict[str, np.ndarray]]

    @property
    def inputs(self):
        return tuple(Tensor(name, "float32", ()) for name in self.names)

    def __call__(self, **arrays):
        return self.function(**arrays)

    def bind(self, **arrays):
        return partial(self, **arrays)


def noise_of(pipeline, latents, timestep, context):
    """The graphs' noise for a context, projected as the runtime does it."""
    projected = pipeline.session("projection")(context=context)
    return pipeline.session("denoiser")(latents=latents, timestep=timestep, **projected)["noise"]


@pytest.fixture(scope="module")
def pipeline(golden_bundle):
    return load(golden_bundle)


@pytest.fixture(scope="module")
def torch_base():
    return read_stable_diffusion(str(golden("gluegen/pipeline/sd-tiny.ckpt")), golden("gluegen/pipeline/config.json"))


@pytest.mark.parametrize("case", CASES)
def test_tokens_features_and_context(pipeline, case):
    expected = golden_tensors("gluegen/multilingual/multilingual.safetensors")
    described = json.loads(golden("gluegen/multilingual/multilingual.json").read_text("utf-8"))["cases"][case]
    tokens = pipeline._conditions._conditioners[0][1](described["texts"])
    assert_close(tokens.input_ids, expected[f"{case}.input_ids"], "exact")
    assert_close(tokens.attention_mask, expected[f"{case}.attention_mask"], "exact")
    features = pipeline.session("encoder")(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask)["features"]
    assert_close(features, expected[f"{case}.last_hidden_state"], "xlmr")
    context = pipeline.session(f"translator.{described['language']}")(features=features)["context"]
    assert_close(context, expected[f"{case}.context"], "context")


def test_unconditional_is_the_empty_prompt_of_the_same_language(pipeline):
    expected = golden_tensors("gluegen/pipeline/text.safetensors")
    prompt = json.loads(golden("gluegen/pipeline/pipeline_text.json").read_text("utf-8"))[0]["prompt"]
    request = make_request(pipeline.bundle.manifest, prompt, language="Chinese")
    context = pipeline._conditions(request)[0]["context"]
    assert_close(context[:1], expected["uncond"][:1], "context")
    assert_close(context[1:], expected["cond"][:1], "context")


@pytest.mark.parametrize("call", ["unet_first", "unet_last"])
def test_unet(pipeline, call):
    expected = golden_tensors("gluegen/pipeline/text.safetensors")
    x, t, context = (expected[f"{call}.{name}"] for name in ("x", "t", "context"))
    assert_close(noise_of(pipeline, x, t.astype(np.float32), context), expected[f"{call}.eps"], "unet")


def test_decoder(pipeline):
    expected = golden_tensors("gluegen/pipeline/text.safetensors")
    assert_close(pipeline.session("decoder")(latents=expected["latents"])["image"], expected["decoded"], "unet")


def test_run_equals_the_authors_step_by_step_and_to_the_picture(pipeline):
    expected = golden_tensors("gluegen/pipeline/text.safetensors")
    described = json.loads(golden("gluegen/pipeline/pipeline_text.json").read_text("utf-8"))[0]
    options = {"language": "Chinese", "steps": described["steps"], "guidance": described["scale"], "sampler": "plms"}
    for step in pipeline.steps(described["prompt"], noise=expected["x_T"], **options):
        assert_close(step.latents, expected["x_inter"][step.index + 1], "latents")
    output = pipeline(described["prompt"], noise=expected["x_T"], **options)
    assert_close(output.latents, expected["latents"], "latents")
    assert_same_picture(np.stack([np.asarray(image) for image in output.images]), expected["image_uint8"])


@pytest.mark.parametrize("size", [(16, 16), (9, 13), (24, 8)], ids=str)
@pytest.mark.parametrize("batch", [1, 3])
def test_denoiser_graph_at_other_sizes(pipeline, torch_base, size, batch):
    random = torch.Generator().manual_seed(5)
    latents = torch.randn(batch, 4, *size, generator=random)
    timestep = torch.rand(batch, generator=random) * 999
    context = torch.randn(batch, 77, 48, generator=random)
    with torch.no_grad():
        expected = torch_base.unet(latents, timestep, context).sample
    assert_close(noise_of(pipeline, *(x.numpy() for x in (latents, timestep, context))), expected.numpy(), "unet")


@pytest.mark.parametrize(("height", "width", "steps", "sampler"), [(64, 104, 7, "ddim"), (136, 72, 12, "plms")])
def test_run_at_other_sizes_and_step_counts_equals_torch(pipeline, torch_base, height, width, steps, sampler):
    """The same loop on the fp32 torch modules: what differs is only the graphs."""
    options = {"language": "French", "steps": steps, "sampler": sampler, "size": (height, width), "count": 2, "seed": 9}
    actual = pipeline("un jardin", **options)

    def denoise(latents, timestep, **context):
        with torch.no_grad():
            arrays = map(torch.from_numpy, (latents, timestep, context["key.all"]))
            return {"noise": torch_base.unet(*arrays).sample.numpy()}

    torchs = {
        "projection": StandIn(["context"], lambda context: {"key.all": context}),
        "denoiser": StandIn(["key.all"], denoise),
    }
    twin = Pipeline(pipeline.bundle, lambda graph: torchs.get(graph) or pipeline.session(graph))
    assert_close(actual.latents, twin("un jardin", **options).latents, "latents")
    assert actual.images[0].size == (width, height)
    vae = torch_base.vae
    with torch.no_grad():
        decoded = vae.decode(torch.from_numpy(actual.latents) / torch_base.scaling_factor).sample
    assert_close(pipeline.session("decoder")(latents=actual.latents)["image"], decoded.numpy(), "unet")


@pytest.mark.parametrize("graph", ["encoder", "translator.French", "projection", "denoiser", "decoder", "vae_encoder"])
def test_graphs_react_to_every_input(pipeline, graph):
    record = pipeline.bundle.manifest.graphs[graph]
    arrays = {t.name: np.load(pipeline.bundle.path(record.proof[t.name])) for t in record.inputs}
    before = _outputs(pipeline.session(graph)(**arrays))
    for name, array in arrays.items():
        # A shift alone would move all scores of an attention alike, and so none of its weights.
        changed = array[::-1] if array.dtype.kind == "i" else array * np.float32(1.5) + np.float32(0.5)
        after = _outputs(pipeline.session(graph)(**arrays | {name: np.ascontiguousarray(changed)}))
        assert np.abs(after - before).max() > 1e-3 * before.std(), f"{graph} ignores {name}"


def _outputs(arrays):
    return np.concatenate([array.ravel() for array in arrays.values()])
