"""What PEFT and diffusers save, folded, against the weights that PEFT itself merges."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoHaConfig, LoKrConfig, LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn
from x2i.export.lora.target import changed_layers
from x2i.export.plan import ExportPlan
from x2i.export.systems.lora import fold_loras
from x2i.models.random.weights import random_stable_diffusion
from x2i.models.stable_diffusion.base import StableDiffusion
from x2i.runtime.lora.choice import LoraChoice

from tests.export.lora.files import peer_pipeline, saved_lora
from tests.numerics import assert_close

TARGETS = ["attn1.to_q", "attn2.to_v", "proj_in", "conv1", "ff.net.2"]
CONFIGS: dict[str, Any] = {
    "rooted": LoraConfig(r=5, lora_alpha=2, use_rslora=True, target_modules=TARGETS, alpha_pattern={"proj_in": 9}),
    "loha": LoHaConfig(r=3, alpha=5, target_modules=TARGETS, use_effective_conv2d=True),
    "loha, joined kernels": LoHaConfig(r=3, alpha=5, target_modules=TARGETS),
    "lokr": LoKrConfig(r=3, alpha=5, target_modules=TARGETS, decompose_both=True, use_effective_conv2d=True),
    "lokr, a whole half": LoKrConfig(r=2, alpha=5, target_modules=TARGETS),
}


def folded(*loras: LoraChoice) -> StableDiffusion:
    return fold_loras(random_stable_diffusion("tiny"), ExportPlan("sd", Path("out"), loras=loras))


def same_weights(ours: nn.Module, theirs: nn.Module) -> None:
    plain = random_stable_diffusion("tiny")
    before = changed_layers(plain.unet if "unet" in type(ours).__name__.lower() else plain.text_encoder)
    others = changed_layers(theirs)
    assert any(not torch.equal(layer.weight, others[path].weight) for path, layer in before.items())
    for path, layer in changed_layers(ours).items():
        assert_close(layer.weight.numpy(), others[path].weight.detach().numpy(), "folded")


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_a_folder_that_peft_saved(tmp_path, name):
    model = get_peft_model(random_stable_diffusion("tiny").unet, CONFIGS[name])
    random = torch.Generator().manual_seed(7)
    for parameter, value in model.named_parameters():
        if any(kind in parameter for kind in ("lora_", "hada_", "lokr_")):
            value.normal_(0, 0.2, generator=random)
    model.save_pretrained(tmp_path / "adapter")
    assert json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["r"] in (2, 3, 5)
    merged = model.merge_and_unload()
    same_weights(folded(LoraChoice(tmp_path / "adapter")).unet, merged)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_what_diffusers_fuses(tmp_path, dtype):
    """Both parts, ranks and alphas by layer from the metadata, a weight below 0."""
    path = saved_lora(tmp_path, 4, dtype)
    pipeline = peer_pipeline()
    pipeline.load_lora_weights(tmp_path, weight_name=path.name)
    pipeline.fuse_lora(lora_scale=-1.3)
    pipeline.unload_lora_weights()
    base = folded(LoraChoice(tmp_path, -1.3))
    same_weights(base.unet, pipeline.unet)
    assert base.text_encoder is not None
    same_weights(base.text_encoder, pipeline.text_encoder)


@torch.no_grad()
def test_what_diffusers_makes_of_a_file_without_alphas(tmp_path):
    path = saved_lora(tmp_path, 4)
    save_file(load_file(path), tmp_path / "bare.safetensors")
    torch.save(load_file(path), tmp_path / "bare.bin")
    pipeline = peer_pipeline()
    pipeline.load_lora_weights(tmp_path, weight_name="bare.safetensors")
    pipeline.fuse_lora()
    pipeline.unload_lora_weights()
    for name in ("bare.safetensors", "bare.bin"):
        same_weights(folded(LoraChoice(tmp_path / name)).unet, pipeline.unet)


@torch.no_grad()
def test_what_diffusers_makes_of_kohyas_file(tmp_path):
    state = load_file(saved_lora(tmp_path, 4, text=False))
    kohya = {}
    for key, value in state.items():
        if ".attn" in key or ".ff." in key:
            layer, half = key.removeprefix("unet.").split(".lora_")
            name = f"lora_unet_{layer.replace('.', '_')}"
            kohya[f"{name}.lora_{'down' if half.startswith('A') else 'up'}.weight"] = value
            kohya[f"{name}.alpha"] = torch.tensor(1.75)
    save_file(kohya, tmp_path / "kohya.safetensors")
    pipeline = peer_pipeline()
    pipeline.load_lora_weights(tmp_path, weight_name="kohya.safetensors")
    pipeline.fuse_lora(lora_scale=0.6)
    pipeline.unload_lora_weights()
    same_weights(folded(LoraChoice(tmp_path / "kohya.safetensors", 0.6)).unet, pipeline.unet)
