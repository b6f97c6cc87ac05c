"""Variants of the denoiser's graph against torch, in whose layers the same tensors are kept and put back by hooks."""

import shutil

import numpy as np
import pytest
import torch
from x2i.export.components.denoiser import denoiser_component
from x2i.export.errors import PlanError
from x2i.export.reuse.checked_variants import with_variants
from x2i.export.reuse.variants import write_variant_graph
from x2i.models.random.weights import random_stable_diffusion
from x2i.runtime.bundle.preset import CROSS, DenoiserVariant, deep_feature
from x2i.runtime.bundle.reader import Bundle, open_bundle
from x2i.runtime.sessions.backends import open_session
from x2i.runtime.sessions.session import GraphFile

from tests.numerics import assert_close

SIZES = {"batch": 2, "height": 11, "width": 7, "tokens": 6, "patches": 5}
FIRST, SECOND = 700.0, 650.0


@pytest.fixture(scope="module", params=["tiny_bundle", "elite_bundle"])
def kept(request, tmp_path_factory) -> tuple[Bundle, torch.nn.Module, dict[str, torch.Tensor]]:
    """A bundle to write variants into, its denoiser in torch, and inputs of it."""
    folder = tmp_path_factory.mktemp("reuse") / "bundle"
    shutil.copytree(request.getfixturevalue(request.param), folder)
    component = denoiser_component(random_stable_diffusion("tiny").unet, injected=request.param == "elite_bundle")
    inputs = component.example(SIZES)
    return open_bundle(folder), component.module, inputs


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_shallow_call_is_torchs_with_the_deep_part_of_an_earlier_one(kept, depth):
    bundle, module, inputs = kept
    feature = deep_feature(depth)
    given, expected = _deep_in_torch(module, inputs, depth)
    writes = DenoiserVariant("denoiser", features_out=(feature,))
    reads = DenoiserVariant("denoiser", features_in=(feature,))
    first = _run(bundle, writes, _at(inputs, FIRST))
    assert_close(first[feature], given, "elite-stage")
    shallow = _run(bundle, reads, _at(inputs, SECOND) | {feature: first[feature]})["noise"]
    assert_close(shallow, expected, "elite-stage")
    full = _run(bundle, DenoiserVariant("denoiser"), _at(inputs, SECOND))["noise"]
    assert np.abs(full - shallow).max() > 1e-3, "an earlier call's features make a difference"


def test_frozen_cross_attention_is_torchs(kept):
    bundle, module, inputs = kept
    expected = _frozen_in_torch(module, inputs)
    first = _run(bundle, DenoiserVariant("denoiser", features_out=(CROSS,)), _at(inputs, FIRST))
    cross = {name: array for name, array in first.items() if name != "noise"}
    assert len(cross) == len(_cross_layers(module))
    frozen = _run(bundle, DenoiserVariant("denoiser", features_in=(CROSS,)), _at(inputs, SECOND) | cross)["noise"]
    assert_close(frozen, expected, "elite-stage")


@pytest.mark.parametrize("every", [2, 3])
def test_thinned_self_attention_is_torchs_with_fewer_keys_and_values(kept, every):
    bundle, module, inputs = kept
    expected = _thinned_in_torch(module, inputs, every)
    thinned = _run(bundle, DenoiserVariant("denoiser", kv_downsample=every), _at(inputs, FIRST))["noise"]
    assert_close(thinned, expected, "elite-stage")
    full = _run(bundle, DenoiserVariant("denoiser"), _at(inputs, FIRST))["noise"]
    assert np.abs(full - thinned).max() > 1e-4, "what is left out makes a difference"


