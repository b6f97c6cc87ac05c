"""`diffusers_folder.py emoji OUT` or `sd15 OUT BUNDLE`: one set of weights as the folder that all peers start from."""

import json
import shutil
import sys
from pathlib import Path

from safetensors.torch import load_file, save_file
from x2i.emoji.embedded import WEIGHTS
from x2i.export.optimum.configs import tokenizer_files
from x2i.models.random.weights import random_stable_diffusion
from x2i.runtime.bundle.reader import open_bundle

PREFIX = "text_model."
"""How the names of a published CLIP text encoder's tensors begin."""


def copy_embedded(out: Path) -> None:
    """Copies the embedded model's own folder."""
    shutil.copytree(WEIGHTS / "sd", out)
    restore_prefix(out / "text_encoder")


def save_random(out: Path, bundle: Path) -> None:
    """Draws the random weights that `bundle` was exported from again, and saves them with the bundle's tokenizer."""
    model = random_stable_diffusion("sd15")
    assert model.text_encoder is not None
    for name in ("unet", "vae", "text_encoder"):
        getattr(model, name).save_pretrained(out / name)
    restore_prefix(out / "text_encoder")
    for name, text in tokenizer_files(open_bundle(bundle)).items():
        (out / "tokenizer").mkdir(exist_ok=True)
        (out / "tokenizer" / name).write_text(text, encoding="utf-8")
    # Schedule and index are those of every Stable Diffusion 1.x.
    for file in ("model_index.json", "scheduler/scheduler_config.json"):
        (out / file).parent.mkdir(exist_ok=True)
        shutil.copy(WEIGHTS / "sd" / file, out / file)


def restore_prefix(text_encoder: Path) -> None:
    """Renames the text encoder's tensors in place to the names that it was published with.

    Newer transformers leave a prefix out that older readers insist on.
    """
    weights = text_encoder / "model.safetensors"
    named = {name if name.startswith(PREFIX) else PREFIX + name: value for name, value in load_file(weights).items()}
    written = weights.with_suffix(".partial")
    save_file(named, written, metadata={"format": "pt"})
    written.rename(weights)


if __name__ == "__main__":
    kind, target = sys.argv[1], Path(sys.argv[2])
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    if kind == "emoji":
        copy_embedded(partial)
    else:
        save_random(partial, Path(sys.argv[3]))
    index = json.loads((partial / "model_index.json").read_text(encoding="utf-8"))
    assert index["_class_name"] == "StableDiffusionPipeline"
    partial.rename(target)
