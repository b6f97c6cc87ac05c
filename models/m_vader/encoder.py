"""M-VADER's encoder from its folder: language model, vision tower, the layers between them, and the tokenizer."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..clip.published_tokenizer import read_clip_tokenizer
from ..clip.vision import read_clip_vision
from ..errors import CheckpointError, read_all, refuse
from ..readers.loading import load_all_strictly
from ..readers.weights_folder import read_json
from ..token_transformers.gpt2_tokenizer import read_gpt2_tokenizer
from .image_prefix import ImagePrefix, ImageProjection, image_projection_load
from .language_model import LanguageModel
from .language_model_folder import language_model_load

PARTS = {
    "language-model": "language_model",
    "image-encoder": "image_encoder",
    "image-prefix": "image_prefix.safetensors",
    "tokenizer": "tokenizer",
}
"""Each part by its name, and where it lies in a folder that holds all."""


@dataclass(frozen=True, slots=True)
class SequenceEncoder:
    """What makes a context of texts and pictures, in eval mode and float32. `tokenizer_json` is the `tokenizers`
    serialization."""

    language_model: LanguageModel
    image_prefix: ImagePrefix
    tokenizer_json: str


def read_sequence_encoder(folder: Path, parts: Mapping[str, Path]) -> SequenceEncoder:
    """The encoder from a folder; `parts` are those that lie elsewhere, by their names in PARTS.

    Raises CheckpointError with every absent part, unfit setting and key that does not fit.
    """
    paths = {name: parts.get(name, folder / file) for name, file in PARTS.items()}
    refuse(
        [
            f"{path}: expected M-VADER's {PARTS[name]}, got nothing; fix: give the whole folder, or --part {name}=PATH"
            for name, path in paths.items()
            if not path.exists()
        ]
    )
    load, vision, (text, size) = read_all(
        partial(language_model_load, paths["language-model"]),
        partial(read_clip_vision, paths["image-encoder"]),
        partial(_tokenizer, paths["tokenizer"]),
    )
    settings = load.module.settings
    projection = image_projection_load(paths["image-prefix"], vision.config.hidden_size, settings.width)
    problems = []
    if size > settings.vocabulary:
        problems.append(
            f"{paths['tokenizer']}: expected tokens below the language model's vocab_size {settings.vocabulary}, got "
            f"ids up to {size - 1}; fix: give the tokenizer of the language model"
        )
    load_all_strictly([load, projection], problems)
    model, layers = load.module, projection.module
    assert isinstance(model, LanguageModel) and isinstance(layers, ImageProjection)
    return SequenceEncoder(model, ImagePrefix(vision, layers).eval(), text)


def _tokenizer(path: Path) -> tuple[str, int]:
    """The serialization, and one more than the largest id, of CLIP's tokenizer or GPT-2's; raises CheckpointError.

    Without a class in tokenizer_config.json it is GPT-2's, which MAGMA reads texts by.
    """
    folder = path.parent if path.is_file() else path
    config = folder / "tokenizer_config.json"
    kind = read_json(config).get("tokenizer_class") if config.is_file() else None
    if kind is not None and not str(kind).startswith(("CLIPTokenizer", "GPT2Tokenizer")):
        raise CheckpointError(
            f"{config}: expected tokenizer_class CLIPTokenizer or GPT2Tokenizer, got {kind!r:.60}; fix: give the "
            "tokenizer of the language model"
        )
    if str(kind).startswith("CLIP"):
        clip = read_clip_tokenizer(path)
        return clip.json, clip.size
    gpt2 = read_gpt2_tokenizer(path)
    return gpt2.json, gpt2.size
