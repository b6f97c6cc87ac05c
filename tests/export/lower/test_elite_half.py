"""ELITE with its denoiser and projections in float16, rounded as a device would, beside the authors' float32 run.

The latents between steps, the decoder and everything that runs once before the loop stay float32. The goldens' weights
are exact in float16, so this is the error of the arithmetic alone.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from x2i.export.plan import ExportPlan
from x2i.export.precision import fp16, fp16_emulation
from x2i.export.systems.elite import build_elite
from x2i.export.to_onnx import to_onnx
from x2i.kernels.domain import DOMAIN
from x2i.kernels.injected_attention.op import NAME
from x2i.runtime.bundle.plan import Plan
from x2i.runtime.bundle.preset import Preset
from x2i.runtime.inputs.option import PreparedInputs
from x2i.runtime.output import to_images
from x2i.runtime.processes.denoiser import Denoiser
from x2i.runtime.samplers.registry import make_sampler
from x2i.runtime.sessions.backends import open_session
from x2i.runtime.sessions.session import GraphFile, Session

from tests.goldens import golden, golden_arrays
from tests.numerics import assert_as_close, assert_close

HALF = ("denoiser", "projection", "local_projection")


@dataclass(frozen=True)
class Halved:
    """The plan, sessions of its graphs rounded, the folder of the graphs in half, and torch's modules in half."""

    plan: Plan
    folder: Path
    sessions: dict[str, Session]
    modules: dict[str, torch.nn.Module]

    def slots(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What the authors' own contexts and patches are projected to, with the run's index and strength."""
        context = np.concatenate([arrays["uncond_embeddings"], arrays["encoder_hidden_states"]])
        slots = self.sessions["projection"](context=context)
        slots |= self.sessions["local_projection"](context=arrays["local_embedding"])
        strength = np.float32([0.0, arrays["lam"]])
        return slots | {"strength": strength, "token_index": np.repeat(arrays["index"], 2)}


@pytest.fixture(scope="module")
def halved(tmp_path_factory) -> Halved:
    folder = tmp_path_factory.mktemp("half")
    parts = {
        "encoder": golden("elite/model/image_encoder"),
        "global": golden("elite/checkpoints/global_mapper.pt"),
        "local": golden("elite/checkpoints/local_mapper.pt"),
    }
    built = build_elite(ExportPlan("elite", folder / "bundle", str(golden("elite/model")), parts=parts))
    sessions, modules = {}, {}
    for component in built.components:
        if component.name not in (*HALF, "decoder"):
            continue
        graph = folder / f"{component.name}.onnx"
        to_onnx(component, graph)
        if component.name in HALF:
            fp16.to_fp16(graph, folder / f"{component.name}.half.onnx")
            fp16_emulation.emulate_graph(graph, graph)
        sessions[component.name] = open_session("cpu", GraphFile(component.name, graph))
        modules[component.name] = component.module
    for module in modules.values():
        module.half()
    return Halved(built.plan, folder, sessions, modules)


def test_weights_are_half(halved):
    for name in HALF:
        sizes: Counter[int] = Counter()
        for tensor in onnx.load(halved.folder / f"{name}.half.onnx").graph.initializer:
            sizes[tensor.data_type] += int(np.prod(tensor.dims))
        assert sizes[onnx.TensorProto.FLOAT16] > 0.999 * sum(sizes.values())


def test_the_op_stays_one_node_a_layer(halved):
    model = onnx.load(halved.folder / "denoiser.half.onnx")
    layers = [tensor.name for tensor in halved.sessions["denoiser"].inputs if tensor.name.startswith("local_key.")]
    nodes = [node for node in model.graph.node if node.domain == DOMAIN]
    assert [node.op_type for node in nodes] == [NAME] * len(layers) and len(layers) == 16
    assert [function.name for function in model.functions].count(NAME) == 1


def as_read(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Torch's modules take the latents, keys and values in half."""
    return tensor.half() if tensor.is_floating_point() and name not in ("timestep", "strength") else tensor


def test_as_close_as_torch_in_half(halved):
    arrays = golden_arrays("elite/golden/validate_local.npz")
    start = arrays["latents_init"][:1]
    inputs = {"latents": np.repeat(start, 2, 0), "timestep": np.full(2, 999, np.float32)} | halved.slots(arrays)
    layers = [name for name in (tensor.name for tensor in halved.sessions["denoiser"].inputs) if "." in name]
    inputs = {name: np.repeat(array, 2 // len(array), 0) for name, array in inputs.items()}
    ordered = {name: inputs[name] for name in ("latents", "timestep", *layers, "token_index", "strength")}
    noise = halved.sessions["denoiser"](**ordered)["noise"]
    with torch.no_grad():
        peer = halved.modules["denoiser"](*(as_read(n, torch.from_numpy(a)) for n, a in ordered.items()))
    expected = np.concatenate([arrays["noise_uncond"][0], arrays["noise_text"][0]])
    assert_as_close(noise, peer.float().numpy(), expected)


def test_run(halved):
    arrays = golden_arrays("elite/golden/validate_local.npz")
    guidance, count = float(arrays["guidance"]), len(arrays["index"])
    request = SimpleNamespace(
        guidance=guidance,
        rows=2,
        count=count,
        prompts=1,
        inputs=PreparedInputs(),
        preset=Preset(),
        split_cfg_batch=False,
        serving=str,
        sampler=None,
    )
    process = halved.plan.latents
    denoise = Denoiser(process, halved.sessions.__getitem__, halved.slots(arrays), request, guidance).noise_of
    sampler = make_sampler("lms", halved.plan.latents.schedule, int(arrays["num_steps"]))
    start = arrays["latents_init"] * np.float32(sampler.noise_scale)
    for latents, expected in zip(sampler.run(start, denoise, lambda: start), arrays["latents_steps"], strict=True):
        assert_close(latents, expected, "elite-latents-half")
    images = to_images(halved.sessions["decoder"](latents=latents)["image"], halved.plan.latents.decoder.to_uint8)
    picture = np.stack([np.asarray(image) for image in images])
    assert_close(picture, arrays["image_u8"], "elite-picture-half")
