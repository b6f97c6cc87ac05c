"""The cross-attention layers of a stock UNet, in their order."""

from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention


def cross_attention_layers(unet: UNet2DConditionModel) -> dict[str, Attention]:
    """Module path to layer, for the modules named `attn2`, in `named_modules` order (16 of them in SD 1.5)."""
    return {path: module for path, module in unet.named_modules() if path.rpartition(".")[2] == "attn2"}
