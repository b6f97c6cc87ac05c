"""IP-Adapter's published files with random weights, for the tiny base model."""

from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection
from x2i.models.context_attention import cross_attention_layers
from x2i.models.random.weights import draw_weights, random_stable_diffusion

CONTEXT, EMBED, FEATURES, IMAGE = 48, 20, 24, 21
LAYERS = "ip_adapter"


@cache
def base_unet():
    return random_stable_diffusion("tiny").unet


@cache
def tower() -> CLIPVisionModelWithProjection:
    sizes = {"hidden_size": FEATURES, "intermediate_size": 31, "num_hidden_layers": 3, "num_attention_heads": 3}
    config = CLIPVisionConfig(**sizes, image_size=IMAGE, patch_size=7, projection_dim=EMBED, hidden_act="gelu")
    return draw_weights(CLIPVisionModelWithProjection(config).eval().requires_grad_(False), 5)


def published(plus: bool = False) -> dict[str, dict[str, torch.Tensor]]:
    """Its two sections as in a `.bin`. Attention layers are numbered 1, 3, 5... in the UNet's order."""
    random = torch.Generator().manual_seed(4)

    def matrix(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=random) / shape[-1] ** 0.5

    def norm(name: str, width: int) -> dict[str, torch.Tensor]:
        return {f"{name}.weight": 1 + matrix(1, width)[0], f"{name}.bias": matrix(1, width)[0]}

    layers = {}
    for place, layer in enumerate(cross_attention_layers(base_unet()).values()):
        for name in ("to_k_ip", "to_v_ip"):
            layers[f"{2 * place + 1}.{name}.weight"] = matrix(layer.to_k.out_features, CONTEXT)
    if not plus:
        proj = {"proj.weight": matrix(4 * CONTEXT, EMBED), "proj.bias": matrix(1, 4 * CONTEXT)[0]}
        return {"image_proj": {**proj, **norm("norm", CONTEXT)}, LAYERS: layers}
    width, inner = 40, 128
    proj = {"latents": matrix(1, 6, width)}
    for name, before, after in (("proj_in", FEATURES, width), ("proj_out", width, CONTEXT)):
        proj |= {f"{name}.weight": matrix(after, before), f"{name}.bias": matrix(1, after)[0]}
    proj |= norm("norm_out", CONTEXT)
    for block in range(4):
        name = f"layers.{block}"
        proj |= {**norm(f"{name}.0.norm1", width), **norm(f"{name}.0.norm2", width), **norm(f"{name}.1.0", width)}
        proj |= {f"{name}.0.to_q.weight": matrix(inner, width), f"{name}.0.to_kv.weight": matrix(2 * inner, width)}
        proj |= {f"{name}.0.to_out.weight": matrix(width, inner)}
        proj |= {f"{name}.1.1.weight": matrix(4 * width, width), f"{name}.1.3.weight": matrix(width, 4 * width)}
    return {"image_proj": proj, LAYERS: layers}


def write(path: Path, sections: dict[str, dict[str, Any]]) -> Path:
    """Nested as `.bin`, flat as `.safetensors`."""
    if path.suffix == ".bin":
        torch.save(sections, path)
    else:
        flat = {f"{section}.{name}": value for section, tensors in sections.items() for name, value in tensors.items()}
        save_file(flat, path)
    return path
