"""What is read of VQ-Diffusion's files, and what is refused by its name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from x2i.models.errors import CheckpointError
from x2i.models.readers.given_files import given_yaml
from x2i.models.token_transformers.vq_diffusion_checkpoint import VqDiffusion, read_vq_diffusion
from x2i.models.token_transformers.vq_diffusion_config import VqDiffusionConfig, read_vq_diffusion_config

from tests.goldens import golden_arrays
from tests.models.token_transformers.token_goldens import GoldenModel, models
from tests.numerics import assert_close

MODELS = pytest.mark.parametrize("model", models("vq_diffusion", "cdcd"))
Settings = dict[str, Any]
Weights = dict[str, torch.Tensor]


def changed_config(model: GoldenModel, tmp_path: Path, change: Callable[[Settings], object]) -> VqDiffusionConfig:
    content = given_yaml(model.config_file)
    change(content["model"]["params"])
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return read_vq_diffusion_config(path)


def changed_checkpoint(model: GoldenModel, tmp_path: Path, change: Callable[[dict[str, Any]], object]) -> VqDiffusion:
    content = torch.load(model.checkpoint_file, weights_only=True)
    change(content)
    path = tmp_path / "checkpoint.pth"
    torch.save(content, path)
    return read_vq_diffusion(path, read_vq_diffusion_config(model.config_file))


def diffusion(params: Settings) -> Settings:
    return params["diffusion_config"]["params"]


def transformer(params: Settings) -> Settings:
    return diffusion(params)["transformer_config"]["params"]


def embedding(params: Settings) -> Settings:
    return diffusion(params)["content_emb_config"]["params"]


@MODELS
def test_everything_is_float32(model: GoldenModel) -> None:
    read = read_vq_diffusion(model.checkpoint_file, read_vq_diffusion_config(model.config_file))
    modules = [module for module in (read.transformer, read.text_encoder) if module is not None]
    tensors = [*read.schedule.values(), *(p for module in modules for p in module.parameters())]
    assert {tensor.dtype for tensor in tensors} == {torch.float32}
    if read.text_encoder is not None:
        null = golden_arrays(f"{model.system}/{model.folder}_textencoder.npz").get("empty_text_embed")
        assert (read.null_text is None) == (null is None)
        if read.null_text is not None:
            assert_close(read.null_text.numpy(), null, "content-embedding")


@MODELS
def test_masks_may_be_there_or_not(model: GoldenModel, tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        masks = [key for key in content["ema"] if key.endswith(".mask")]
        for key in masks:
            del content["ema"][key]
        if not masks:
            content["ema"]["transformer.blocks.0.attn1.mask"] = torch.ones(1, 1, 3, 3)

    changed_checkpoint(model, tmp_path, change)


BAD_CHECKPOINTS = {
    "expected named tensors under 'ema', got .*averaged": lambda content: content.pop("ema"),
    "tensors only under 'ema'": lambda content: content["ema"].update(step=3),
    r"missing transformer\.content_emb\.emb\.weight": lambda c: c["ema"].pop("transformer.content_emb.emb.weight"),
    r"unexpected transformer\.blocks\.0\.attn3\.weight": lambda content: content["ema"].update(
        {"transformer.blocks.0.attn3.weight": torch.zeros(3)}
    ),
    r"unexpected content_codec\.x": lambda content: content["ema"].update({"content_codec.x": torch.zeros(3)}),
    "expected log_ct .*got none": lambda content: content["ema"].pop("log_ct"),
    "expected log_cumprod_at .*got": lambda content: content["ema"].update(log_cumprod_at=torch.zeros(3)),
    r"wrong transformer\.to_logits\.1\.bias": lambda content: content["ema"].update(
        {"transformer.to_logits.1.bias": torch.zeros(3)}
    ),
}


@pytest.mark.parametrize("expected", BAD_CHECKPOINTS)
@pytest.mark.parametrize("model", models("cdcd"))
def test_another_checkpoint_is_refused(model: GoldenModel, tmp_path: Path, expected: str) -> None:
    with pytest.raises(CheckpointError, match=expected):
        changed_checkpoint(model, tmp_path, BAD_CHECKPOINTS[expected])


@MODELS
def test_what_a_condition_needs_is_asked_for(model: GoldenModel, tmp_path: Path) -> None:
    config = read_vq_diffusion_config(model.config_file)

    def without_text(content: dict[str, Any]) -> None:
        for key in [key for key in content["ema"] if key.startswith("condition_emb.")]:
            del content["ema"][key]

    def other_rows(content: dict[str, Any]) -> None:
        for key in [key for key in content["ema"] if key.endswith(".ln2.emb.weight")]:
            content["ema"][key] = torch.cat([content["ema"][key], content["ema"][key][:1]])

    if config.prompt is not None:
        with pytest.raises(CheckpointError, match="expected CLIP's text encoder"):
            changed_checkpoint(model, tmp_path, without_text)
    elif config.transformer.class_rows is not None:
        with pytest.raises(CheckpointError, match=r"wrong transformer\.blocks\.0\.ln2\.emb\.weight"):
            changed_checkpoint(model, tmp_path, other_rows)
    if config.learned_null:
        with pytest.raises(CheckpointError, match=r"expected empty_text_embed .*got none"):
            changed_checkpoint(model, tmp_path, lambda content: content["ema"].pop("empty_text_embed"))
    else:
        with pytest.raises(CheckpointError, match="empty_text_embed"):
            changed_checkpoint(model, tmp_path, lambda content: content["ema"].update(empty_text_embed=torch.zeros(3)))


BAD_CONFIGS = {
    "unknown 'rope'": lambda params: transformer(params).update(rope=True),
    "unknown 'mask_tokens'": lambda params: diffusion(params).update(mask_tokens=2),
    "unknown 'second_codec_config'": lambda params: params.update(second_codec_config={}),
    "block_activate 'GELU2', got 'GELU'": lambda params: transformer(params).update(block_activate="GELU"),
    "timestep_type 'adalayernorm', got 'adainsnorm'": lambda p: transformer(p).update(timestep_type="adainsnorm"),
    "alpha_init_type 'alpha1', got 'cos'": lambda params: diffusion(params).pop("alpha_init_type"),
    "attn_type .*, got 'dualcross'": lambda params: transformer(params).update(attn_type="dualcross"),
    "attn_type .*, got {}": lambda params: transformer(params).update(attn_type={}),
    "mlp_type 'fc' or 'conv_mlp'": lambda params: transformer(params).update(mlp_type="moe"),
    "n_layer as a positive whole number": lambda params: transformer(params).update(n_layer="many"),
    "width that .* heads divide": lambda params: transformer(params).update(n_head=transformer(params)["n_embd"] + 1),
    "content_seq_len .* for a grid": lambda params: transformer(params).update(content_seq_len=1),
    "position table of .* places or more": lambda params: embedding(params).update(spatial_size=[1, 1]),
    "spatial_size as two": lambda params: embedding(params).update(spatial_size=[4, 4, 4]),
    "embed_dim": lambda params: embedding(params).update(embed_dim=1),
}


@pytest.mark.parametrize("expected", BAD_CONFIGS)
@pytest.mark.parametrize("model", models("cdcd"))
def test_another_configuration_is_refused(model: GoldenModel, tmp_path: Path, expected: str) -> None:
    with pytest.raises(CheckpointError, match=expected):
        changed_config(model, tmp_path, BAD_CONFIGS[expected])


@pytest.mark.parametrize("model", models("cdcd"))
def test_an_mlp_of_another_kind_does_not_fit(model: GoldenModel, tmp_path: Path) -> None:
    """CDCD's is convolutional in its models of texts, too."""
    config = changed_config(model, tmp_path, lambda params: transformer(params).pop("mlp_type"))
    with pytest.raises(CheckpointError, match=r"unexpected transformer\.blocks\.0\.mlp\.conv1\.weight"):
        read_vq_diffusion(model.checkpoint_file, config)


@MODELS
def test_all_problems_of_a_configuration_come_at_once(model: GoldenModel, tmp_path: Path) -> None:
    def change(params: Settings) -> None:
        transformer(params).update(block_activate="GELU", n_head=None)
        diffusion(params).update(diffusion_step=0)

    with pytest.raises(CheckpointError) as raised:
        changed_config(model, tmp_path, change)
    assert len(raised.value.problems) == 3


@MODELS
def test_settings_of_training_change_nothing(model: GoldenModel, tmp_path: Path) -> None:
    def change(params: Settings) -> None:
        transformer(params).update(attn_pdrop=0.3, resid_pdrop=0.1, checkpoint=True)
        diffusion(params).update(contrastive_intra_loss_weight=0.5, inter_mode="step", mask_weight=[2, 1])

    before = read_vq_diffusion_config(model.config_file)
    after = changed_config(model, tmp_path, change)
    assert (after.transformer, after.grid, after.prompt) == (before.transformer, before.grid, before.prompt)
