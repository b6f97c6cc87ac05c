"""A text encoder's file under the names it was published with, which older readers insist on."""

from pathlib import Path

from safetensors.torch import load_file, save_file

PREFIX = "text_model."


def publish(text_encoder: Path) -> None:
    """Renames the tensors of the folder's file in place, where newer transformers left the prefix out."""
    weights = text_encoder / "model.safetensors"
    named = {name if name.startswith(PREFIX) else PREFIX + name: value for name, value in load_file(weights).items()}
    written = weights.with_suffix(".partial")
    save_file(named, written, metadata={"format": "pt"})
    written.rename(weights)
