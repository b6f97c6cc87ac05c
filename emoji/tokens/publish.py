"""Stage `publish_tokens`: the painters and the captioner in their authors' layouts, at half precision."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ..recipe.publish import half, save
from ..recipe.training import WEIGHTS
from . import caption_words, ddcap_stage, muse_stage, tokenizer_stage, vq_diffusion_stage
from .vq_diffusion_config import write_config
from .vq_diffusion_stage import schedule_logarithms
from .written_layouts import MUSE, PROJECTION, from_zero_to_one

VQ_DIFFUSION, DDCAP = WEIGHTS / "vq_diffusion", WEIGHTS / "ddcap"
WEIGHTS_FILE = "diffusion_pytorch_model.safetensors"
SCHEDULER = {"_class_name": "AmusedScheduler", "mask_token_id": muse_stage.MASK, "masking_schedule": "cosine"}
INDEX = {
    "_class_name": "AmusedPipeline",
    "scheduler": ["diffusers", "AmusedScheduler"],
    "text_encoder": ["transformers", "CLIPTextModelWithProjection"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "transformer": ["diffusers", "UVit2DModel"],
    "vqvae": ["diffusers", "VQModel"],
}
TEXT = "condition_emb."


def publish_tokens(folder: Path, minutes: float) -> None:
    """Writes the three systems' weights anew from the stages' states in `folder`; there is nothing to train."""
    for target in (MUSE, VQ_DIFFUSION, DDCAP):
        shutil.rmtree(target, ignore_errors=True)
    _muse(folder)
    _vq_diffusion(folder)
    _ddcap(folder)
    sizes = {
        part: sum(p.stat().st_size for p in part.rglob("*") if p.is_file()) for part in (MUSE, VQ_DIFFUSION, DDCAP)
    }
    print(", ".join(f"{part.name} {size / 1e6:.1f} MB" for part, size in sizes.items()))


def _muse(folder: Path) -> None:
    """aMUSEd's folder but for what `write_muse` takes from the base."""
    codec = tokenizer_stage.trained(folder)
    made: Any = muse_stage.trained(folder)
    transformer = made["transformer"]
    save(transformer, transformer.to_json_string(), MUSE / "transformer", WEIGHTS_FILE)
    (MUSE / "vqvae").mkdir()
    tensors = half(from_zero_to_one(codec.state_dict()))
    save_file(tensors, MUSE / "vqvae" / WEIGHTS_FILE, metadata={"format": "pt"})
    (MUSE / "vqvae" / "config.json").write_text(codec.to_json_string(), encoding="utf-8")
    save_file(half({"text_projection.weight": made["projection"].weight.detach()}), PROJECTION)
    (MUSE / "scheduler").mkdir()
    (MUSE / "scheduler" / "scheduler_config.json").write_text(json.dumps(SCHEDULER, indent=1), encoding="utf-8")
    (MUSE / "model_index.json").write_text(json.dumps(INDEX, indent=1), encoding="utf-8")


def _vq_diffusion(folder: Path) -> None:
    """A training checkpoint, its averaged weights in `ema` and once more in `model`, as one storage in the file; the
    configuration; and the pairs of the tokenizer as CLIP's file has them."""
    made = vq_diffusion_stage.trained(folder)
    tensors = half(made.transformer.state_dict())
    averaged = {f"transformer.{key}": value for key, value in tensors.items()}
    averaged |= {TEXT + key: value for key, value in openai_text(half(made.text.state_dict())).items()}
    averaged |= schedule_logarithms(vq_diffusion_stage.STEPS, tokenizer_stage.CODES)
    averaged["empty_text_embed"] = made.empty.detach().cpu().double()
    path = VQ_DIFFUSION / "OUTPUT" / "pretrained_model" / "emoji_learnable.pth"
    path.parent.mkdir(parents=True)
    torch.save({"model": {f"transformer.{key}": value for key, value in averaged.items()}, "ema": averaged}, path)
    write_config(VQ_DIFFUSION / "configs" / "config.yaml")


def openai_text(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of transformers' CLIPTextModel under the names of OpenAI's CLIP, whose attention has one matrix."""
    plain = {key.removeprefix("text_model."): value for key, value in tensors.items()}
    found = {
        "token_embedding.weight": plain["embeddings.token_embedding.weight"],
        "positional_embedding": plain["embeddings.position_embedding.weight"],
        "ln_final.weight": plain["final_layer_norm.weight"],
        "ln_final.bias": plain["final_layer_norm.bias"],
    }
    names = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "self_attn.out_proj": "attn.out_proj"}
    names |= {"mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
    layers = {key.split(".")[2] for key in plain if key.startswith("encoder.layers.")}
    for layer in layers:
        own, new = f"encoder.layers.{layer}.", f"transformer.resblocks.{layer}."
        for kind in ("weight", "bias"):
            parts = [plain[f"{own}self_attn.{part}_proj.{kind}"] for part in "qkv"]
            found[f"{new}attn.in_proj_{kind}"] = torch.cat(parts)
            found |= {f"{new}{name}.{kind}": plain[f"{own}{old}.{kind}"] for old, name in names.items()}
    return found


def _ddcap(folder: Path) -> None:
    """A training checkpoint's weights, GPT-2's settings beside it, and the vocabulary in GPT-2's layout."""
    made = ddcap_stage.trained(folder)
    tensors = half(made.state_dict())
    tensors["gpt.lm_head.weight"] = tensors["gpt.transformer.wte.weight"]
    tensors["pad_embedding"] = made.pad_embedding.detach().cpu().double()
    tensors |= schedule_logarithms(made.sizes.steps, made.sizes.vocab)
    DDCAP.mkdir()
    torch.save({"model": tensors}, DDCAP / "emoji-best.pt")
    settings = {
        "model_type": "gpt2",
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "n_embd": made.sizes.width,
        "n_layer": made.sizes.layers,
        "n_head": made.sizes.heads,
        "n_positions": made.sizes.positions,
        "vocab_size": made.sizes.vocab,
    }
    (DDCAP / "config.json").write_text(json.dumps(settings, indent=1), encoding="utf-8")
    caption_words.save(DDCAP / "gpt2")
