"""Random systems: seeded, of the right sizes, and alive from every input to every output."""

import pytest
import torch
from tokenizers import Tokenizer
from x2i.models.clip.vision import VisionLevels
from x2i.models.context_attention import cross_attention_layers
from x2i.models.errors import CheckpointError
from x2i.models.random.sizes import SIZES
from x2i.models.random.weights import (
    random_elite,
    random_gluegen_text,
    random_ip_adapter,
    random_stable_diffusion,
    random_xlmr,
)
from x2i.models.stable_diffusion.compvis_config import parse_compvis_config
from x2i.models.subjects.elite import EliteCheckpoint, GlobalMapper
from x2i.models.subjects.ip_adapter import EmbedTokens, IpAdapterTokens
from x2i.models.subjects.ip_adapter_checkpoint import IpAdapterCheckpoint


def test_one_seed_one_model():
    first, again, other = (random_stable_diffusion("tiny", seed) for seed in (5, 5, 6))
    for part in ("unet", "vae", "text_encoder"):
        states = [getattr(base, part).state_dict() for base in (first, again, other)]
        assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
        assert not any(torch.equal(states[0][key], states[2][key]) for key in states[0])


def test_no_parameter_is_constant():
    base = random_stable_diffusion("tiny")
    encoder, conditioners = random_gluegen_text("tiny")
    for module in (base.unet, base.vae, base.text_encoder, encoder.model, *conditioners.values()):
        assert all(value.std() > 0 and value.isfinite().all() for value in module.parameters())


@torch.no_grad()
def test_a_prompt_reaches_the_context_and_the_context_the_noise():
    base = random_stable_diffusion("tiny")
    encoder, conditioners = random_gluegen_text("tiny")
    tokenizer = Tokenizer.from_str(encoder.tokenizer_json)
    tokenizer.enable_padding(length=77, pad_id=1, pad_token="<pad>")
    batch = tokenizer.encode_batch(["a red apple", "a red apples"])
    ids, mask = (torch.tensor([getattr(each, name) for each in batch]) for name in ("ids", "attention_mask"))
    features = encoder.model(ids, mask).last_hidden_state
    contexts = [conditioner(features) for conditioner in conditioners.values()]
    assert not torch.allclose(*contexts) and 0.1 < contexts[0].std() < 10
    x = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0)).expand(2, -1, -1, -1)
    noise = base.unet(x, torch.tensor([500, 500]), contexts[0]).sample
    assert (noise[0] - noise[1]).abs().max() > 1e-4 and 0.1 < noise.std() < 10
    assert 0.1 < base.vae.decode(x / base.scaling_factor).sample.std() < 10


def test_full_size_is_the_published_size():
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, XLMRobertaConfig, XLMRobertaModel

    sizes = SIZES["sd15"]
    config = parse_compvis_config(sizes.stable_diffusion, "sd15")
    with torch.device("meta"):
        modules = {
            UNet2DConditionModel(**config.unet): 859_520_964,
            AutoencoderKL(**config.vae): 83_653_863,
            CLIPTextModel(CLIPTextConfig(**sizes.text_encoder)): 123_060_480,
            XLMRobertaModel(XLMRobertaConfig(type_vocab_size=1, **sizes.xlmr), add_pooling_layer=False): 558_840_832,
        }
    for module, count in modules.items():
        assert sum(value.numel() for value in module.parameters()) == count


@torch.no_grad()
def test_a_subject_reaches_words_and_patches_and_every_layer():
    base = random_stable_diffusion("tiny")
    elite = random_elite("tiny", base.unet)
    levels = VisionLevels(elite.vision)
    pixels = torch.randn(2, 3, levels.image_size, levels.image_size, generator=torch.Generator().manual_seed(0))
    words = elite.global_mapper(levels(pixels))
    patches = elite.local_mapper(levels(pixels), torch.ones(2, levels.grid**2))
    assert words.shape == (2, 5, 48) and patches.shape == (2, levels.grid**2, 48)
    for output in (words, patches):
        assert (output[0] - output[1]).abs().amax(-1).min() > 1e-3 and 0.1 < output.std() < 10
    assert list(elite.global_weights) == list(elite.local_weights) == list(cross_attention_layers(base.unet))
    for path, layer in cross_attention_layers(base.unet).items():
        pairs = (*elite.global_weights[path], *elite.local_weights[path])
        assert all(weight.shape == layer.to_k.weight.shape and weight.std() > 0 for weight in pairs)
        assert len({weight.sum().item() for weight in pairs}) == 4


@torch.no_grad()
def test_a_reference_picture_reaches_its_tokens():
    base = random_stable_diffusion("tiny")
    vision, adapter = random_ip_adapter("tiny", base.unet)
    module = IpAdapterTokens(vision, adapter.projection)
    random = torch.Generator().manual_seed(0)
    tokens = [module(torch.randn(2, 3, module.image_size, module.image_size, generator=random)) for _ in range(2)]
    assert tokens[0].shape == (2, 8, 48) and torch.equal(tokens[0][0], tokens[1][0])
    assert (tokens[0][1] - tokens[1][1]).abs().amax(-1).min() > 1e-3
    assert list(adapter.weights) == list(cross_attention_layers(base.unet))


def test_adapters_at_full_size_are_the_published_size():
    from diffusers import UNet2DConditionModel
    from transformers import CLIPVisionConfig, CLIPVisionModel, CLIPVisionModelWithProjection

    sizes = SIZES["sd15"]
    with torch.device("meta"):
        unet = UNet2DConditionModel(**parse_compvis_config(sizes.stable_diffusion, "sd15").unet)
        modules = {
            CLIPVisionModel(CLIPVisionConfig(**sizes.elite_vision)): 303_179_776,
            CLIPVisionModelWithProjection(CLIPVisionConfig(**sizes.ip_adapter_vision)): 632_076_800,
            IpAdapterCheckpoint(EmbedTokens(1024, 768, 4), unet): 22_319_616,
        }
        elite = EliteCheckpoint(GlobalMapper(1024, 768), unet)
    for module, count in modules.items():
        assert sum(value.numel() for value in module.parameters()) == count
    assert len(elite.state_dict()) == 132


def test_an_unknown_variant():
    with pytest.raises(CheckpointError, match=r"expected sd15 or tiny, got 'sdxl'"):
        random_xlmr("sdxl")