def test_thinning_goes_with_kept_features(kept):
    bundle, _, inputs = kept
    arrays = _at(inputs, FIRST)
    whole = _run(bundle, DenoiserVariant("denoiser", kv_downsample=2), arrays)["noise"]
    given = _run(bundle, DenoiserVariant("denoiser", (deep_feature(1), CROSS), kv_downsample=2), arrays)
    shallow = DenoiserVariant("denoiser", (), (deep_feature(1), CROSS), 2)
    np.testing.assert_array_equal(_run(bundle, shallow, arrays | given)["noise"], whole)
    sizes = [bundle.path(f"{name}.onnx").stat().st_size for name in (shallow.name, "denoiser")]
    assert sizes[0] < sizes[1] / 4, "what a variant takes is not in its file"


def test_every_combination_gives_the_whole_graphs_noise_for_its_own_features(kept):
    bundle, _, inputs = kept
    feature = deep_feature(1)
    arrays = _at(inputs, FIRST)
    whole = _run(bundle, DenoiserVariant("denoiser"), arrays)["noise"]
    given = _run(bundle, DenoiserVariant("denoiser", features_out=(feature, CROSS)), arrays)
    np.testing.assert_array_equal(given["noise"], whole)
    for gives, takes in (((feature,), (CROSS,)), ((), (feature, CROSS))):
        made = _run(bundle, DenoiserVariant("denoiser", gives, takes), arrays | given)
        np.testing.assert_array_equal(made["noise"], whole)


@pytest.mark.parametrize("lowered", ["int8_bundle", "half_bundle"])
def test_variants_of_lowered_graphs_take_and_give_float32(lowered, tmp_path, request):
    shutil.copytree(request.getfixturevalue(lowered), tmp_path / "bundle")
    made = with_variants(
        open_bundle(tmp_path / "bundle"),
        [
            DenoiserVariant("denoiser", features_out=(deep_feature(1),)),
            DenoiserVariant("denoiser", (), (deep_feature(1),), 2),
            DenoiserVariant("denoiser", kv_downsample=2),
        ],
    )
    for name in ("denoiser.gives-deep.1", "denoiser.thinned-2.takes-deep.1", "denoiser.thinned-2"):
        graph = made.manifest.graphs[name]
        assert {tensor.dtype for tensor in (*graph.inputs, *graph.outputs)} == {"float32"}
        assert graph.measured.error <= graph.measured.gate


def test_weights_in_a_file_of_their_own_are_shared(tiny_bundle, tmp_path):
    import onnx

    model = onnx.load(tiny_bundle / "denoiser.onnx")
    onnx.save(model, tmp_path / "d.onnx", save_as_external_data=True, location="d.onnx.data", size_threshold=1024)
    variant = DenoiserVariant("d", features_in=(deep_feature(1),))
    write_variant_graph(tmp_path / "d.onnx", tmp_path / "shallow.onnx", variant)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d.onnx", "d.onnx.data", "shallow.onnx"]
    stored = onnx.load(tmp_path / "shallow.onnx", load_external_data=False).graph.initializer
    places = {entry.value for tensor in stored for entry in tensor.external_data if entry.key == "location"}
    assert places == {"d.onnx.data"}
    open_session("cpu", GraphFile("shallow", tmp_path / "shallow.onnx"))


def test_a_graph_without_the_feature_is_refused(tiny_bundle, tmp_path):
    decoder, out = tmp_path / "decoder.onnx", tmp_path / "out.onnx"
    shutil.copyfile(tiny_bundle / "decoder.onnx", decoder)
    with pytest.raises(PlanError, match=r"decoder.onnx: expected a U-Net that holds the feature deep.1"):
        write_variant_graph(decoder, out, DenoiserVariant("decoder", features_out=(deep_feature(1),)))
    with pytest.raises(PlanError, match=r"decoder.onnx: expected self-attention as large as the latents"):
        write_variant_graph(decoder, out, DenoiserVariant("decoder", kv_downsample=2))
    assert [path.name for path in tmp_path.iterdir()] == ["decoder.onnx"]


