"""What of Karlo's configurations is drawn, and whether its parts fit one another."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..clip.projected_text import ProjectedText
from ..clip.published_tokenizer import PublishedTokenizer

if TYPE_CHECKING:
    from transformers import CLIPVisionModelWithProjection

Settings = Mapping[str, Any]
SCHEDULER: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "variance_type": "fixed_small_log",
    "clip_sample": True,
    "clip_sample_range": 1.0,
    "prediction_type": "epsilon",
    "beta_schedule": "squaredcos_cap_v2",
}
"""The settings of diffusers' UnCLIPScheduler with their defaults."""
PICTURES = {
    "resample": 3,
    "do_resize": True,
    "do_center_crop": True,
    "do_normalize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
"""How CLIP's pictures are made ready."""


def decoder_problems(settings: Settings, source: str) -> list[str]:
    """Settings of the decoder by which it is not the network that is drawn here."""
    wanted = {"class_embed_type": "identity", "in_channels": 3, "out_channels": 6, "center_input_sample": False}
    absent = {"addition_embed_type": None, "encoder_hid_dim": None, "time_cond_proj_dim": None}
    return (
        _others(settings, wanted, source) + _others(settings, absent, source, optional=True) + _size(settings, source)
    )


def super_resolution_problems(settings: Settings, source: str) -> list[str]:
    """Settings of a network of the super resolution by which it is not the one that is drawn here."""
    wanted = {"in_channels": 6, "out_channels": 3}
    absent = {"class_embed_type": None, "center_input_sample": False}
    found = _others(settings, wanted, source) + _others(settings, absent, source, optional=True)
    # The last step's network has no size of its own in one of the releases.
    return found + (_size(settings, source) if settings.get("sample_size") is not None else [])


def unclip_scheduler_problems(settings: Settings, source: str, learned: bool) -> list[str]:
    """Settings of a scheduler that no sampler here has; the decoder's variance is `learned`."""
    if settings.get("_class_name") != "UnCLIPScheduler":
        return [
            f"{source}: expected UnCLIPScheduler, got {settings.get('_class_name')!r:.60}; fix: give it as published"
        ]
    given = {key: value for key, value in settings.items() if not key.startswith("_")}
    found = [f"{source}: expected no setting {key}, got {given[key]!r:.60}" for key in given.keys() - SCHEDULER.keys()]
    values = SCHEDULER | given
    kinds: dict[str, Any] = {"num_train_timesteps": int, "clip_sample_range": int | float, "clip_sample": bool}
    found += [
        f"{source}: expected {key} as a number, got {values[key]!r:.60}"
        for key, kind in kinds.items()
        if not isinstance(values[key], kind) or (key != "clip_sample" and not 0 < values[key] <= 10**5)
    ]
    choices: dict[str, tuple[str, ...]] = {
        "variance_type": ("learned_range",) if learned else ("fixed_small_log",),
        "prediction_type": ("epsilon", "sample"),
        "beta_schedule": ("squaredcos_cap_v2",),
    }
    found += [
        f"{source}: expected {key} {' or '.join(known)}, got {values[key]!r:.60}"
        for key, known in choices.items()
        if values[key] not in known
    ]
    return found


def image_problems(settings: Settings, source: str) -> list[str]:
    """Ways of making pictures ready that are not CLIP's own."""
    return _others(settings, PICTURES, source, optional=True)


def neighbour_problems(
    text: ProjectedText,
    vision: "CLIPVisionModelWithProjection | None",
    nets: Mapping[str, Any],
    tokenizer: PublishedTokenizer,
    source: str,
) -> list[str]:
    """Widths and sizes of parts that do not fit their neighbours'."""
    projection, decoder, first = nets["text_proj"].config, nets["decoder"].config, nets["super_res_first"].config
    width, window = text.config.projection_dim, text.config.max_position_embeddings
    hidden = text.config.hidden_size
    wanted = {
        "text_proj: clip_embeddings_dim": (projection.clip_embeddings_dim, width),
        "text_encoder: hidden_size": (hidden, projection.clip_embeddings_dim),
        "decoder: cross_attention_dim": (decoder.cross_attention_dim, projection.cross_attention_dim),
        "decoder: 4 times its first width": (4 * decoder.block_out_channels[0], projection.time_embed_dim),
    }
    if vision is not None:
        wanted["image_encoder: projection_dim"] = (vision.config.projection_dim, width)
    if "prior" in nets:
        prior = nets["prior"].config
        wanted["prior: embedding_dim"] = (prior.embedding_dim, width)
        wanted["prior: num_embeddings"] = (prior.num_embeddings, window)
    found = [
        f"{source}: expected {what} {expected}, as its neighbour has it, got {got}; fix: give the parts of one release"
        for what, (got, expected) in wanted.items()
        if got != expected
    ]
    if tokenizer.window not in (None, window):
        found.append(f"{source}: expected a tokenizer of {window} tokens, got {tokenizer.window}")
    if first.sample_size is None:
        found.append(f"{source}: expected sample_size in super_res_first/config.json, which is the picture's, got none")
    return found


def _others(settings: Settings, wanted: Settings, source: str, optional: bool = False) -> list[str]:
    return [
        f"{source}: expected {key} {value!r}, got {settings.get(key)!r:.60}; fix: give a folder of Karlo"
        for key, value in wanted.items()
        if settings.get(key) != value and not (optional and settings.get(key) is None)
    ]


def _size(settings: Settings, source: str) -> list[str]:
    size = settings.get("sample_size")
    if isinstance(size, int) and not isinstance(size, bool) and 1 <= size <= 4096:
        return []
    return [f"{source}: expected sample_size as a number of pixels, got {size!r:.60}; fix: give a folder of Karlo"]
