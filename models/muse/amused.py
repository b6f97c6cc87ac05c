"""aMUSEd (arXiv 2401.01808), the published model of Muse, from a folder in diffusers' layout."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..clip.projected_text import ProjectedText, projected_text_loads
from ..clip.published_tokenizer import PublishedTokenizer, read_clip_tokenizer
from ..clip.text_encoder import text_settings
from ..errors import read_all, refuse
from ..readers.loading import load_all_strictly
from ..readers.weights_folder import read_json, read_weights
from ..stable_diffusion.diffusers_config import STEMS, build_published, missing_parts, part_load
from .amused_settings import (
    PIPELINES,
    fit_problems,
    scheduler_problems,
    transformer_problems,
    vq_problems,
    with_defaults,
)

if TYPE_CHECKING:
    from diffusers.models.autoencoders.vq_model import VQModel
    from diffusers.models.unets.uvit_2d import UVit2DModel

WEIGHED = "transformer", "vqvae", "text_encoder"
"""The parts that have weights."""
CLASSES = {
    "text_encoder": ("CLIPTextModelWithProjection",),
    "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
    "transformer": ("UVit2DModel",),
    "vqvae": ("VQModel",),
    "scheduler": ("AmusedScheduler",),
}
"""The classes that a folder's index may name for a part."""
_OTHER = "fix: give a folder of aMUSEd, such as amused-256"


@dataclass(frozen=True, slots=True)
class Amused:
    """The parts of one checkpoint, in eval mode and float32.

    `transformer`: diffusers' UVit2DModel; `vq`: pictures of 0..1 to ids of its codebook and back. `mask_id` stands
    where nothing is drawn yet; `mask_schedule` is "cosine" or "linear".
    """

    transformer: "UVit2DModel"
    vq: "VQModel"
    text: ProjectedText
    tokenizer: PublishedTokenizer
    mask_id: int
    mask_schedule: str


def read_amused(folder: Path) -> Amused:
    """aMUSEd from its folder. Raises CheckpointError with every absent or damaged file, every unfit setting of every
    part, or every key that does not fit."""
    from diffusers.models.autoencoders.vq_model import VQModel
    from diffusers.models.unets.uvit_2d import UVit2DModel

    _require_files(folder)
    names = {part: folder / part / "config.json" for part in WEIGHED}
    names["scheduler"] = folder / "scheduler" / "scheduler_config.json"
    tokenizer, *read = read_all(
        lambda: read_clip_tokenizer(folder / "tokenizer"), *(partial(read_json, path) for path in names.values())
    )
    settings: dict[str, Mapping[str, Any]] = dict(zip(names, read, strict=True))
    transformer_settings = with_defaults(UVit2DModel, settings["transformer"])
    vq_settings = with_defaults(VQModel, settings["vqvae"])
    scheduler = {"masking_schedule": "cosine"} | dict(settings["scheduler"])
    transformer, vq, (text, loads), *_ = read_all(
        lambda: _built(UVit2DModel, transformer_settings, str(names["transformer"]), transformer_problems),
        lambda: _built(VQModel, vq_settings, str(names["vqvae"]), vq_problems),
        lambda: projected_text_loads(
            settings["text_encoder"],
            read_weights(folder / "text_encoder", *STEMS),
            str(names["text_encoder"]),
            str(folder / "text_encoder"),
        ),
        lambda: refuse(scheduler_problems(scheduler, str(names["scheduler"]))),
        lambda: refuse(_class_problems(folder / "model_index.json")),
    )
    text_half = text_settings(settings["text_encoder"])
    refuse(fit_problems(transformer_settings, vq_settings, scheduler, text_half, tokenizer, str(folder)))
    load_all_strictly([*loads, part_load(transformer, folder / "transformer"), part_load(vq, folder / "vqvae")])
    return Amused(transformer, vq, text, tokenizer, scheduler["mask_token_id"], scheduler["masking_schedule"])


def _built(
    kind: Any, settings: Mapping[str, Any], source: str, problems: Callable[[Mapping[str, Any], str], list[str]]
) -> Any:
    refuse(problems(settings, source))
    return build_published(kind, settings, source)


def _require_files(folder: Path) -> None:
    wanted = ["model_index.json", "scheduler/scheduler_config.json", *(f"{part}/config.json" for part in WEIGHED)]
    refuse(missing_parts(folder, wanted, WEIGHED, _OTHER))


def _class_problems(file: Path) -> list[str]:
    index = read_json(file)
    problems = []
    if index.get("_class_name") not in PIPELINES:
        problems.append(f"{file}: expected {PIPELINES[0]}, got {index.get('_class_name')!r}; {_OTHER}")
    for part, classes in CLASSES.items():
        named = index.get(part)
        kind = named[-1] if isinstance(named, list) and named else None
        if kind not in classes:
            problems.append(f"{file}: expected {part} of class {classes[0]}, got {kind!r}; {_OTHER}")
    return problems
