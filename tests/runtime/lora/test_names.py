"""Every published key form names the same layers, and CompVis' names of them are those of its checkpoints."""

import numpy as np
import pytest
from torch import nn
from x2i.models.random.weights import random_stable_diffusion
from x2i.models.stable_diffusion.compvis_names import UNET_PREFIX, unet_names
from x2i.runtime.lora.lora import read_lora
from x2i.runtime.lora.names import compvis_layers, layer_key

from tests.numerics import assert_close
from tests.runtime.lora.forms import COMPVIS, FORMS, LAYERS, alpha_of, halves, written

WHOLE = {"unet": {path: (1, 1) for path, _ in random_stable_diffusion("tiny").unet.named_modules()}}
"""Blocks are counted through, so that CompVis' names of some layers follow from all."""


@pytest.mark.parametrize("form", FORMS)
def test_every_form_changes_the_same_layers(form):
    changes = halves()
    layers = {"unet": WHOLE["unet"] | LAYERS["unet"], "text_encoder": LAYERS["text_encoder"]}
    has_alphas = form in ("kohya", "compvis")
    lora = read_lora("a file", written(form, changes, has_alphas), {}, layers)
    assert lora.changes.keys() == changes.keys()
    for (part, path), (down, up) in changes.items():
        rank = len(down)
        expected = up.reshape(-1, rank) @ down.reshape(rank, -1) * (alpha_of((part, path)) / rank if has_alphas else 1)
        shape = LAYERS[part][path]
        assert_close(lora.changes[part, path].matrix(shape), expected.reshape(shape), "elite-stage")


def test_compvis_names_are_those_of_its_checkpoints():
    unet = random_stable_diffusion("tiny").unet
    paths = [path for path, layer in unet.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    names = unet_names(unet, 1, [True, False])
    expected = {path: names[f"{path}.weight"].removeprefix(UNET_PREFIX).removesuffix(".weight") for path in paths}
    assert compvis_layers(paths) == expected
    assert COMPVIS.items() <= {path: name.replace(".", "_") for path, name in expected.items()}.items()


@pytest.mark.parametrize(
    ("layers", "attends", "blocks"),
    [(2, [True, True, False], ("CrossAttnDownBlock2D",)), (3, [False, True], ("DownBlock2D",))],
)
def test_compvis_names_of_other_depths(layers, attends, blocks):
    from diffusers import UNet2DConditionModel

    down = ["CrossAttnDownBlock2D" if each else "DownBlock2D" for each in attends]
    up = ["CrossAttnUpBlock2D" if each else "UpBlock2D" for each in reversed(attends)]
    unet = UNet2DConditionModel(
        block_out_channels=[8] * len(attends),
        down_block_types=down,
        up_block_types=up,
        layers_per_block=layers,
        norm_num_groups=4,
        cross_attention_dim=8,
        attention_head_dim=2,
    )
    paths = [path for path, layer in unet.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    names = unet_names(unet, layers, attends)
    expected = {path: names[f"{path}.weight"].removeprefix(UNET_PREFIX).removesuffix(".weight") for path in paths}
    assert compvis_layers(paths) == expected


@pytest.mark.parametrize("key", ["", ".", "lora", "conv_in.weight", "a.lora_C.weight", "x.diff", "x.lora_down.bias"])
def test_other_keys_are_none(key):
    assert layer_key(key) is None


def test_one_layer_twice_is_refused():
    both = written("kohya", halves()) | written("diffusers", halves())
    with pytest.raises(ValueError, match="each once, got 34 others"):
        read_lora("a file", both, {}, LAYERS)


def test_half_of_a_float_is_read():
    down, up = np.ones((1, 32), np.float32), np.ones((32, 1), np.float32)
    place = "unet", "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    lora = read_lora("a file", written("kohya", {place: (down, up)}, alphas=True), {}, LAYERS)
    assert lora.changes[place].scale == 1.5
