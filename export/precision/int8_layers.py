"""Which layers of a denoiser int8 takes: levels that add kinds of layers, and what is skipped at every level.

Levels and skips are those of NVIDIA's Model-Optimizer for diffusion: time embeddings, the first and the last
convolution, shortcuts and the projections out of attention cost little and lose much. Keys and values of the
cross-attentions are no part of a denoiser here: they are projected once per picture, in float.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import onnx_ir as ir

from ..errors import PlanError
from ..graphs.part_names import is_under, path_of

LEVELS = (1, 2, 2.5, 3)
"""1 convolutions; 2 and the feed-forward layers; 2.5 and the attentions' queries, keys and values; 3 and every other
matrix with fixed weights, split shortcuts among them: measured one by one, those do most damage. The attentions' own
products, level 4 elsewhere, stay in float: there fused kernels win. Transformers over tokens have the same layers by
their authors' names."""
FEED_FORWARD = re.compile(r"\.(ff\.net|mlp)\.|\.channelwise_linear_\d$")
QUERY_KEY_VALUE = re.compile(r"\.(to_[qkv]|query|key|value|c_attn|q_attn)$")
"""Diffusers' names, VQ-Diffusion's and UniD3's, DDCap's; aMUSEd's are diffusers' but for its residual blocks'."""
SKIPPED = {
    *("time_embedding", "time_emb_proj", "add_embedding", "time_text_embed", "context_embedder", "pos_embed"),
    *("conv_in", "conv_out", "conv_shortcut", "norm_out", "proj_out"),
    # The same by latent diffusion's names.
    *("time_embed", "emb_layers", "pre_input_blocks", "out", "skip_connection"),
    # aMUSEd's last convolution but one: alone it moves the embedded model's logits by 3.3 %, all layers by 5.1 %.
    "narrow",
}
HALF_OF_SHORTCUT = re.compile(r"\.conv_shortcut\.\d+$")
"""One half of a split shortcut, which has its own scale and is not skipped."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A convolution or matrix product with fixed weights: module path, node, its two tensors, and its level."""

    path: str
    node: str
    activation: str
    weight: str
    level: float


def level_problems(level: float) -> list[str]:
    """One line where a level is none of LEVELS, else nothing."""
    if level in LEVELS:
        return []
    hint = "; the attentions' products stay in float" if level == 4 else ""
    return [f"--level: expected one of {', '.join(map(str, LEVELS))}, got {level:g}{hint}"]


def quantizable_layers(model: ir.Model) -> list[Layer]:
    """All layers that some level takes, in the order of execution."""
    found = []
    for node in model.graph:
        if node.op_type not in ("Conv", "MatMul") or node.domain not in ("", "ai.onnx"):
            continue
        activation, weight = node.inputs[:2]
        assert activation is not None and weight is not None and activation.name and weight.name and node.name
        path = path_of(node).rpartition(".")[0] or path_of(node)
        skipped = SKIPPED & set(path.split(".")) and not HALF_OF_SHORTCUT.search(path)
        if weight.const_value is not None and activation.const_value is None and not skipped:
            found.append(Layer(path, node.name, activation.name, weight.name, _level(node.op_type, path)))
    return found


def _level(operator: str, path: str) -> float:
    if operator == "Conv":
        return 3 if HALF_OF_SHORTCUT.search(path) else 1
    if FEED_FORWARD.search(path):
        return 2
    return 2.5 if QUERY_KEY_VALUE.search(path) else 3


def layers_to_quantize(layers: Sequence[Layer], level: float, keep_fp32: Collection[str] = ()) -> list[Layer]:
    """The layers that a level takes, without those that `keep_fp32` names: a path, what lies below it, or a pattern.

    Raises PlanError for an unknown level, for names that fit no layer, and where nothing is left.
    """
    problems = level_problems(level)
    problems += [
        f"--keep: {name!r} fits no layer; expected a module path such as {layers[0].path if layers else 'conv_in'}, "
        "or a pattern such as '*.attn1.*'"
        for name in keep_fp32
        if not any(is_excluded(layer.path, (name,)) for layer in layers)
    ]
    if problems:
        raise PlanError(*problems)
    kept = [layer for layer in layers if not is_excluded(layer.path, keep_fp32)]
    left = [layer for layer in kept if layer.level <= level]
    if not left:
        fix = f"choose --level {min(layer.level for layer in kept):g}" if kept else "leave out some --keep"
        raise PlanError(f"int8: no layer is left to quantize at level {level:g}, of {len(layers)}; {fix}")
    return left


def is_excluded(path: str, keep_fp32: Collection[str]) -> bool:
    """Whether one of the names is the path, a module above it, or a pattern that matches it."""
    return is_under(path, keep_fp32) or any(fnmatchcase(path, pattern) for pattern in keep_fp32)
