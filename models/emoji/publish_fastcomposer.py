"""Stage `publish_fastcomposer`: what FastComposer's training changed of the base, at half precision."""

from pathlib import Path

from safetensors.torch import save_file

from . import fastcomposer
from .fastcomposer_checkpoint import CHANGED, base_tensors, changed_tensors
from .publish import half


def train(folder: Path, minutes: float) -> None:
    """Writes `models/emoji/weights/fastcomposer` anew from the stage's state in `folder`; there is nothing to train."""
    made = fastcomposer.trained(folder)
    parts = {name: getattr(made, name) for name in ("image_encoder", "postfuse_module", "unet")}
    tensors = half({f"{name}.{key}": value for name, part in parts.items() for key, value in part.state_dict().items()})
    CHANGED.parent.mkdir(exist_ok=True)
    save_file(changed_tensors(tensors, base_tensors()), CHANGED, metadata={"format": "pt"})
    print(f"{CHANGED}: {CHANGED.stat().st_size / 1e6:.1f} MB")
