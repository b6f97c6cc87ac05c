"""Which settings of a UNet, a VAE and a text side are drawn as diffusers draws them, and which are refused by name."""

import inspect
import re

import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from x2i.export.components.decoder import decoder_plan
from x2i.export.components.denoiser import NoisePrediction
from x2i.models.clip.published_tokenizer import PublishedTokenizer
from x2i.models.context_attention import ContextProjection, cross_attention_weights
from x2i.models.random.weights import draw_weights
from x2i.models.stable_diffusion.drawable import (
    channel_problems,
    ignored_notes,
    latent_size,
    size_notes,
    text_problems,
    unet_problems,
    vae_problems,
)

UNET = {
    "sample_size": 8,
    "block_out_channels": [16, 32],
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "cross_attention_dim": 24,
    "attention_head_dim": 2,
}
CROSS = {"down_block_types": ["CrossAttnDownBlock2D"] * 2, "up_block_types": ["CrossAttnUpBlock2D"] * 2}
SELF = {
    "block_out_channels": [16, 32, 32],
    "down_block_types": ["CrossAttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "AttnUpBlock2D", "CrossAttnUpBlock2D"],
}
DRAWN = [
    {},
    {"center_input_sample": True},
    {"time_embedding_act_fn": "gelu"},
    {"timestep_post_act": "silu"},
    {"time_embedding_type": "fourier"},
    {"time_embedding_dim": 40},
    {"flip_sin_to_cos": False, "freq_shift": 1},
    {"resnet_time_scale_shift": "scale_shift"},
    {"upcast_attention": True},
    {"only_cross_attention": [False, False]},
    {"mid_block_only_cross_attention": True},
    {"cross_attention_norm": "layer_norm"},
    {"use_linear_projection": True, "attention_head_dim": [2, 4]},
    {"mid_block_type": "UNetMidBlock2D"},
    {"mid_block_type": None},
    {"layers_per_block": [1, 2]},
    {"transformer_layers_per_block": [2, 1]},
    {**CROSS, "transformer_layers_per_block": [[1], [2]], "reverse_transformer_layers_per_block": [[1, 2], [1, 1]]},
    {"cross_attention_dim": [24, 24]},
    {"conv_in_kernel": 5, "conv_out_kernel": 5},
    {"mid_block_scale_factor": 2.0},
    {"time_cond_proj_dim": 9},
    {"downsample_padding": 0},
    {"attention_type": "gated", "use_linear_projection": True},
    {"resnet_skip_time_act": True, "resnet_out_scale_factor": 2.0},
    {"act_fn": "mish", "dropout": 0.3},
    {"addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 8, "addition_embed_type_num_heads": 2},
    {"down_block_types": ["UNetResCrossAttnDownBlock2D", "DownBlock2D"]},
    SELF,
]


@pytest.mark.parametrize("settings", DRAWN, ids=lambda settings: ",".join(settings) or "plain")
@torch.no_grad()
def test_drawn_as_diffusers_draws(settings):
    """The module that becomes the denoiser's graph, on keys and values that are projected beforehand."""
    settings = UNET | settings
    assert unet_problems(settings, "unet") == []
    unet = draw_weights(UNet2DConditionModel(**settings), 1).eval()
    random = torch.Generator().manual_seed(0)
    x, t, context = torch.randn(2, 4, 8, 12, generator=random), torch.tensor([7, 651]), torch.randn(2, 5, 24)
    scales, width = torch.tensor([1.0, 7.5]), unet.config.time_cond_proj_dim
    embedded = None if width is None else StableDiffusionPipeline.get_guidance_scale_embedding(None, scales - 1, width)
    expected = unet(x, t, context, timestep_cond=embedded).sample
    projected = ContextProjection(cross_attention_weights(unet))(context)
    noise = NoisePrediction(unet)(x, t, *([] if width is None else [scales]), *projected)
    assert (noise - expected).abs().max() < 1e-5 * expected.std()


@torch.no_grad()
def test_blocks_of_self_attention_take_sizes_that_do_not_halve_evenly():
    """Where diffusers' own block would double, and not meet the skip connection."""
    unet = draw_weights(UNet2DConditionModel(**{**UNET, **SELF}), 1).eval()
    projected = ContextProjection(cross_attention_weights(unet))(torch.randn(1, 5, 24))
    assert NoisePrediction(unet)(torch.randn(1, 4, 9, 14), torch.tensor([7.0]), *projected).shape == (1, 4, 9, 14)


REFUSED = [
    {"class_embed_type": "timestep"},
    {"num_class_embeds": 3},
    {"class_embeddings_concat": True},
    {"addition_embed_type": "text"},
    {"encoder_hid_dim": 16},
    {"encoder_hid_dim_type": "text_proj"},
    {"dual_cross_attention": True},
    {"only_cross_attention": True},
    {"only_cross_attention": [True, False]},
    {"cross_attention_dim": [24, 32]},
    {"down_block_types": ["CrossAttnDownBlock2D", "ResnetDownsampleBlock2D"]},
    {"up_block_types": ["SimpleCrossAttnUpBlock2D", "UpBlock2D"]},
    {"mid_block_type": "UNetMidBlock2DSimpleCrossAttn"},
    {"sample_size": 0},
    {"sample_size": [8, 8, 8]},
    {"sample_size": "64"},
    {"sample_size": 8.0},
    {"norm_num_groups": None},
    {"block_out_channels": ["16", "32"]},
    {"in_channels": "4"},
    {"layers_per_block": []},
]


@pytest.mark.parametrize("settings", REFUSED, ids=lambda settings: ",".join(settings))
def test_refused_by_name(settings):
    (problem,) = unet_problems(UNET | settings, "unet")
    assert next(iter(settings)) in problem and "fix: " in problem


def test_every_setting_of_the_class_is_known():
    """A new version of diffusers may bring settings that change a picture: each is looked at before it is taken."""
    known = set(inspect.signature(UNet2DConditionModel.__init__).parameters) - {"self"}
    judged = {name for settings in (UNET, *DRAWN, *REFUSED) for name in settings}
    assert known - judged <= {"in_channels", "out_channels", "norm_eps", "num_attention_heads"}, known - judged
    known = set(inspect.signature(AutoencoderKL.__init__).parameters) - {"self"}
    carried = {"in_channels", "block_out_channels", "layers_per_block", "act_fn", "norm_num_groups", "sample_size"}
    carried |= {"force_upcast", "use_quant_conv", "use_post_quant_conv", "mid_block_add_attention"}
    checked = {"out_channels", "latent_channels", "scaling_factor", "down_block_types", "up_block_types"}
    assert known <= carried | checked | {"shift_factor", "latents_mean", "latents_std"}


def test_a_unet_that_reads_no_text():
    plain = {"down_block_types": ["DownBlock2D"] * 2, "up_block_types": ["UpBlock2D"] * 2, "mid_block_type": None}
    (problem,) = unet_problems(UNET | plain, "unet")
    assert "expected a block with cross-attention" in problem


@pytest.mark.parametrize(
    ("stated", "size"),
    [
        ({"sample_size": None}, 64),
        ({}, 64),
        ({"sample_size": 32}, 32),
        ({"sample_size": 32, "_diffusers_version": "0.6.0"}, 64),
        ({"sample_size": 32, "_diffusers_version": "0.8.1"}, 64),
        ({"sample_size": 32, "_diffusers_version": "0.9.0.dev0"}, 32),
        ({"sample_size": 32, "_diffusers_version": "0.10.2"}, 32),
        ({"sample_size": 96, "_diffusers_version": "0.6.0"}, 96),
        ({"sample_size": [32, 48], "_diffusers_version": "0.6.0"}, [32, 48]),
    ],
)
def test_the_pipelines_size(stated, size):
    assert latent_size(stated) == size and unet_problems(UNET | {"sample_size": None} | stated, "unet") == []
    notes = size_notes(stated, "unet")
    assert [f"sample_size is {size} latents" in note for note in notes] == [True] * (stated.get("sample_size") != size)


@pytest.mark.parametrize(
    ("channels", "words"),
    [
        ((9, 4, 4), "in_channels 9 .*inpainting"),
        ((8, 4, 4), "in_channels 8 .*instruct-pix2pix"),
        ((4, 8, 4), "out_channels 8"),
        ((4, 4, 16), "latent_channels 16"),
        ((16, 16, 4), "in_channels 16 and out_channels 16"),
        (("4", 4, 4), "in_channels '4'"),
    ],
)
def test_latents_of_different_channels(channels, words):
    read, given, latents = channels
    (problem,) = channel_problems({"in_channels": read, "out_channels": given}, {"latent_channels": latents}, "base")
    assert re.search(words, problem)
    assert channel_problems({"in_channels": 16, "out_channels": 16}, {"latent_channels": 16}, "base") == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"out_channels": 4}, "out_channels 1 (grey) or 3 (RGB), got 4"),
        ({"out_channels": 2}, "got 2"),
        ({"latent_channels": None}, "latent_channels in positive whole numbers, got None"),
        ({"scaling_factor": 0}, "scaling_factor as a positive number, got 0"),
        ({"scaling_factor": float("nan")}, "got nan"),
        ({"scaling_factor": None}, "got None"),
        ({"up_block_types": ["UpDecoderBlock2D", "SkipUpBlock2D"]}, "got SkipUpBlock2D"),
    ],
)
def test_a_vae_that_cannot_be_drawn_with(settings, words):
    (problem,) = vae_problems(settings, "vae")
    assert words in problem


