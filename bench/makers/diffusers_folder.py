"""`diffusers_folder.py emoji OUT` or `sd15 OUT BUNDLE`: one set of weights as the folder that all peers start from."""

import json
import shutil
import sys
from pathlib import Path

from x2i.emoji.embedded import WEIGHTS
from x2i.export.optimum.configs import tokenizer_files
from x2i.models.random.weights import random_stable_diffusion
from x2i.runtime.bundle.reader import open_bundle

from makers.published_names import publish


def embedded(out: Path) -> None:
    """The embedded model's own folder."""
    shutil.copytree(WEIGHTS / "sd", out)
    publish(out / "text_encoder")


def random(out: Path, bundle: Path) -> None:
    """The random weights that `bundle` was exported from, drawn again; the tokenizer is the bundle's."""
    model = random_stable_diffusion("sd15")
    assert model.text_encoder is not None
    for name in ("unet", "vae", "text_encoder"):
        getattr(model, name).save_pretrained(out / name)
    publish(out / "text_encoder")
    for name, text in tokenizer_files(open_bundle(bundle)).items():
        (out / "tokenizer").mkdir(exist_ok=True)
        (out / "tokenizer" / name).write_text(text, encoding="utf-8")
    # Schedule and index are those of every Stable Diffusion 1.x.
    for file in ("model_index.json", "scheduler/scheduler_config.json"):
        (out / file).parent.mkdir(exist_ok=True)
        shutil.copy(WEIGHTS / "sd" / file, out / file)


if __name__ == "__main__":
    kind, target = sys.argv[1], Path(sys.argv[2])
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    if kind == "emoji":
        embedded(partial)
    else:
        random(partial, Path(sys.argv[3]))
    index = json.loads((partial / "model_index.json").read_text(encoding="utf-8"))
    assert index["_class_name"] == "StableDiffusionPipeline"
    partial.rename(target)
