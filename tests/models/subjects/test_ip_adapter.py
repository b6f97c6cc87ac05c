"""IP-Adapter's tokens and attention against diffusers' own, on random weights in the published layouts."""

import copy

import pytest
import torch
from torch.nn import functional
from x2i.kernels.injected_attention.reference import injected_attention
from x2i.models.context_attention import InjectedContext, cross_attention_weights, install_context_attention
from x2i.models.subjects.ip_adapter import IpAdapterTokens
from x2i.models.subjects.ip_adapter_checkpoint import read_ip_adapter

from tests.models.subjects.ip_adapter_files import IMAGE, base_unet, published, tower, write
from tests.numerics import assert_close

CONTEXT = torch.randn(2, 77, 48, generator=torch.Generator().manual_seed(1))
LATENTS = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(2)).expand(2, -1, -1, -1)
TIMES = torch.tensor([500, 500])


def pictures(count: int) -> torch.Tensor:
    return torch.randn(count, 3, IMAGE, IMAGE, generator=torch.Generator().manual_seed(3))


def embeds_of(plus: bool, pixels: torch.Tensor) -> torch.Tensor:
    """What diffusers' pipeline hands its UNet: no picture, then the pictures, [2, n, ...]."""
    if plus:
        seen = [tower()(pixel_values=p, output_hidden_states=True) for p in (torch.zeros_like(pixels), pixels)]
        return torch.stack([each.hidden_states[-2] for each in seen])
    embeds = tower()(pixel_values=pixels).image_embeds
    return torch.stack([torch.zeros_like(embeds), embeds])


def diffusers_unet(plus: bool, scale: float):
    unet = copy.deepcopy(base_unet())
    unet._load_ip_adapter_weights([published(plus)], low_cpu_mem_usage=False)
    for processor in unet.attn_processors.values():
        if hasattr(processor, "scale"):
            processor.scale = [scale]
    return unet


def our_noise(adapter, tokens: torch.Tensor, strength: float) -> torch.Tensor:
    unet = copy.deepcopy(base_unet())
    weights = cross_attention_weights(unet)
    processors = install_context_attention(unet, injected_attention)
    injection = InjectedContext(
        {path: functional.linear(tokens, key) for path, (key, _) in adapter.weights.items()},
        {path: functional.linear(tokens, value) for path, (_, value) in adapter.weights.items()},
        torch.tensor([-1, -1]),
        torch.tensor([strength, strength]),
    )
    for path, (key, value) in weights.items():
        processors[path].take(functional.linear(CONTEXT, key), functional.linear(CONTEXT, value), injection)
    return unet(LATENTS, TIMES, CONTEXT).sample


@pytest.mark.parametrize("plus", [False, True], ids=["plain", "plus"])
@pytest.mark.parametrize("layout", ["bin", "safetensors"])
def test_every_layer_gets_the_weights_diffusers_gives_it(tmp_path, plus, layout):
    adapter = read_ip_adapter(write(tmp_path / f"ip.{layout}", published(plus)), base_unet(), tower())
    processors = diffusers_unet(plus, 1.0).attn_processors
    assert {f"{path}.processor" for path in adapter.weights} == {
        name for name, processor in processors.items() if hasattr(processor, "to_k_ip")
    }
    for path, (key, value) in adapter.weights.items():
        processor = processors[f"{path}.processor"]
        assert torch.equal(key, processor.to_k_ip[0].weight) and torch.equal(value, processor.to_v_ip[0].weight)


@pytest.mark.parametrize("plus", [False, True], ids=["plain", "plus"])
@pytest.mark.parametrize("count", [1, 3])
@torch.no_grad()
def test_tokens(tmp_path, plus, count):
    adapter = read_ip_adapter(write(tmp_path / "ip.bin", published(plus)), base_unet(), tower())
    tokens = IpAdapterTokens(tower(), adapter.projection)(pictures(count))
    assert tokens.shape == (2, count * adapter.projection.tokens, 48)
    (expected,) = diffusers_unet(plus, 1.0).encoder_hid_proj([embeds_of(plus, pictures(count))])
    assert_close(tokens.numpy(), expected.flatten(1, 2).numpy(), "ip-adapter")
    assert not torch.allclose(tokens[0], tokens[1])


@pytest.mark.parametrize("plus", [False, True], ids=["plain", "plus"])
@pytest.mark.parametrize(("count", "scale"), [(1, 0.6), (1, 1.0), (3, 0.35)])
@torch.no_grad()
def test_the_noise_of_a_guided_batch(tmp_path, plus, count, scale):
    adapter = read_ip_adapter(write(tmp_path / "ip.bin", published(plus)), base_unet(), tower())
    tokens = IpAdapterTokens(tower(), adapter.projection)(pictures(count))
    given = {"image_embeds": [embeds_of(plus, pictures(count))]}
    expected = diffusers_unet(plus, scale)(LATENTS, TIMES, CONTEXT, added_cond_kwargs=given).sample
    assert_close(our_noise(adapter, tokens, scale).numpy(), expected.numpy(), "ip-adapter")
    plain = base_unet()(LATENTS, TIMES, CONTEXT).sample
    assert ((expected - plain).abs().amax((1, 2, 3)) > 0.01).all(), "the adapter changes nothing"
    assert_close(our_noise(adapter, tokens, 0.0).numpy(), plain.numpy(), "ip-adapter")


@pytest.mark.parametrize("plus", [False, True], ids=["plain", "plus"])
@torch.no_grad()
def test_one_trace_takes_any_number_of_pictures(tmp_path, plus):
    adapter = read_ip_adapter(write(tmp_path / "ip.bin", published(plus)), base_unet(), tower())
    module = IpAdapterTokens(tower(), adapter.projection)
    shapes = ({0: torch.export.Dim("pictures")},)
    traced = torch.export.export(module, (pictures(2),), dynamic_shapes=shapes, strict=False).module()
    for count in (1, 2, 5):
        assert_close(traced(pictures(count)).numpy(), module(pictures(count)).numpy(), "ip-adapter")