def test_a_vaes_settings_for_other_pipelines():
    assert vae_problems({"out_channels": 1, "shift_factor": 0.1}, "vae") == []
    (note,) = ignored_notes({"shift_factor": 0.1, "latents_mean": [0.0], "latents_std": None}, "vae")
    assert note.startswith("vae: shift_factor, latents_mean not applied")


def test_a_text_side_that_does_not_fit():
    tokenizer = PublishedTokenizer("", 520, "!", 0, 78, "tokenizer")
    text = {"hidden_size": 32, "vocab_size": 519, "max_position_embeddings": 77}
    problems = text_problems({"cross_attention_dim": 24}, text, tokenizer, "base")
    named = ("hidden_size", "vocab_size", "model_max_length")
    assert all(word in problem for word, problem in zip(named, problems, strict=True))
    fits = {"hidden_size": 24, "vocab_size": 520, "max_position_embeddings": 78}
    assert text_problems({"cross_attention_dim": [24, 24]}, fits, tokenizer, "base") == []


@pytest.mark.parametrize(
    ("sample_size", "blocks", "size"),
    [(64, 4, (512, 512)), ([8, 12], 4, (64, 96)), (9, 2, (16, 16)), (1, 2, (8, 8)), (64, 5, (1024, 1024))],
)
def test_the_default_size_can_be_drawn(sample_size, blocks, size):
    kinds = {"down_block_types": ["DownEncoderBlock2D"] * blocks, "up_block_types": ["UpDecoderBlock2D"] * blocks}
    vae = AutoencoderKL(block_out_channels=[8] * blocks, norm_num_groups=4, **kinds)
    plan = decoder_plan(vae, sample_size, "diffusers")
    assert plan.size == size and all(side % plan.size_multiple == 0 for side in plan.size)
