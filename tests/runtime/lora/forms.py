"""LoRA files in every published key form, for the layers of the tiny base; written by hand, as their tools do."""

from collections.abc import Callable, Mapping

import numpy as np

ATTENTION = "down_blocks.0.attentions.0.transformer_blocks.0.attn1"
LAYERS = {
    "unet": {
        f"{ATTENTION}.to_q": (32, 32),
        f"{ATTENTION}.to_out.0": (32, 32),
        "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k": (32, 48),
        "down_blocks.0.attentions.0.proj_in": (32, 32, 1, 1),
        "down_blocks.0.resnets.0.conv1": (32, 32, 3, 3),
        "down_blocks.0.downsamplers.0.conv": (32, 32, 3, 3),
        "down_blocks.1.resnets.0.conv_shortcut": (64, 32, 1, 1),
        "mid_block.resnets.1.time_emb_proj": (64, 128),
        "up_blocks.0.resnets.1.conv2": (64, 64, 3, 3),
        "up_blocks.0.upsamplers.0.conv": (64, 64, 3, 3),
        "up_blocks.1.attentions.1.proj_out": (32, 32, 1, 1),
        "up_blocks.1.resnets.0.conv1": (32, 96, 3, 3),
        "time_embedding.linear_1": (128, 32),
        "conv_out": (4, 32, 3, 3),
    },
    "text_encoder": {
        "encoder.layers.1.self_attn.q_proj": (48, 48),
        "encoder.layers.0.self_attn.out_proj": (48, 48),
        "encoder.layers.0.mlp.fc1": (96, 48),
    },
}
COMPVIS = {
    f"{ATTENTION}.to_q": "input_blocks_1_1_transformer_blocks_0_attn1_to_q",
    f"{ATTENTION}.to_out.0": "input_blocks_1_1_transformer_blocks_0_attn1_to_out_0",
    "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k": "input_blocks_1_1_transformer_blocks_0_attn2_to_k",
    "down_blocks.0.attentions.0.proj_in": "input_blocks_1_1_proj_in",
    "down_blocks.0.resnets.0.conv1": "input_blocks_1_0_in_layers_2",
    "down_blocks.0.downsamplers.0.conv": "input_blocks_2_0_op",
    "down_blocks.1.resnets.0.conv_shortcut": "input_blocks_3_0_skip_connection",
    "mid_block.resnets.1.time_emb_proj": "middle_block_2_emb_layers_1",
    "up_blocks.0.resnets.1.conv2": "output_blocks_1_0_out_layers_3",
    "up_blocks.0.upsamplers.0.conv": "output_blocks_1_1_conv",
    "up_blocks.1.attentions.1.proj_out": "output_blocks_3_1_proj_out",
    "up_blocks.1.resnets.0.conv1": "output_blocks_2_0_in_layers_2",
    "time_embedding.linear_1": "time_embed_0",
    "conv_out": "out_2",
}
Halves = tuple[np.ndarray, np.ndarray]
"""Down [r, in, ...] and up [out, r, ...]."""


def every_layer() -> list[tuple[str, str]]:
    return [(part, path) for part, layers in LAYERS.items() for path in layers]


def halves(seed: int = 0) -> dict[tuple[str, str], Halves]:
    """Random halves of every layer, of ranks 3 to 5, kernels as trainers keep them."""
    random = np.random.default_rng(seed)
    found = {}
    for number, (part, path) in enumerate(every_layer()):
        out, *inner = LAYERS[part][path]
        rank = 3 + number % 3
        up = (out, rank, *[1] * (len(inner) - 1))
        found[part, path] = (
            random.standard_normal((rank, *inner)).astype(np.float32),
            random.standard_normal(up).astype(np.float32),
        )
    return found


def alpha_of(place: tuple[str, str]) -> float:
    """Another one than the rank, and not the same for all."""
    return 1.5 + every_layer().index(place) % 4


def _text_old(path: str) -> str:
    for new, old in {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out"}.items():
        path = path.replace(f".{new}", f".{old}_lora")
    return path


def kohya(part: str, path: str, half: str) -> str:
    name = f"lora_unet_{path}" if part == "unet" else f"lora_te_text_model_{path}"
    return f"{name.replace('.', '_')}.lora_{half}.weight"


def compvis(part: str, path: str, half: str) -> str:
    return f"lora_unet_{COMPVIS[path]}.lora_{half}.weight" if part == "unet" else kohya(part, path, half)


def diffusers(part: str, path: str, half: str) -> str:
    text = "text_model." if part == "text_encoder" else ""
    return f"{part}.{text}{path}.lora.{half}.weight"


def diffusers_peft(part: str, path: str, half: str) -> str:
    text = "text_model." if part == "text_encoder" else ""
    return f"{part}.{text}{path}.lora_{'A' if half == 'down' else 'B'}.weight"


def diffusers_old(part: str, path: str, half: str) -> str:
    if part == "text_encoder":
        return f"text_encoder.text_model.{path}.lora_linear_layer.{half}.weight"
    if ".attn" in path:
        above, last = path.removesuffix(".0").rsplit(".", 1)
        return f"unet.{above}.processor.{last}_lora.{half}.weight"
    return f"unet.{path}.lora.{half}.weight"


def diffusers_oldest(part: str, path: str, half: str) -> str:
    if part == "text_encoder":
        ending = f".{half}.weight" if "self_attn" in path else f".lora_linear_layer.{half}.weight"
        return f"text_encoder.text_model.{_text_old(path)}{ending}"
    return diffusers_old(part, path, half).removeprefix("unet.")


def peft(part: str, path: str, half: str) -> str:
    text = "text_model." if part == "text_encoder" else ""
    return f"base_model.model.{text}{path}.lora_{'A' if half == 'down' else 'B'}.default.weight"


FORMS: dict[str, Callable[[str, str, str], str]] = {
    form.__name__: form for form in (kohya, compvis, diffusers, diffusers_peft, diffusers_old, diffusers_oldest, peft)
}


def written(form: str, changes: Mapping[tuple[str, str], Halves], alphas: bool = False) -> dict[str, np.ndarray]:
    """The tensors of a file in a form; with `alphas`, kohya's key of them."""
    tensors: dict[str, np.ndarray] = {}
    for (part, path), (down, up) in changes.items():
        tensors[FORMS[form](part, path, "down")] = down
        tensors[FORMS[form](part, path, "up")] = up
        if alphas:
            key = FORMS[form](part, path, "down").replace(".lora_down.weight", ".alpha")
            tensors[key] = np.array(alpha_of((part, path)), np.float32)
    return tensors
