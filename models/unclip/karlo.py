"""Karlo (arXiv 2204.06125's unCLIP as kakaobrain published it) from folders in diffusers' layout.

One release draws from prompts, the other varies pictures; a folder may be either, or hold both.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..clip.projected_text import ProjectedText, projected_text_loads
from ..clip.published_tokenizer import PublishedTokenizer, read_clip_tokenizer
from ..clip.vision import read_clip_vision_projection
from ..errors import CheckpointError, read_all, refuse
from ..readers.loading import load_all_strictly
from ..readers.weights_folder import read_json, read_weights
from ..stable_diffusion.diffusers_config import STEMS, build_published, missing_parts, part_load
from .karlo_settings import (
    decoder_problems,
    image_problems,
    neighbour_problems,
    super_resolution_problems,
    unclip_scheduler_problems,
)

if TYPE_CHECKING:
    from diffusers.models.transformers.prior_transformer import PriorTransformer
    from diffusers.models.unets.unet_2d import UNet2DModel
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel
    from transformers import CLIPVisionModelWithProjection

NETS = "text_proj", "decoder", "super_res_first", "super_res_last"
"""The parts that every release has, beside the text encoder and the tokenizer."""
SCHEDULERS = "decoder_scheduler", "super_res_scheduler"
_OTHER = "fix: give a folder of Karlo, such as karlo-v1-alpha or karlo-v1-alpha-image-variations"


@dataclass(frozen=True, slots=True)
class Karlo:
    """The parts of one checkpoint, in eval mode and float32.

    `prior` imagines a picture's CLIP embedding from a prompt; `vision` makes it of a picture; one of them may be
    missing. `schedulers` are the settings of each process's scheduler by its name: prior, decoder, super_res.
    """

    text: ProjectedText
    tokenizer: PublishedTokenizer
    text_proj: "UnCLIPTextProjModel"
    decoder: "UNet2DConditionModel"
    super_res_first: "UNet2DModel"
    super_res_last: "UNet2DModel"
    schedulers: Mapping[str, Mapping[str, Any]]
    prior: "PriorTransformer | None" = None
    vision: "CLIPVisionModelWithProjection | None" = None


def read_karlo(folder: Path) -> Karlo:
    """Karlo from its folder. Raises CheckpointError with every absent file, unfit setting or key that does not fit."""
    has_prior, has_vision = ((folder / part).is_dir() for part in ("prior", "image_encoder"))
    _require(folder, has_prior, has_vision)
    weighed = [*NETS, *(["prior"] if has_prior else [])]
    kinds = net_classes()
    names = {part: folder / part / "config.json" for part in (*weighed, "text_encoder")}
    names |= {
        part: folder / part / "scheduler_config.json"
        for part in (*SCHEDULERS, *(["prior_scheduler"] if has_prior else []))
    }
    tokenizer, *read = read_all(
        lambda: read_clip_tokenizer(folder / "tokenizer"), *(partial(read_json, path) for path in names.values())
    )
    settings: dict[str, Mapping[str, Any]] = dict(zip(names, read, strict=True))
    problems = decoder_problems(settings["decoder"], str(names["decoder"]))
    for part in ("super_res_first", "super_res_last"):
        problems += super_resolution_problems(settings[part], str(names[part]))
    for part in (part for part in names if part.endswith("_scheduler")):
        problems += unclip_scheduler_problems(settings[part], str(names[part]), part == "decoder_scheduler")
    if has_vision and (folder / "feature_extractor" / "preprocessor_config.json").is_file():
        path = folder / "feature_extractor" / "preprocessor_config.json"
        problems += image_problems(read_json(path), str(path))
    refuse(problems)
    nets = read_all(*(partial(build_published, kinds[part], settings[part], str(names[part])) for part in weighed))
    built: dict[str, Any] = dict(zip(weighed, nets, strict=True))
    where = folder / "text_encoder"
    text, loads = projected_text_loads(
        settings["text_encoder"], read_weights(where, *STEMS), str(names["text_encoder"]), str(where)
    )
    vision = read_clip_vision_projection(folder / "image_encoder") if has_vision else None
    refuse(neighbour_problems(text, vision, built, tokenizer, str(folder)))
    # The prior's mask is made of its sizes, and no file has it.
    load_all_strictly(
        [*loads, *(part_load(net, folder / part, "causal_attention_mask") for part, net in built.items())]
    )
    schedulers = {part.removesuffix("_scheduler"): settings[part] for part in names if part.endswith("_scheduler")}
    return Karlo(text, tokenizer, **{part: built[part] for part in NETS}, schedulers=schedulers,
                 prior=built.get("prior"), vision=vision)  # fmt: skip


def net_classes() -> dict[str, Any]:
    """The class of each net by its part's name."""
    from diffusers.models.transformers.prior_transformer import PriorTransformer
    from diffusers.models.unets.unet_2d import UNet2DModel
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel

    return {
        "text_proj": UnCLIPTextProjModel,
        "decoder": UNet2DConditionModel,
        "super_res_first": UNet2DModel,
        "super_res_last": UNet2DModel,
        "prior": PriorTransformer,
    }


def _require(folder: Path, has_prior: bool, has_vision: bool) -> None:
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: expected a folder, got none there; {_OTHER}")
    weighed = [*NETS, "text_encoder", *(["prior"] if has_prior else []), *(["image_encoder"] if has_vision else [])]
    wanted = [f"{part}/config.json" for part in weighed]
    wanted += [f"{part}/scheduler_config.json" for part in (*SCHEDULERS, *(["prior_scheduler"] if has_prior else []))]
    problems = missing_parts(folder, wanted, weighed, _OTHER)
    if not has_prior and not has_vision:
        problems.append(f"{folder}: expected prior/ to draw from prompts, or image_encoder/ to vary pictures; {_OTHER}")
    refuse(problems)