def _run(bundle: Bundle, variant: DenoiserVariant, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    made = with_variants(bundle, [variant])
    session = open_session("cpu", made.graph_file(variant.name))
    return session(**{tensor.name: arrays[tensor.name] for tensor in session.inputs})


def _at(inputs: dict[str, torch.Tensor], timestep: float) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in _moved(inputs, timestep).items()}


def _moved(inputs: dict[str, torch.Tensor], timestep: float) -> dict[str, torch.Tensor]:
    """The second call has other latents, too."""
    latents = inputs["latents"] * (timestep / FIRST)
    return inputs | {"latents": latents, "timestep": torch.full_like(inputs["timestep"], timestep)}


def _deep_in_torch(module, inputs, depth: int) -> tuple[np.ndarray, np.ndarray]:
    """What the first call has from below at the skip connection, and the second call's noise with it."""
    resnets = [resnet for block in module.unet.up_blocks for resnet in block.resnets]
    resnet, seen = resnets[-depth], []

    def keep(_, arguments):
        seen.append(arguments[0])

    def put_back(_, arguments):
        joined = arguments[0].clone()
        width = joined.shape[1] - skips[-depth]
        joined[:, :width] = seen[0][:, :width]
        return (joined, *arguments[1:])

    skips = _skip_widths(module.unet)
    with torch.no_grad():
        hook = resnet.register_forward_pre_hook(keep)
        module(*_moved(inputs, FIRST).values())
        hook.remove()
        hook = resnet.register_forward_pre_hook(put_back)
        noise = module(*_moved(inputs, SECOND).values())
        hook.remove()
    return seen[0][:, : seen[0].shape[1] - skips[-depth]].numpy(), noise.numpy()


def _skip_widths(unet) -> list[int]:
    """Channels of the skip connection that each resnet on the way up meets, in their order."""
    widths = [unet.conv_in.out_channels]
    for block in unet.down_blocks:
        widths += [resnet.out_channels for resnet in block.resnets]
        widths += [sampler.out_channels for sampler in block.downsamplers or ()]
    return widths[::-1]


def _frozen_in_torch(module, inputs) -> np.ndarray:
    """The second call's noise with what every cross-attention layer gave in the first."""
    seen: dict[str, torch.Tensor] = {}
    layers = _cross_layers(module)
    with torch.no_grad():
        hooks = [
            layer.register_forward_hook(lambda _, __, out, path=path: seen.update({path: out}))
            for path, layer in layers.items()
        ]
        module(*_moved(inputs, FIRST).values())
        for hook in hooks:
            hook.remove()
        hooks = [
            layer.register_forward_hook(lambda _, __, ___, path=path: seen[path]) for path, layer in layers.items()
        ]
        noise = module(*_moved(inputs, SECOND).values())
        for hook in hooks:
            hook.remove()
    return noise.numpy()


def _thinned_in_torch(module, inputs, every: int) -> np.ndarray:
    """The noise with keys and values of every n-th cell, in the layers whose tokens are the latents' cells."""
    height, width = SIZES["height"], SIZES["width"]
    thinned = []

    def fewer(_, arguments):
        (tokens,) = arguments
        if tokens.shape[1] != height * width:
            return None
        thinned.append(tokens)
        grid = tokens.reshape(len(tokens), height, width, -1)
        return grid[:, ::every, ::every].flatten(1, 2)

    layers = [layer for path, layer in module.named_modules() if path.endswith((".attn1.to_k", ".attn1.to_v"))]
    hooks = [layer.register_forward_pre_hook(fewer) for layer in layers]
    with torch.no_grad():
        noise = module(*_moved(inputs, FIRST).values())
    for hook in hooks:
        hook.remove()
    assert 0 < len(thinned) < len(layers), "some layers are as large as the latents, and some are not"
    return noise.numpy()


def _cross_layers(module) -> dict[str, torch.nn.Module]:
    return {path: layer for path, layer in module.named_modules() if path.endswith(".attn2")}
