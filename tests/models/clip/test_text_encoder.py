"""CLIP's text encoder from files of every layout: OpenCLIP's against diffusers' converter, and layers left out."""

import pytest
import torch
from diffusers.loaders.single_file_utils import convert_open_clip_checkpoint
from transformers import CLIPTextConfig, CLIPTextModel
from x2i.export.components.text import ClipContext
from x2i.models.clip.text_encoder import empty_text_encoder, text_encoder_load, text_layout
from x2i.models.errors import CheckpointError
from x2i.models.random.weights import draw_weights
from x2i.models.readers.loading import load_all_strictly

SETTINGS = {
    "vocab_size": 40,
    "hidden_size": 24,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "max_position_embeddings": 9,
    "hidden_act": "gelu",
    "bos_token_id": 38,
    "eos_token_id": 39,
}
PREFIX = "cond_stage_model.model."


@pytest.fixture
def model() -> CLIPTextModel:
    return draw_weights(CLIPTextModel(CLIPTextConfig(**SETTINGS)), 5).eval()


def open_clip_file(layers: int) -> dict[str, torch.Tensor]:
    """As Stable Diffusion 2's files name the encoder."""
    width, inner = SETTINGS["hidden_size"], SETTINGS["intermediate_size"]
    shapes = {
        "token_embedding.weight": (40, width),
        "positional_embedding": (9, width),
        "ln_final.weight": (width,),
        "ln_final.bias": (width,),
        "text_projection": (width, width),
        "logit_scale": (),
        "attn_mask": (9, 9),
    }
    for layer in range(layers):
        block = f"transformer.resblocks.{layer}."
        shapes |= {f"{block}{norm}.{kind}": (width,) for norm in ("ln_1", "ln_2") for kind in ("weight", "bias")}
        shapes |= {f"{block}attn.in_proj_weight": (3 * width, width), f"{block}attn.in_proj_bias": (3 * width,)}
        linears = {"attn.out_proj": (width, width), "mlp.c_fc": (inner, width), "mlp.c_proj": (width, inner)}
        for name, shape in linears.items():
            shapes |= {f"{block}{name}.weight": shape, f"{block}{name}.bias": shape[:1]}
    random = torch.Generator().manual_seed(2)
    return {PREFIX + name: torch.randn(shape, generator=random) for name, shape in shapes.items()}


@pytest.mark.parametrize("layers", [3, 4])
@torch.no_grad()
def test_open_clip_equals_diffusers_converter(model, layers):
    """With one layer more than is read, as in Stable Diffusion 2, and without."""
    file = open_clip_file(layers)
    layout = text_layout(file)
    assert layout is not None and layout.open_clip and layout.prefix == PREFIX
    load_all_strictly([text_encoder_load(model, file, "file")])
    converted = convert_open_clip_checkpoint(model, file, PREFIX)
    for key, value in model.state_dict().items():
        assert torch.equal(value, converted["text_model." + key.removeprefix("text_model.")]), key


def test_a_misfit_is_told_in_the_files_names(model):
    file = open_clip_file(3)
    del file[PREFIX + "transformer.resblocks.1.attn.in_proj_bias"], file[PREFIX + "ln_final.bias"]
    file[PREFIX + "transformer.resblocks.7.ln_1.bias"] = torch.ones(24)
    with pytest.raises(CheckpointError) as caught:
        load_all_strictly([text_encoder_load(model, file, "file")])
    told = "\n".join(caught.value.problems)
    assert f"missing {PREFIX}transformer.resblocks.1.attn.in_proj_bias[k]" in told
    assert f"missing {PREFIX}ln_final.bias" in told and f"unexpected {PREFIX}transformer.resblocks.7.ln_1.bias" in told


@pytest.mark.parametrize("keys", [[], ["visual.conv1.weight"], ["roberta.embeddings.token_embedding.weight"]])
def test_no_text_encoder(keys):
    assert text_layout(dict.fromkeys(keys)) is None


@pytest.mark.parametrize("skipped", [0, 1, 2])
@pytest.mark.parametrize("masked", [False, True])
@torch.no_grad()
def test_layers_left_out_as_diffusers_counts_them(model, skipped, masked):
    """Of the prompt, which is the last row; diffusers hands the negative one to all layers."""
    ids = torch.randint(0, 38, (2, 9), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[0, 3:] = mask[1, 7:] = 0
    given = {"input_ids": ids} | ({"attention_mask": mask} if masked else {})
    states = model(**given, output_hidden_states=True).hidden_states
    norm = getattr(model, "text_model", model).final_layer_norm
    expected = torch.stack([norm(states[-1][0]), norm(states[-(skipped + 1)][1])])
    assert torch.allclose(ClipContext(model, skipped)(**given), expected, atol=1e-6)
    alone = {name: each[1:] for name, each in given.items()}
    assert torch.allclose(ClipContext(model, skipped)(**alone), expected[1:], atol=1e-6)


def test_settings_of_a_whole_clip():
    text = {"model_type": "clip_text_model", **SETTINGS}
    assert empty_text_encoder({"model_type": "clip", "text_config": text}, "x").config.hidden_size == 24
    with pytest.raises(CheckpointError, match="expected model_type 'clip_text_model', got 'bert'"):
        empty_text_encoder({"model_type": "bert"}, "x")
