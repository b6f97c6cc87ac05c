"""Reads DDCap from a checkpoint of its training: the weights alone, every size from the tensors."""

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..clip.openai_vision import HEAD_WIDTH
from ..errors import CheckpointError
from ..readers.config_reader import ConfigReader
from ..readers.loading import Load, build_module, load_all_strictly
from ..readers.tensors import PICKLED, common_size, describe_checkpoint, read_section, read_tensors
from ..readers.weights_folder import read_json
from .ddcap import Ddcap, DdcapSizes

SECTION = "model"
"""Where a checkpoint holds the weights, beside the states of its optimizer and schedule."""
FIX = "give a checkpoint of DDCap's own training"
EMBEDDING, HEAD = "gpt.transformer.wte.weight", "gpt.lm_head.weight"
BLOCK, VISION = r"gpt\.transformer\.h\.\d+\.", r"clip_model\.visual\."
UNUSED = (
    HEAD,
    "log_*",
    *(f"gpt.transformer.h.*.{part}.{name}" for part in ("attn", "crossattention") for name in ("bias", "masked_bias")),
    *(f"clip_model.{name}" for name in ("positional_embedding", "text_projection", "logit_scale")),
    *(f"clip_model.{part}.*" for part in ("transformer", "token_embedding", "ln_final")),
)
"""The head, which is the embedding again; the diffusion's schedule, which only training reads; GPT-2's causal masks,
which the authors leave aside; CLIP's text tower."""


def read_ddcap(path: str | Path, config: str | Path | None = None) -> Ddcap:
    """DDCap from `<tag>-best.pt` or `<tag>-NNN.pt`, or its weights alone in safetensors; in eval mode and float32.

    All sizes come from the tensors, save the number of GPT-2's heads: they are 64 wide, as GPT-2's are, unless `config`
    says how many there are, or else a config.json beside the checkpoint. It holds GPT-2's settings as transformers
    writes them, alone or as `gpt2_config`. Raises CheckpointError with every key and setting that does not fit.
    """
    path = Path(path)
    # What others saved as safetensors has no sections.
    tensors = read_section(path, SECTION, FIX) if path.suffix in PICKLED else read_tensors(path)
    beside = path.with_name("config.json")
    settings = Path(config) if config is not None else beside if beside.is_file() else None
    sizes = _tensor_sizes(tensors)
    if lacking := [name for name, size in sizes.items() if size < 1]:
        raise CheckpointError(
            f"{path}: expected DDCap (keys gpt.transformer..., clip_model.visual..., clip_project..., len_head..., "
            f"log_at), got {describe_checkpoint(tensors)}, and none that tells {', '.join(lacking)}; fix: {FIX}"
        )
    heads, problems = _heads(settings, sizes)
    problems += (f"{path}: {problem}; fix: {FIX}" for problem in _misfits(sizes))
    if problems:
        raise CheckpointError(*problems)
    grid = math.isqrt(sizes.pop("patches"))
    module = build_module(lambda: Ddcap(DdcapSizes(**sizes, heads=heads, grid=grid)), str(path))
    load_all_strictly([Load(module, tensors, str(path), UNUSED)], _head_problems(path, tensors))
    return module


def _tensor_sizes(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """The sizes that the tensors tell, and the number of `patches`; 0 for what there is none of."""

    def size(pattern: str, axis: int = 0) -> int:
        return common_size(tensors, pattern, axis)

    def layers(pattern: str) -> int:
        return len({found[1] for key in tensors if (found := re.match(rf"{pattern}\.(\d+)\.", key))})

    return {
        "width": size(re.escape(EMBEDDING), 1),
        "inner": size(BLOCK + r"mlp\.c_fc\.weight", 1),
        "layers": layers(r"gpt\.transformer\.h"),
        "vocab": size(re.escape(EMBEDDING)),
        "positions": size(r"gpt\.transformer\.wpe\.weight"),
        "tokens": size(r"len_head\.model\.2\.(weight|bias)"),
        "steps": size("log_at"),
        "vision_width": size(VISION + r"(conv1|ln_pre|ln_post)\.\w+"),
        "vision_layers": layers(VISION + r"transformer\.resblocks"),
        "patch": size(VISION + r"conv1\.weight", 2),
        "patches": size(VISION + "positional_embedding") - 1,
        "embed": size(VISION + "proj", 1),
        "project_hidden": size(r"clip_project\.model\.0\.(weight|bias)"),
        "length_hidden": size(r"len_head\.model\.0\.(weight|bias)"),
    }


def _heads(settings: Path | None, sizes: Mapping[str, int]) -> tuple[int, list[str]]:
    """The number of GPT-2's heads, and what does not fit; settings that say something else than the tensors are told,
    too."""
    if settings is None:
        heads, problems = max(1, sizes["width"] // HEAD_WIDTH), []
    else:
        content = read_json(settings)
        read = ConfigReader(content.get("gpt2_config", content), str(settings))
        heads, problems = read.count("n_head"), read.problems
        for key, size in {"n_embd": "width", "n_layer": "layers", "vocab_size": "vocab"}.items():
            read.only(key, sizes[size], absent=sizes[size])
        read.only("activation_function", "gelu_new", absent="gelu_new")
        read.only("layer_norm_epsilon", 1e-5, absent=1e-5)
        for key in ("scale_attn_by_inverse_layer_idx", "reorder_and_upcast_attn"):
            read.only(key, False, absent=False)
    if sizes["width"] % heads or (settings is None and sizes["width"] % HEAD_WIDTH):
        problems.append(
            f"{settings or 'GPT-2'}: expected heads that divide a width of {sizes['width']}, got "
            f"{heads if settings else f'heads of {HEAD_WIDTH}'}; fix: state n_head in a config.json beside the "
            "checkpoint, or in --part config"
        )
    return heads, problems


def _misfits(sizes: Mapping[str, int]) -> Iterator[str]:
    """What cannot be, of sizes that are there each by itself."""
    if math.isqrt(sizes["patches"]) ** 2 != sizes["patches"]:
        yield f"expected the patches of a square, got {sizes['patches']}"
    if sizes["vision_width"] % HEAD_WIDTH:
        yield f"expected a vision tower of heads of {HEAD_WIDTH}, got a width of {sizes['vision_width']}"
    if sizes["width"] < 4 or sizes["width"] % 2:
        yield f"expected an even width, half sines and half cosines, got {sizes['width']}"
    if sizes["positions"] < sizes["tokens"]:
        yield f"expected a position for each of {sizes['tokens']} tokens, got {sizes['positions']}"


def _head_problems(path: Path, tensors: Mapping[str, Tensor]) -> Iterator[str]:
    """The head must be the embedding, as their one storage in the authors' files makes it."""
    head, embedding = tensors.get(HEAD), tensors.get(EMBEDDING)
    if head is None:
        yield f"{path}: expected {HEAD}, tied to {EMBEDDING}, got none; fix: give the checkpoint as it was saved"
    elif embedding is not None and not torch.equal(head, embedding):
        yield f"{path}: expected {HEAD} to be {EMBEDDING}, got other values; fix: give the checkpoint as it was saved"
