"""ELITE's two mapping networks and their checkpoints: a mapper with key and value matrices for every attention layer.

Source: ELITE (arXiv 2302.13848) and its reference code.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from ..clip.vision import VisionLevels, read_clip_vision
from ..context_attention import cross_attention_layers
from ..errors import CheckpointError
from ..readers.loading import Load, build_module, load_all_strictly
from ..readers.tensors import common_size, read_tensors

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel
    from transformers import CLIPVisionModel


LEVELS = 5
"""Hidden states that the published mappers read."""


def mapper_mlp(width_in: int, hidden: int, width_out: int) -> nn.Sequential:
    """[..., width_in] -> [..., width_out]: three linears, a LayerNorm and a leaky ReLU after each of the first two.

    Positions in the Sequential are the checkpoints' key names.
    """
    return nn.Sequential(
        nn.Linear(width_in, hidden),
        nn.LayerNorm(hidden),
        nn.LeakyReLU(),
        nn.Linear(hidden, hidden),
        nn.LayerNorm(hidden),
        nn.LeakyReLU(),
        nn.Linear(hidden, width_out),
    )


class Mapper(nn.Module):
    """What both mappers hold: for each level one MLP for the class token and one for the patches, none shared.

    A level is one hidden state [B, 1 + P, width_in] of the vision tower with its class token first. Key names are the
    released checkpoints' own. Source: ELITE (arXiv 2302.13848) and its reference code.
    """

    def __init__(self, width_in: int, width_out: int, hidden: int = 1024, levels: int = LEVELS):
        super().__init__()
        self.width_in, self.width_out, self.hidden, self.levels = width_in, width_out, hidden, levels
        for level in range(levels):
            self.add_module(f"mapping_{level}", mapper_mlp(width_in, hidden, width_out))
            self.add_module(f"mapping_patch_{level}", mapper_mlp(width_in, hidden, width_out))

    def mapped(self, levels: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Each level's mapped class token [B, 1, width_out] and mapped patches [B, P, width_out]."""
        for number, features in zip(range(self.levels), levels, strict=True):
            word = self.get_submodule(f"mapping_{number}")(features[:, :1])
            yield word, self.get_submodule(f"mapping_patch_{number}")(features[:, 1:])


class GlobalMapper(Mapper):
    """One word per level: its class token's plus the average of its patches', [B, levels, width_out]."""

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        return torch.cat([word + patches.mean(1, keepdim=True) for word, patches in self.mapped(levels)], 1)


class LocalMapper(Mapper):
    """One feature per patch, averaged over the levels and multiplied by the mask: [B, P, width_out].

    mask [B, P] is 1 on the subject. Patches outside it become rows of zeros, which stay in the sequence: they have a
    share in the attention's softmax.
    """

    def forward(self, levels: Sequence[Tensor], mask: Tensor) -> Tensor:
        features = torch.stack([word + patches for word, patches in self.mapped(levels)]).mean(0)
        return features * mask.unsqueeze(-1).to(features.dtype)


MapperKind = Literal["global", "local"]
MAPPERS: dict[str, type[Mapper]] = {"global": GlobalMapper, "local": LocalMapper}


class Elite(NamedTuple):
    """ELITE's parts, in eval mode and float32.

    The weights are (to_k, to_v) [C, D] by attn2 path, in `cross_attention_layers`' order: the global ones take the
    place of the UNet's own, the local ones read the local mapper's patches.
    """

    vision: "CLIPVisionModel"
    global_mapper: GlobalMapper
    global_weights: dict[str, tuple[Tensor, Tensor]]
    local_mapper: LocalMapper
    local_weights: dict[str, tuple[Tensor, Tensor]]


class EliteCheckpoint(nn.Module):
    """What one of ELITE's files holds: `mapper`, and `layers`, two bias-free linears per cross-attention layer."""

    def __init__(self, mapper: Mapper, unet: "UNet2DConditionModel"):
        super().__init__()
        self.mapper = mapper
        self.names = elite_names(unet)
        self.layers = nn.ModuleDict()
        for path, layer in cross_attention_layers(unet).items():
            for name in self.names[path]:
                linear = nn.Linear(layer.to_k.in_features, layer.to_k.out_features, bias=False)
                self.layers[name.removesuffix(".weight")] = linear

    def weights(self) -> dict[str, tuple[Tensor, Tensor]]:
        """The linears' matrices (to_k, to_v), each [C, D], by attn2 path."""
        tensors = self.layers.state_dict()
        return {path: (tensors[key], tensors[value]) for path, (key, value) in self.names.items()}


