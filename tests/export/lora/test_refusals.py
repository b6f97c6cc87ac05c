"""What `x2i export --lora` refuses: a line each, all at once, exit code 2, and nothing is written."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.numpy import save_file
from x2i.runtime.cli import main

from tests.export.test_export_command import Bomb
from tests.runtime.lora.forms import halves, written

QUERY = "unet", "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
KEY = "unet", "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"


def refused(tmp_path: Path, *loras: object, system: str = "sd") -> str:
    """What is said of them."""
    given = [word for lora in loras for word in ("--lora", str(lora))]
    arguments = ["export", system, str(tmp_path / "bundles" / "out"), "--random-weights", "tiny", *given]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2, result.output
    assert not (tmp_path / "bundles").exists()
    return result.stderr


def saved(tmp_path: Path, tensors: dict[str, np.ndarray], name: str = "a.safetensors", **metadata: str) -> Path:
    save_file({key: np.ascontiguousarray(value) for key, value in tensors.items()}, tmp_path / name, metadata)
    return tmp_path / name


def small(form: str = "kohya") -> dict[str, np.ndarray]:
    return written(form, {QUERY: halves()[QUERY]})


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("nothing.safetensors", "expected a LoRA's file, or a folder with pytorch_lora_weights.safetensors"),
        ("a.safetensors:strong", "expected PATH or PATH:WEIGHT with a number as the weight, got 'strong'"),
        ("a.safetensors:nan", "expected PATH or PATH:WEIGHT with a number"),
        ("a.safetensors:inf", "expected a weight between -100 and 100, got inf"),
        ("a.safetensors:", "expected PATH or PATH:WEIGHT with a number"),
        (":0.5", "expected PATH or PATH:WEIGHT"),
    ],
)
def test_paths_and_weights(tmp_path, monkeypatch, spec, said):
    saved(tmp_path, small())
    monkeypatch.chdir(tmp_path)
    assert said in refused(tmp_path, spec)


def test_a_lora_of_another_base(tmp_path):
    """Stable Diffusion XL's names are partly the same: the first layer of another width is told, and how many more."""
    down, up = halves()[KEY]
    wide = written("diffusers", {KEY: (np.zeros((3, 2048), np.float32), up[:, :3]), QUERY: (down, up)})
    said = refused(tmp_path, saved(tmp_path, wide | {"unet.add_embedding.linear_1.lora.down.weight": down}))
    assert f"{QUERY[1]}: expected [32, 32], got [32, 48], and 1 more layers differ" in said
    assert "unknown unet.add_embedding.linear_1.lora.down.weight [5, 48]" in said


def test_a_second_text_encoder(tmp_path):
    tensors = small() | {f"lora_te2_text_model_x.lora_{half}.weight": np.zeros((2, 2)) for half in ("down", "up")}
    said = refused(tmp_path, saved(tmp_path, tensors))
    assert "got 2 others" in said and "unknown lora_te2_text_model_x.lora_up.weight [2, 2]" in said


def test_all_problems_of_all_files_at_once(tmp_path):
    down, up = halves()[QUERY]
    one = saved(
        tmp_path, {"lora_unet_conv_in.lora_down.weight": np.zeros((2, 4, 3, 3), np.float32)}, "half.safetensors"
    )
    two = saved(tmp_path, written("kohya", {QUERY: (down[:-1], up)}), "ranks.safetensors")
    three = saved(tmp_path, written("kohya", {QUERY: (down * np.nan, up)}), "nan.safetensors")
    four = saved(tmp_path, {"weight": down}, "none.safetensors")
    said = refused(tmp_path, one, two, three, four)
    assert "half.safetensors: unet.conv_in: expected up beside down, got none" in said
    assert "ranks.safetensors: unet.down_blocks" in said and "expected both halves of one rank" in said
    assert "nan.safetensors" in said and "expected finite numbers, got NaN or infinity in down" in said
    assert "none.safetensors: expected a LoRA, with keys such as" in said and "got keys such as weight" in said


@pytest.mark.parametrize("key", ["lora_unet_{}.dora_scale", "unet.{}.lora_magnitude_vector"])
def test_dora_is_refused_by_name(tmp_path, key):
    form = "kohya" if key.startswith("lora_") else "diffusers"
    tensors = small(form) | {key.format(QUERY[1].replace(".", "_") if form == "kohya" else QUERY[1]): np.ones((32, 1))}
    assert "got DoRA's, which scales the weight's norms" in refused(tmp_path, saved(tmp_path, tensors))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("{", "JSON"),
        ("[]", "expected a JSON object"),
        ('{"unet.lora_alpha": "much"}', "expected a number as the alpha lora_alpha, got 'much'"),
        ('{"unet.lora_alpha": 1, "unet.alpha_pattern": {"(a+)+b": 2}}', "got the expression"),
        ('{"unet.lora_alpha": 1, "unet.alpha_pattern": 3}', "expected alphas by layers' names as alpha_pattern"),
    ],
)
def test_damaged_settings(tmp_path, settings, said):
    path = saved(tmp_path, small("diffusers"), lora_adapter_metadata=settings)
    assert said in refused(tmp_path, path)


def test_two_alphas_of_one_layer(tmp_path):
    name = f"lora_unet_{QUERY[1].replace('.', '_')}.alpha"
    assert "expected one number as alpha, got [2]" in refused(tmp_path, saved(tmp_path, small() | {name: np.ones(2)}))


def test_a_pickle_that_runs_code(tmp_path):
    torch.save({"lora_unet_conv_in.lora_down.weight": Bomb(tmp_path / "ran")}, tmp_path / "bomb.pt")
    assert "wants to run" in refused(tmp_path, tmp_path / "bomb.pt")
    assert not (tmp_path / "ran").exists()


def test_a_damaged_file(tmp_path):
    content = saved(tmp_path, small()).read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(content[:-5])
    header = json.dumps({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 4]}}).encode()
    (tmp_path / "huge.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 4)
    (tmp_path / "text.lora").write_text("no weights", "utf-8")
    said = refused(tmp_path, *(tmp_path / name for name in ("cut.safetensors", "huge.safetensors", "text.lora")))
    assert all(name in said for name in ("cut.safetensors", "huge.safetensors", "text.lora"))


def test_token_systems_have_no_base(tmp_path):
    path = saved(tmp_path, small())
    assert "--lora: this system has no Stable Diffusion base" in refused(tmp_path, path, system="vq-diffusion")
