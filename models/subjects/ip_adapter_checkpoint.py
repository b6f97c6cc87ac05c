"""Reads IP-Adapter for Stable Diffusion v1 in the layout of its authors' releases."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn

from ..context_attention import cross_attention_layers
from ..errors import CheckpointError
from ..readers.loading import Load, build_module, load_all_strictly
from ..readers.tensors import common_size, read_tensors
from .ip_adapter import EmbedTokens, Resampler

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel
    from transformers import CLIPVisionModelWithProjection


SECTIONS = ("image_proj", "ip_adapter")
RELATIVES = {
    "image_proj.proj.3.": "its full-face variant",
    "image_proj.perceiver_resampler.": "FaceID Plus",
    "image_proj.proj.2.": "FaceID",
    "ip_adapter.0.to_q_lora.": "FaceID",
}
"""What else was published under the name, by the keys that tell it, the surest first."""


@dataclass(frozen=True, slots=True)
class IpAdapter:
    """The two parts of an adapter, in eval mode and float32.

    `projection` turns what the vision tower saw into picture tokens, [n, tokens, D]; `weights` are (to_k, to_v) [C, D]
    by attn2 path, in `cross_attention_layers`' order.
    """

    projection: EmbedTokens | Resampler
    weights: dict[str, tuple[Tensor, Tensor]]


class IpAdapterCheckpoint(nn.Module):
    """What a file holds: `image_proj`, and two bias-free linears per numbered attention layer in `ip_adapter`."""

    def __init__(self, image_proj: EmbedTokens | Resampler, unet: "UNet2DConditionModel"):
        super().__init__()
        self.image_proj = image_proj
        self.numbers = ip_adapter_numbers(unet)
        self.ip_adapter = nn.ModuleDict()
        for path, layer in cross_attention_layers(unet).items():
            sizes = layer.to_k.in_features, layer.to_k.out_features
            linears = {name: nn.Linear(*sizes, bias=False) for name in ("to_k_ip", "to_v_ip")}
            self.ip_adapter[str(self.numbers[path])] = nn.ModuleDict(linears)

    def weights(self) -> dict[str, tuple[Tensor, Tensor]]:
        """The linears' matrices (to_k, to_v), each [C, D], by attn2 path."""
        tensors = self.ip_adapter.state_dict()
        return {
            path: (tensors[f"{number}.to_k_ip.weight"], tensors[f"{number}.to_v_ip.weight"])
            for path, number in self.numbers.items()
        }


def ip_adapter_numbers(unet: "UNet2DConditionModel") -> dict[str, int]:
    """Each attn2 path's number in IP-Adapter's files: its place among all the UNet's attention processors."""
    places = {name.removesuffix(".processor"): place for place, name in enumerate(unet.attn_processors)}
    return {path: places[path] for path in cross_attention_layers(unet)}


def read_ip_adapter(
    path: str | Path, unet: "UNet2DConditionModel", vision: "CLIPVisionModelWithProjection"
) -> IpAdapter:
    """IP-Adapter or IP-Adapter Plus for Stable Diffusion v1, eval, float32, from `.bin` or `.safetensors`.

    Sizes come from the tensors and must fit the UNet and the vision tower. Raises CheckpointError for FaceID, full
    face, another base model or tower, and with every key that does not fit.
    """
    tensors = read_tensors(path, SECTIONS)
    _refuse_others(path, tensors)
    context = unet.config.cross_attention_dim
    projection = build_module(lambda: _projection(tensors, context), str(path))
    checkpoint = build_module(lambda: IpAdapterCheckpoint(projection, unet), str(path))
    problems = _width_problems(path, projection, context, vision)
    load_all_strictly([Load(checkpoint, tensors, str(path))], problems)
    return IpAdapter(projection, checkpoint.weights())


def _refuse_others(path: str | Path, tensors: Mapping[str, Tensor]) -> None:
    got = [name for mark, name in RELATIVES.items() if any(key.startswith(mark) for key in tensors)]
    if not got and not tensors.keys() & {"image_proj.proj.weight", "image_proj.latents"}:
        got = [f"keys such as {', '.join(list(tensors)[:3])}"]
    if got:
        raise CheckpointError(
            f"{path}: expected IP-Adapter or IP-Adapter Plus (image_proj.proj.weight or image_proj.latents, and "
            f"ip_adapter.1.to_k_ip.weight...), got {got[0]}; fix: give ip-adapter_sd15 or ip-adapter-plus_sd15"
        )


def _projection(tensors: Mapping[str, Tensor], context: int) -> EmbedTokens | Resampler:
    if "image_proj.latents" in tensors:
        return _resampler(tensors)
    width_out = common_size(tensors, r"image_proj\.norm\.(weight|bias)", 0) or context
    rows = common_size(tensors, r"image_proj\.proj\.(weight|bias)", 0)
    return EmbedTokens(common_size(tensors, r"image_proj\.proj\.weight", 1), width_out, rows // width_out)


def _resampler(tensors: Mapping[str, Tensor]) -> Resampler:
    def size(name: str, axis: int) -> int:
        return common_size(tensors, rf"image_proj\.{name}", axis)

    return Resampler(
        width_in=size(r"proj_in\.weight", 1),
        width=size(r"latents", 2),
        width_out=size(r"proj_out\.(weight|bias)", 0),
        queries=size(r"latents", 1),
        depth=len({key.split(".")[2] for key in tensors if key.startswith("image_proj.layers.")}),
        inner=size(r"layers\.\d+\.0\.to_q\.weight", 0),
        hidden=size(r"layers\.\d+\.1\.1\.weight", 0),
    )


def _width_problems(
    path: str | Path, projection: EmbedTokens | Resampler, context: int, vision: "CLIPVisionModelWithProjection"
) -> list[str]:
    problems = []
    if projection.width_out != context:
        problems.append(
            f"{path}: expected an adapter to the UNet's context, {context} wide, got one of width "
            f"{projection.width_out}{' (Stable Diffusion XL)' if projection.width_out == 2048 else ''}; "
            "fix: give the adapter that was trained for this base model"
        )
    config = vision.config
    seen = config.hidden_size if isinstance(projection, Resampler) else config.projection_dim
    if projection.width_in != seen:
        problems.append(
            f"{path}: expected an adapter to the vision tower's features, {seen} wide, got one that reads "
            f"{projection.width_in}; fix: give the image encoder that was published with it"
        )
    return problems
