"""Stage `publish_clip`: what makes a whole CLIP of the vision tower that `publish_elite` wrote, at half precision."""

from pathlib import Path

from safetensors.torch import save_file

from . import clip
from .publish import WEIGHTS, half

TARGET = WEIGHTS / "clip"
TOWER = WEIGHTS / "elite" / "image_encoder"
VISION = "vision_model."


def train(folder: Path, minutes: float) -> None:
    """Writes `models/emoji/weights/clip` anew from the stage `clip`; there is nothing to train.

    It holds the text tower and both projections, in `CLIPModel`'s layout.
    """
    model = clip.trained(folder)
    TARGET.mkdir(parents=True, exist_ok=True)
    rest = {name: value for name, value in model.state_dict().items() if not name.startswith(VISION)}
    save_file(half(rest), TARGET / "model.safetensors", metadata={"format": "pt"})
    (TARGET / "config.json").write_text(model.config.to_json_string(), encoding="utf-8")
