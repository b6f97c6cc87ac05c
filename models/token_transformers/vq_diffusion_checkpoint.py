"""A training checkpoint of VQ-Diffusion, and of those who share its code: the averaged weights of all its parts."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from ..clip.text_encoder import empty_text_encoder, text_encoder_load
from ..readers.loading import Load, build_module, load_all_strictly
from ..readers.tensors import common_size, read_section
from .vq_diffusion import TokenTransformer, TokenTransformerSettings
from .vq_diffusion_config import PromptSettings, VqDiffusionConfig

if TYPE_CHECKING:
    from transformers import CLIPTextModel


TRANSFORMER, TEXT, NULL_TEXT = "transformer.", "condition_emb.", "empty_text_embed"
"""Where the averaged weights have the transformer, CLIP's text encoder, and the vectors that stand for no text."""
CODEC = "content_codec."
NULL_CLASS = 1000
"""The class that stands for none. Models trained with it have a row of their own for it, whatever their configuration
says; of the others it is the mean of all rows."""
STEP_BUFFERS = ("log_at", "log_bt", "log_ct", "log_1_min_ct")
"""Buffers of the schedule with a number for each step."""
CUMULATIVE_BUFFERS = ("log_cumprod_at", "log_cumprod_bt", "log_cumprod_ct", "log_1_min_cumprod_ct")
"""Those with one more, for the clean state."""
# Statistics of the losses; causal masks of 4 MB a layer, which nothing reads.
EXTRAS = ("Lt_history", "Lt_count", f"{TRANSFORMER}blocks.*.attn*.mask")
WITH_AVERAGED = "give a checkpoint with averaged weights, with which alone the authors draw: *_pretrained.pth, last.pth"
HEAD_WIDTH = 64
"""Of CLIP's text encoders."""


@dataclass(frozen=True, slots=True)
class VqDiffusion:
    """Everything in float32 and eval mode.

    `text_encoder` is there where texts are read, whose vectors enter the transformer each divided by its norm;
    `null_text` [window, width] where vectors of training stand for no text. `schedule` holds the logarithms of the
    noise schedule by the names of STEP_BUFFERS, [steps], and CUMULATIVE_BUFFERS, [steps + 1].
    """

    transformer: TokenTransformer
    text_encoder: "CLIPTextModel | None"
    null_text: Tensor | None
    schedule: dict[str, Tensor]


def read_vq_diffusion(path: Path, config: VqDiffusionConfig, besides: tuple[str, ...] = ()) -> VqDiffusion:
    """The averaged weights, `ema`, of a training checkpoint; those under `model` are never looked at. `besides` are
    patterns of tensors that the caller reads itself.

    Raises CheckpointError for a checkpoint without them, and with every tensor that is missing, unknown or of another
    shape than the configuration's.
    """
    weights = read_section(path, "ema", WITH_AVERAGED)
    source = f"{path}, ema"
    settings = replace(config.transformer, class_rows=_class_rows(weights, config.transformer))
    transformer = build_module(lambda: TokenTransformer(settings), config.source)
    names = {key: TRANSFORMER + key for key in transformer.state_dict()}
    others = (*STEP_BUFFERS, *CUMULATIVE_BUFFERS, *((f"{TEXT}*", NULL_TEXT) if config.prompt else ()))
    loads = [Load(transformer, weights, source, (*EXTRAS, *others, *besides), names)]
    text_encoder, problems = None, _problems(weights, config, source)
    if config.prompt is not None:
        text = {key: value for key, value in weights.items() if key.startswith(TEXT)}
        if text:
            text_encoder = empty_text_encoder(_found_settings(text, config.prompt), config.source)
            loads.append(text_encoder_load(text_encoder, text, source))
        else:
            problems.append(
                f"{source}: expected CLIP's text encoder, {TEXT}*, got none; fix: give the whole checkpoint"
            )
    load_all_strictly(loads, problems)
    schedule = {name: weights[name].float() for name in (*STEP_BUFFERS, *CUMULATIVE_BUFFERS)}
    null_text = weights.get(NULL_TEXT)
    return VqDiffusion(transformer, text_encoder, None if null_text is None else null_text.float(), schedule)


def own_codec(path: Path) -> dict[str, Tensor]:
    """The codec's tensors in a training checkpoint, under the file's names; none where it was saved without them."""
    weights = read_section(path, "model", WITH_AVERAGED)
    return {key: value for key, value in weights.items() if key.startswith(CODEC)}


def _class_rows(weights: Mapping[str, Tensor], settings: TokenTransformerSettings) -> int | None:
    """Those of the configuration, or one for each class of ImageNet and one for none."""
    if settings.class_rows is None:
        return None
    found = common_size(weights, r"transformer\.blocks\.\d+\.ln2\.emb\.weight", 0)
    return found if found == NULL_CLASS + 1 else settings.class_rows


def clip_prompt_settings(prompt: PromptSettings, layers: int, inner: int) -> dict[str, int | str]:
    """transformers' settings of CLIP's text encoder, which OpenAI's file would say: so many layers, their MLPs `inner`
    wide."""
    return {
        "vocab_size": prompt.vocabulary,
        "hidden_size": prompt.width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": max(prompt.width // HEAD_WIDTH, 1),
        "max_position_embeddings": prompt.window,
        "hidden_act": "quick_gelu",
        "bos_token_id": prompt.vocabulary - 2,
        "eos_token_id": prompt.vocabulary - 1,
    }


def _found_settings(weights: Mapping[str, Tensor], prompt: PromptSettings) -> dict[str, int | str]:
    """Those of the encoder that the tensors are of."""
    layers = {key.split(".")[3] for key in weights if key.startswith(f"{TEXT}transformer.resblocks.")}
    inner = common_size(weights, r"condition_emb\.transformer\.resblocks\.\d+\.mlp\.c_fc\.weight", 0)
    return clip_prompt_settings(prompt, len(layers), inner)


def _problems(weights: Mapping[str, Tensor], config: VqDiffusionConfig, source: str) -> list[str]:
    """What is wrong with the schedule's buffers and the vectors for no text."""
    steps, prompt = config.transformer.steps, config.prompt
    expected = {name: [steps + (name in CUMULATIVE_BUFFERS)] for name in (*STEP_BUFFERS, *CUMULATIVE_BUFFERS)}
    if prompt is not None and (config.learned_null or NULL_TEXT in weights):
        expected[NULL_TEXT] = [prompt.window, prompt.width]
    return [
        f"{source}: expected {name} {shape}, got {list(weights[name].shape) if name in weights else 'none'}; "
        "fix: give the checkpoint, or the configuration, that belongs to it"
        for name, shape in expected.items()
        if name not in weights or list(weights[name].shape) != shape
    ]
