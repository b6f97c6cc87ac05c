"""A text encoder of any kind that is known here, from its folder, as the systems with a translator take it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..clip.published_tokenizer import read_clip_tokenizer
from ..clip.text_encoder import empty_text_encoder, text_encoder_load
from ..errors import read_all, refuse
from ..readers.loading import load_all_strictly
from .bert import BERT_KINDS, bert_tokenizer_json, read_bert
from .encoder_folder import check_model_type, encoder_settings, encoder_tensors, id_problems
from .t5 import T5_KINDS, read_t5, t5_tokenizer_json
from .xlmr import read_xlmr, xlmr_tokenizer_json

if TYPE_CHECKING:
    from transformers import CLIPTextModel, PreTrainedModel


@dataclass(frozen=True, slots=True)
class PromptEncoder:
    """A text encoder and the tokenizer of its prompts.

    `kind` is transformers' `model_type`. `model` maps input_ids and, where it `masks` the padding, attention_mask
    [B, T] to last_hidden_state [B, T, width]; ids are below `vocabulary`, and `pad_id` fills a window. T is at most
    `positions`, None where positions are relative and any T is right.
    """

    kind: str
    model: "PreTrainedModel"
    tokenizer_json: str
    width: int
    vocabulary: int
    pad_id: int
    positions: int | None
    masks: bool = True

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of what the encoder reads."""
        return ("input_ids", "attention_mask") if self.masks else ("input_ids",)

    @classmethod
    def of(cls, model: "PreTrainedModel", tokenizer_json: str, positions: int | None) -> "PromptEncoder":
        """The encoder with what its configuration says of it."""
        config = model.config
        return cls(
            config.model_type,
            model,
            tokenizer_json,
            config.hidden_size,
            config.vocab_size,
            config.pad_token_id,
            positions,
        )


def xlmr_prompt_encoder(model: "PreTrainedModel", tokenizer_json: str) -> PromptEncoder:
    """XLM-R or RoBERTa, whose positions are counted from behind the padding's id on."""
    config = model.config
    return PromptEncoder.of(model, tokenizer_json, config.max_position_embeddings - (config.pad_token_id or 0) - 1)


def read_prompt_encoder(path: str | Path) -> PromptEncoder:
    """The encoder of a folder in transformers' layout, chosen by the `model_type` of its config.json, eval, float32.

    Raises CheckpointError with the problems of the weights and of the tokenizer together, for a kind that is not known,
    and for a tokenizer of more ids than the encoder has embeddings.
    """
    path = Path(path)
    settings, source = encoder_settings(path)
    kind = check_model_type(settings, source, *ENCODER_KINDS)
    encoder = ENCODER_KINDS[kind](path)
    refuse(encoder_problems(encoder, str(path)))
    return encoder


def encoder_problems(encoder: PromptEncoder, source: str) -> list[str]:
    """One line for each way in which encoder and tokenizer do not fit; `source` names the folder."""
    problems = id_problems(encoder.tokenizer_json, encoder.vocabulary, source)
    if type(encoder.pad_id) is not int or not 0 <= encoder.pad_id < encoder.vocabulary:
        problems.append(
            f"{source}: expected config.json to name the padding's id (pad_token_id), got {encoder.pad_id!r}; fix: "
            "give the original file"
        )
    return problems


def _read(
    model: Callable[[Path], Any],
    tokenizer_json: Callable[[Path], str],
    made: Callable[[Any, str], PromptEncoder],
    path: Path,
) -> PromptEncoder:
    return made(*read_all(partial(model, path), partial(tokenizer_json, path)))


def _bert(model: "PreTrainedModel", tokenizer_json: str) -> PromptEncoder:
    if model.config.model_type == "roberta":
        return xlmr_prompt_encoder(model, tokenizer_json)
    return PromptEncoder.of(model, tokenizer_json, model.config.max_position_embeddings)


def _clip(path: Path) -> PromptEncoder:
    """CLIP's text encoder as Stable Diffusion reads it: behind its final LayerNorm, the padding unmasked."""
    settings, source = encoder_settings(path)

    def encoder() -> "CLIPTextModel":
        model = empty_text_encoder(settings, source)
        load_all_strictly([text_encoder_load(model, encoder_tensors(path), str(path))])
        return model

    model, tokenizer = read_all(encoder, partial(read_clip_tokenizer, path))
    config = model.config
    sizes = config.hidden_size, config.vocab_size, tokenizer.pad_id, config.max_position_embeddings
    return PromptEncoder("clip_text_model", model, tokenizer.json, *sizes, masks=False)


ENCODER_KINDS: dict[str, Callable[[Path], PromptEncoder]] = {
    "xlm-roberta": partial(_read, read_xlmr, xlmr_tokenizer_json, xlmr_prompt_encoder),
    **{kind: partial(_read, read_bert, bert_tokenizer_json, _bert) for kind in BERT_KINDS},
    **{
        kind: partial(_read, read_t5, t5_tokenizer_json, partial(PromptEncoder.of, positions=None)) for kind in T5_KINDS
    },
    "clip_text_model": _clip,
    "clip": _clip,
}
"""What reads a folder, by its `model_type`."""