def elite_names(unet: "UNet2DConditionModel") -> dict[str, tuple[str, str]]:
    """The two names of each attn2 path in ELITE's files: `mid_block_..._attn2_to_k.weight` and `..._to_v.weight`.

    They are built from the UNet's own modules: dots became underscores, which nothing can turn back.
    """
    names = {path: path.replace(".", "_") for path in cross_attention_layers(unet)}
    return {path: (f"{name}_to_k.weight", f"{name}_to_v.weight") for path, name in names.items()}


def read_elite(
    encoder: str | Path, global_mapper: str | Path, local_mapper: str | Path, unet: "UNet2DConditionModel"
) -> Elite:
    """All of ELITE for one UNet: `encoder` is CLIP's folder, the mappers are `global_mapper.pt` and `local_mapper.pt`.

    Raises one CheckpointError with the problems of all three.
    """
    problems: list[str] = []

    def attempt(read: Callable[[], Any]) -> Any:
        try:
            return read()
        except CheckpointError as error:
            problems.extend(error.problems)

    levels = attempt(lambda: VisionLevels(read_clip_vision(encoder)))
    whole = attempt(lambda: read_elite_mapper(global_mapper, "global", unet))
    parts = attempt(lambda: read_elite_mapper(local_mapper, "local", unet))
    if levels is not None:
        problems.extend(
            f"{path}: expected a mapper of {encoder}'s features, {levels.width} wide, got one that reads "
            f"{each[0].width_in}; fix: give the CLIP that it was trained with"
            for path, each in ((global_mapper, whole), (local_mapper, parts))
            if each is not None and each[0].width_in != levels.width
        )
    if problems:
        raise CheckpointError(*problems)
    return Elite(levels.model, *whole, *parts)


def read_elite_mapper(
    path: str | Path, kind: MapperKind, unet: "UNet2DConditionModel"
) -> tuple[Mapper, dict[str, tuple[Tensor, Tensor]]]:
    """A GlobalMapper or LocalMapper, and (to_k, to_v) weights [C, D] by attn2 path, all float32.

    `path` is `global_mapper.pt` or `local_mapper.pt`, or the same tensors as safetensors. The widths come from the
    tensors and must fit the UNet. Both files hold the same names and shapes, so one in the other's place cannot be
    noticed. Raises CheckpointError with every key that does not fit.
    """
    tensors = read_tensors(path)
    width_in = common_size(tensors, r"mapping_(patch_)?\d+\.0\.weight", 1)
    hidden = common_size(tensors, r"mapping_(patch_)?\d+\.0\.(weight|bias)", 0)
    width_out = common_size(tensors, r"mapping_(patch_)?\d+\.6\.(weight|bias)", 0)
    if not (width_in and hidden and width_out):
        raise CheckpointError(
            f"{path}: expected ELITE's {kind} mapper (keys mapping_0..., mapping_patch_0...), got keys such as "
            f"{', '.join(list(tensors)[:3])}; fix: give a {kind}_mapper.pt"
        )
    checkpoint = build_module(lambda: EliteCheckpoint(MAPPERS[kind](width_in, width_out, hidden), unet), str(path))
    inside = {key: key.removeprefix("mapper.").removeprefix("layers.") for key in checkpoint.state_dict()}
    problems = _width_problems(path, width_out, unet)
    load_all_strictly([Load(checkpoint, tensors, str(path), names=inside)], problems)
    return checkpoint.mapper, checkpoint.weights()


def _width_problems(path: str | Path, width_out: int, unet: "UNet2DConditionModel") -> list[str]:
    context = unet.config.cross_attention_dim
    if context == width_out:
        return []
    return [
        f"{path}: expected a mapper to the UNet's context, {context} wide, got one of width {width_out}; "
        "fix: give the mapper that was trained for this base model"
    ]
