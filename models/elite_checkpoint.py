"""Reads and names what ELITE trains: a mapper, and keys and values for every cross-attention layer."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from torch import Tensor, nn

from .allocation import built
from .cross_attention import cross_attention_layers
from .elite import GlobalMapper, LocalMapper, Mapper
from .errors import CheckpointError
from .loading import Load, load_all_strictly
from .tensor_sizes import common_size
from .tensors import read_tensors

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

Kind = Literal["global", "local"]
MAPPERS: dict[str, type[Mapper]] = {"global": GlobalMapper, "local": LocalMapper}


class EliteCheckpoint(nn.Module):
    """What one of ELITE's files holds: `mapper`, and `layers`, one bias-free linear per name."""

    def __init__(self, mapper: Mapper, layers: dict[str, tuple[int, int]]):
        super().__init__()
        self.mapper = mapper
        self.layers = nn.ModuleDict({name: nn.Linear(*sizes, bias=False) for name, sizes in layers.items()})


def elite_names(unet: "UNet2DConditionModel") -> dict[str, tuple[str, str]]:
    """Of each attn2 path its two names in ELITE's files: `mid_block_..._attn2_to_k.weight` and `..._to_v.weight`.

    They are built from the UNet's own modules: dots became underscores, which nothing can turn back.
    """
    names = {path: path.replace(".", "_") for path in cross_attention_layers(unet)}
    return {path: (f"{name}_to_k.weight", f"{name}_to_v.weight") for path, name in names.items()}


def read_elite_mapper(
    path: str | Path, kind: Kind, unet: "UNet2DConditionModel"
) -> tuple[Mapper, dict[str, tuple[Tensor, Tensor]]]:
    """A GlobalMapper or LocalMapper, and (to_k, to_v) weights [inner, context] by attn2 path, all float32.

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
    layers = cross_attention_layers(unet)
    names = elite_names(unet)
    sizes = {
        name.removesuffix(".weight"): (linear.in_features, linear.out_features)
        for layer_path, layer in layers.items()
        for name, linear in zip(names[layer_path], (layer.to_k, layer.to_v), strict=True)
    }
    checkpoint = built(lambda: EliteCheckpoint(MAPPERS[kind](width_in, width_out, hidden), sizes), str(path))
    inside = {key: key.removeprefix("mapper.").removeprefix("layers.") for key in checkpoint.state_dict()}
    problems = _width_problems(path, width_out, sizes.values())
    load_all_strictly([Load(checkpoint, tensors, str(path), names=inside)], problems)
    weights = checkpoint.layers.state_dict()
    return checkpoint.mapper, {path: (weights[key], weights[value]) for path, (key, value) in names.items()}


def _width_problems(path: str | Path, width_out: int, sizes: Iterable[tuple[int, int]]) -> list[str]:
    contexts = sorted({context for context, _ in sizes})
    if contexts == [width_out]:
        return []
    return [
        f"{path}: expected a mapper to the UNet's context, {' or '.join(map(str, contexts))} wide, got one of width "
        f"{width_out}; fix: give the mapper that was trained for this base model"
    ]
