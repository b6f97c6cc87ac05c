"""DDCap's checkpoints in every form they come in, and what is refused."""

import json
import shutil
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from x2i.models.errors import CheckpointError
from x2i.models.random.weights import draw_weights
from x2i.models.readers.loading import build_module
from x2i.models.token_transformers.ddcap import Ddcap, DdcapSizes
from x2i.models.token_transformers.ddcap_checkpoint import read_ddcap

from tests.goldens import golden
from tests.models.token_transformers.ddcap_goldens import FOLDER, TAGS, checkpoint, model

SIZES = DdcapSizes(
    width=128,
    inner=84,
    layers=2,
    heads=2,
    vocab=31,
    positions=11,
    tokens=7,
    steps=5,
    vision_width=64,
    vision_layers=1,
    patch=5,
    grid=3,
    embed=6,
    project_hidden=9,
    length_hidden=4,
)
UNREAD = {
    "log_at": torch.zeros(SIZES.steps),
    "log_cumprod_at": torch.zeros(SIZES.steps + 1),
    "gpt.transformer.h.0.attn.bias": torch.ones(1, 1, 11, 11, dtype=torch.uint8),
    "gpt.transformer.h.1.crossattention.masked_bias": torch.tensor(-1e4),
    "clip_model.text_projection": torch.zeros(3, 6),
    "clip_model.transformer.resblocks.0.ln_1.weight": torch.zeros(3),
}


def state() -> dict[str, Tensor]:
    """A model's tensors under the authors' names, with those that only training or CLIP's text side reads."""
    net = draw_weights(build_module(lambda: Ddcap(SIZES), "test"), 3)
    found = dict(net.state_dict()) | UNREAD
    return found | {
        "gpt.lm_head.weight": found["gpt.transformer.wte.weight"],
        "pad_embedding": found["pad_embedding"].double(),
    }


def saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def refused(path: Path, **options: Any) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_ddcap(path, **options)
    return str(caught.value)


@pytest.mark.parametrize("tag", TAGS)
def test_sizes_of_the_goldens(tag: str) -> None:
    stated = json.loads(golden(f"{FOLDER}/{tag}/config.json").read_text("utf-8"))
    net = read_ddcap(checkpoint(tag))
    sizes, gpt, clip = net.sizes, stated["gpt2_config"], stated["clip"]
    assert (sizes.width, sizes.layers, sizes.heads) == (gpt["n_embd"], gpt["n_layer"], gpt["n_head"])
    assert (sizes.vocab, sizes.mask_id, sizes.steps) == (
        gpt["vocab_size"],
        stated["mask_token_id"],
        stated["time_step"],
    )
    assert (sizes.tokens, sizes.positions) == (stated["entry_length"], gpt["n_positions"])
    assert (sizes.grid * sizes.patch, sizes.patch, sizes.embed) == (
        clip["image_resolution"],
        clip["patch"],
        clip["embed_dim"],
    )
    assert net.clip_model["visual"].transformer["resblocks"][0].attn.heads == clip["heads"]


def test_every_form_holds_the_same(tmp_path: Path) -> None:
    tensors = state()
    adam = {"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 1e-4}]}
    training = {
        "model": OrderedDict(tensors),
        "lr_scheduler": {"last_epoch": 3, "lr_lambdas": [None]},
        "optimizer": adam,
        "scaler": {"scale": 65536.0, "growth_interval": 2000},
    }
    save_file({key: value.clone() for key, value in tensors.items()}, tmp_path / "tiny.safetensors")
    paths = [
        saved(tmp_path / "tiny-best.pt", {"model": tensors}),
        saved(tmp_path / "tiny-009.pt", training),
        tmp_path / "tiny.safetensors",
    ]
    for net in map(read_ddcap, paths):
        assert net.sizes == SIZES
        own = net.state_dict()
        assert own.keys() == tensors.keys() - UNREAD.keys() - {"gpt.lm_head.weight"}
        assert all(value.dtype == torch.float32 and torch.equal(value, tensors[key]) for key, value in own.items())


def test_a_model_without_its_section_is_refused(tmp_path: Path) -> None:
    bare = saved(tmp_path / "bare.pt", state())
    assert "expected named tensors under 'model', got bos_embedding" in refused(bare)


def test_another_model_is_refused(tmp_path: Path) -> None:
    other = saved(tmp_path / "other.pt", {"model": {"blocks.0.weight": torch.zeros(2, 2)}})
    assert "expected DDCap (keys gpt.transformer" in (told := refused(other)) and "GlueNet's text translator" in told


def test_every_key_that_does_not_fit_is_told(tmp_path: Path) -> None:
    tensors = state() | {"extra": torch.zeros(1), "gpt.transformer.h.0.ln_2.linear.bias": torch.zeros(5)}
    del tensors["bos_embedding"], tensors["gpt.lm_head.weight"]
    told = refused(saved(tmp_path / "odd.pt", {"model": tensors}))
    assert "expected gpt.lm_head.weight, tied to gpt.transformer.wte.weight, got none" in told
    assert "1 missing, 1 unexpected, 1 wrongly shaped" in told and "missing bos_embedding [128]" in told
    assert "wrong gpt.transformer.h.0.ln_2.linear.bias: expected [256], got [5]" in told


def test_a_head_of_its_own_is_refused(tmp_path: Path) -> None:
    tensors = state() | {"gpt.lm_head.weight": torch.zeros(31, 128)}
    assert "to be gpt.transformer.wte.weight, got other values" in refused(saved(tmp_path / "a.pt", {"model": tensors}))


def test_sizes_that_cannot_be_are_told_together(tmp_path: Path) -> None:
    tensors = state() | {
        "clip_model.visual.positional_embedding": torch.zeros(9, 64),
        "gpt.transformer.wpe.weight": torch.zeros(6, 128),
    }
    told = refused(saved(tmp_path / "a.pt", {"model": tensors}))
    assert "expected the patches of a square, got 8" in told and "a position for each of 7 tokens, got 6" in told


@pytest.mark.parametrize("nested", [True, False])
def test_heads_come_from_the_settings(tmp_path: Path, nested: bool) -> None:
    path = saved(tmp_path / "tiny-best.pt", {"model": state()})
    settings = {"n_head": 16, "n_embd": 128}
    beside = tmp_path / "config.json"
    beside.write_text(json.dumps({"gpt2_config": settings} if nested else settings), "utf-8")
    assert read_ddcap(path).sizes.heads == 16
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"n_head": 4}), "utf-8")
    assert read_ddcap(path, other).sizes.heads == 4


def test_settings_of_another_model_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "tiny-best.pt", {"model": state()})
    odd = tmp_path / "odd.json"
    odd.write_text(json.dumps({"n_head": 3, "n_layer": 12, "activation_function": "gelu"}), "utf-8")
    told = refused(path, config=odd)
    assert (
        "n_layer 2" in told and "activation_function 'gelu_new'" in told and "heads that divide a width of 128" in told
    )
    odd.write_text("{}", "utf-8")
    assert "expected n_head as a positive whole number, got None" in refused(path, config=odd)


@pytest.mark.parametrize("tag", TAGS)
def test_heads_of_another_width_must_be_stated(tag: str, tmp_path: Path) -> None:
    if model(tag).sizes.width % 64 == 0:
        pytest.skip("its heads may be 64 wide")
    shutil.copy(checkpoint(tag), tmp_path)
    told = refused(tmp_path / checkpoint(tag).name)
    assert "got heads of 64; fix: state n_head in a config.json beside the checkpoint" in told
