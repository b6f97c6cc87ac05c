"""BERT and RoBERTa as plain encoders, from a folder of either published layout, and their tokenizer."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CheckpointError
from ..readers.loading import build_module, load_strictly
from ..readers.tokenizer_json import read_tokenizer, to_tokenizer_json
from .encoder_folder import check_model_type, encoder_settings, encoder_tensors

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BERT_KINDS = ("bert", "roberta")
BERT_EXTRAS = ("cls.*", "lm_head.*", "*pooler.*", "*embeddings.position_ids", "*embeddings.token_type_ids")
"""What published files hold beside the encoder: the heads of its training, its pooler, and buffers."""
OLD_NORM = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
"""BERT's first release has TensorFlow's names."""


def read_bert(path: str | Path) -> "PreTrainedModel":
    """The encoder without its pooler, eval, float32: (input_ids, attention_mask) [B, T] -> last_hidden_state [B, T,
    width], of texts that are one segment.

    `path` is a folder, prefix-free or as the hub's masked language model (`bert.` or `roberta.`, whose head is
    dropped). Raises CheckpointError.
    """
    path = Path(path)
    settings, source = encoder_settings(path)
    kind = check_model_type(settings, source, *BERT_KINDS)
    tensors = {re.sub("|".join(OLD_NORM), _new_norm, key): value for key, value in encoder_tensors(path).items()}
    model = build_module(lambda: _bert_of(settings), source)
    prefix = f"{kind}." if any(key.startswith(f"{kind}.") for key in tensors) else ""
    names = {key: prefix + key for key in model.state_dict()}
    load_strictly(model, tensors, source=str(path), ignore=BERT_EXTRAS, names=names)
    return model


def bert_tokenizer_json(folder: str | Path) -> str:
    """The `tokenizers` serialization in the folder's tokenizer.json, without truncation and padding. Raises
    CheckpointError."""
    saved = Path(folder) / "tokenizer.json"
    if not saved.is_file():
        raise CheckpointError(
            f"{saved}: expected the encoder's tokenizer.json, got nothing; fix: let transformers save its tokenizer "
            "there, which writes one"
        )
    return to_tokenizer_json(read_tokenizer(saved))


def _bert_of(settings: dict[str, Any]) -> "PreTrainedModel":
    import transformers

    if settings["model_type"] == "bert":
        return transformers.BertModel(transformers.BertConfig.from_dict(settings), add_pooling_layer=False)
    return transformers.RobertaModel(transformers.RobertaConfig.from_dict(settings), add_pooling_layer=False)


def _new_norm(found: re.Match[str]) -> str:
    return OLD_NORM[found[0]]
