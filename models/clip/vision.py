"""CLIP's vision tower, from a folder of its own or of a whole CLIP, and the hidden states that ELITE reads."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from ..errors import CheckpointError
from ..readers.loading import Module, build_module, load_strictly
from ..readers.weights_folder import read_json, read_weights

if TYPE_CHECKING:
    from transformers import CLIPVisionConfig, CLIPVisionModel, CLIPVisionModelWithProjection


PREFIX, PROJECTION = "vision_model.", "visual_projection."
"""How the keys of the tower and of the projection behind it begin in a whole CLIP."""
LAYERS = (4, 8, 12, 16)
"""Hidden states besides the last that ELITE reads; state k is the output of layer k, whatever the depth."""


class VisionLevels(nn.Module):
    """`forward(pixels [B, 3, S, S])` gives the last hidden state, then states 4, 8, 12 and 16, [B, 1 + P, W] each.

    The class token comes first, the patches row by row; the post-LayerNorm is not applied. S is `image_size`, the
    pixels are normalised. Raises CheckpointError for a tower of fewer layers. Source: ELITE (arXiv 2302.13848).
    """

    def __init__(self, model: "CLIPVisionModel"):
        super().__init__()
        depth = model.config.num_hidden_layers
        if depth < max(LAYERS):
            raise CheckpointError(
                f"CLIP's vision tower: expected {max(LAYERS)} layers or more, of which ELITE reads number "
                f"{', '.join(map(str, LAYERS))} and the last, got {depth}; fix: give CLIP ViT-L/14, as its authors did"
            )
        self.model = model
        self.image_size, self.width = model.config.image_size, model.config.hidden_size
        self.grid = self.image_size // model.config.patch_size

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        states = self.model(pixel_values=pixels, output_hidden_states=True).hidden_states
        return states[-1], *(states[layer] for layer in LAYERS)


def read_clip_vision(folder: str | Path) -> "CLIPVisionModel":
    """The vision tower without projection, eval, float32: pixel_values [B, 3, S, S] -> hidden states and pooled.

    `folder` is a CLIPVisionModel's, a CLIPVisionModelWithProjection's or a whole CLIPModel's, whose text half is left
    out. Raises CheckpointError: no such folder, another model, keys that do not fit.
    """
    from transformers import CLIPVisionModel

    return _read(Path(folder), CLIPVisionModel, ("visual_projection.weight",))


def read_clip_vision_projection(folder: str | Path) -> "CLIPVisionModelWithProjection":
    """The vision tower with its projection, eval, float32: pixel_values [B, 3, S, S] -> `image_embeds` [B, E].

    Folders and errors are those of `read_clip_vision`.
    """
    from transformers import CLIPVisionModelWithProjection

    return _read(Path(folder), CLIPVisionModelWithProjection, ())


def empty_clip_vision_projection(folder: str | Path) -> "CLIPVisionModelWithProjection":
    """The model that `folder`'s config.json describes, in eval mode, its weights unwritten; the folder needs none.

    Raises CheckpointError for a configuration that is absent or another model's.
    """
    from transformers import CLIPVisionModelWithProjection

    model, _ = _empty(Path(folder), CLIPVisionModelWithProjection)
    return model


def _read(folder: Path, kind: type[Module], unwanted: tuple[str, ...]) -> Module:
    model, whole = _empty(folder, kind)
    tensors = read_weights(folder, "model", "pytorch_model")
    prefix = PREFIX if any(key.startswith(PREFIX) for key in tensors) else ""
    names = {key: prefix + key.removeprefix(PREFIX) for key in model.state_dict() if not key.startswith(PROJECTION)}
    text = ("text_model.*", "text_projection.weight", "logit_scale") if whole else ()
    ignore = ("*embeddings.position_ids", *text, *unwanted)
    load_strictly(model, tensors, source=str(folder), ignore=ignore, names=names)
    return model


def _empty(folder: Path, kind: type[Module]) -> tuple[Module, bool]:
    """The model, and whether the folder is a whole CLIP's."""
    settings = read_json(folder / "config.json")
    whole = settings.get("model_type") == "clip"
    if not whole and settings.get("model_type") != "clip_vision_model":
        raise CheckpointError(
            f"{folder / 'config.json'}: expected model_type 'clip_vision_model' or 'clip', got "
            f"{settings.get('model_type')!r}; fix: give the folder of CLIP's vision tower, or of a whole CLIP"
        )
    return build_module(lambda: kind(_vision_config(settings, whole)), str(folder / "config.json")), whole


def _vision_config(settings: dict[str, Any], whole: bool) -> "CLIPVisionConfig":
    from transformers import CLIPConfig, CLIPVisionConfig

    if not whole:
        return CLIPVisionConfig.from_dict(settings)
    config = CLIPConfig.from_dict(settings)
    config.vision_config.projection_dim = config.projection_dim  # a whole CLIP's own setting decides
    return config.vision_config
