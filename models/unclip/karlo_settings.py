"""What of Karlo's configurations is drawn, and whether its parts fit one another."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..clip.projected_text import ProjectedText
from ..clip.published_tokenizer import PublishedTokenizer
from ..readers.config_reader import ConfigReader

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
MOST_SIDE = 4096
MOST_VALUE = 10**5
"""Of a scheduler's timesteps, and of the range that it clips to."""


def decoder_problems(settings: Settings, source: str) -> list[str]:
    """Settings of the decoder by which it is not the network that is drawn here."""
    read = _reader(settings, source)
    wanted = {"class_embed_type": "identity", "in_channels": 3, "out_channels": 6}
    for key, value in wanted.items():
        read.only(key, value, absent=None)
    for key in ("addition_embed_type", "encoder_hid_dim", "time_cond_proj_dim"):
        read.only(key, None, absent=None)
    read.only("center_input_sample", False, absent=False)
    _check_side(read)
    return read.problems


def super_resolution_problems(settings: Settings, source: str) -> list[str]:
    """Settings of a network of the super resolution by which it is not the one that is drawn here."""
    read = _reader(settings, source)
    for key, value in {"in_channels": 6, "out_channels": 3, "class_embed_type": None}.items():
        read.only(key, value, absent=None)
    read.only("center_input_sample", False, absent=False)
    # The last step's network has no size of its own in one of the releases.
    if read.raw("sample_size") is not None:
        _check_side(read)
    return read.problems


def unclip_scheduler_problems(settings: Settings, source: str, learned: bool) -> list[str]:
    """Settings of a scheduler that no sampler here has; the decoder's variance is `learned`."""
    read = _reader(SCHEDULER | dict(settings), source)
    read.only("_class_name", "UnCLIPScheduler", absent=None)
    if read.problems:
        return read.problems
    read.only("variance_type", "learned_range" if learned else "fixed_small_log", absent=None)
    read.only("prediction_type", "epsilon", "sample", absent=None)
    read.only("beta_schedule", "squaredcos_cap_v2", absent=None)
    read.only("clip_sample", True, False, absent=None)
    sizes = {"num_train_timesteps": read.count, "clip_sample_range": read.number}
    for key, size in sizes.items():
        if size(key) > MOST_VALUE:
            read.note(f"{key} of at most {MOST_VALUE}", settings[key])
    read.skip(*(key for key in settings if key.startswith("_")))
    read.close()
    return read.problems


def image_problems(settings: Settings, source: str) -> list[str]:
    """Ways of making pictures ready that are not CLIP's own."""
    read = _reader(settings, source)
    for key, value in PICTURES.items():
        read.only(key, value, absent=value)
    return read.problems


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


def _reader(settings: Settings, source: str) -> ConfigReader:
    return ConfigReader(settings, source, model="Karlo")


def _check_side(read: ConfigReader) -> None:
    """A picture's height and width in one number."""
    if (side := read.count("sample_size")) > MOST_SIDE:
        read.note(f"sample_size of at most {MOST_SIDE} pixels", side)
